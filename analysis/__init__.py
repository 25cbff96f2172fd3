"""Reads what a run wrote; never imports Ray or torch.

In a notebook::

    import analysis

    runs = analysis.load("results/NAME")

:func:`analysis.runs.load` says what there is then. Nothing is imported before it is asked for: the commands beside this
file answer a wrong call at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.runs import Runs, load

__all__ = ["Runs", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("analysis.runs"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
