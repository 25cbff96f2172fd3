"""Findings as text, Markdown, JSON and CSV."""
