"""How often Python looks for garbage in a process that imports torch and Ray."""

import atexit
import gc

__all__ = ["look_for_garbage_seldom"]


def look_for_garbage_seldom() -> None:
    """Have a process start and end sooner, by two to three seconds on a slow core.

    torch, Ray and plotly make objects by the hundred thousand that live as long as the program: Python's collector
    goes through them again and again while they are imported, and once more at the end, when all memory is given back
    anyway.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
