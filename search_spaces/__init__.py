"""Search spaces, one file a loss."""
