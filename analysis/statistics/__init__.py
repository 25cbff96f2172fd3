"""What the records show: pure functions from loaded runs to numbers and verdicts."""
