"""How numbers are written for people: the same everywhere."""

import math
from collections.abc import Iterable

from analysis.statistics.stats import Interval

__all__ = ["duration", "interval_pp", "listed", "p_value", "percent", "points"]


def percent(share: float) -> str:
    """Return a share as ``98.77 %``."""
    return f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """Return a difference of shares as ``+0.31``, in percentage points."""
    return f"{round(100 * difference, 2) + 0.0:+.2f}"


def interval_pp(interval: Interval | None) -> str:
    """Return an interval of differences of shares as ``[0.12, 0.50]``, in percentage points; empty for none."""
    if interval is None:
        return ""
    low, high = (round(100 * end, 2) + 0.0 for end in (interval.low, interval.high))
    return f"[{low:.2f}, {high:.2f}]"


def p_value(p: float) -> str:
    """Return p with three decimals, or ``<0.001``."""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 99.5:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def listed(items: Iterable[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
