"""The trials one by one: a table that can be sorted and searched, and when each of them trained."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.findings import Findings
from analysis.plots.picture import Sheet, collect, named
from analysis.plots.timeline import timeline

__all__ = ["build_trials"]


def build_trials(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return replace(collect(all_found, timeline), trials=tuple(named(all_found)))
