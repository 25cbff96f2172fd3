"""From a finished search to numbers that can be compared."""
