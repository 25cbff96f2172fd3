"""Style sheets and scripts of the pages, as files: what a browser gets of them is the text that is here."""

from functools import lru_cache
from pathlib import Path

__all__ = ["asset"]


@lru_cache
def asset(name: str) -> str:
    """Return the text of a style sheet or a script of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
