"""Lets Ray run trials: thin adaptors over the study protocol."""
