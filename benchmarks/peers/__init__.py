"""The product beside the two recipes that a user would otherwise write."""
