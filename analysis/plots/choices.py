"""What of the pages depends on which runs are looked at together: verdicts, and pictures that hold several runs.

p is corrected over all comparisons that a reader looks at, so whoever looks at two of four runs has other p values.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.cards import Card
from analysis.findings import Findings, together
from analysis.plots.controls import control_lines
from analysis.plots.overview import card, differences
from analysis.plots.picture import NamedRun, Picture, Table, named
from analysis.plots.tables import verdict_table

__all__ = ["Choice", "choices_of", "chosen"]

_MOST_RUNS = 5  # of which every choice is offered, 31 of them; of more, all or one


@dataclass(frozen=True)
class Choice:
    """A choice of runs, and what is to be seen of it.

    Args:
        places: of the runs among all, from 0.
        cards: of each of them.
        paired: verdicts against other losses, None without any.
        controls: verdicts against controls, None without any.
        control_lines: what the controls say.
        differences: the picture of the overview, None where nothing was tested.
    """

    places: tuple[int, ...]
    cards: tuple[Card, ...]
    paired: Table | None
    controls: Table | None
    control_lines: tuple[str, ...]
    differences: Picture | None


def choices_of(all_found: Sequence[Findings]) -> Iterator[Choice]:
    """Yield what is to be seen of every choice of runs that is offered, all of them first."""
    count = len(all_found)
    yield _choice(all_found, tuple(range(count)))
    sizes = range(count - 1, 0, -1) if count <= _MOST_RUNS else [1]
    for size in sizes:
        for places in itertools.combinations(range(count), size):
            yield _choice(all_found, places)


def chosen(all_found: Sequence[Findings], places: Sequence[int]) -> list[NamedRun]:
    """Return some of the runs, judged together, with the names that they have among all."""
    names = named(all_found)
    found = together([all_found[place] for place in places])
    return [replace(names[place], found=one) for place, one in zip(places, found, strict=True)]


def _choice(all_found: Sequence[Findings], places: tuple[int, ...]) -> Choice:
    runs = chosen(all_found, places)
    return Choice(
        places,
        tuple(card(run) for run in runs),
        verdict_table(runs, "primary", "baseline"),
        verdict_table(runs, "control"),
        control_lines(runs),
        differences(runs),
    )
