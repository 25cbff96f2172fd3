"""Reads what a run wrote; never imports Ray or torch."""
