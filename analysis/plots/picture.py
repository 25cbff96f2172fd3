"""What a page is made of: pictures with a title and a caption, tables, statements, and notes on what is not there."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from analysis.arms import Look, looks_of
from analysis.cards import Card
from analysis.findings import Findings
from analysis.loading import Run

__all__ = [
    "NamedRun",
    "Page",
    "PassingNote",
    "Picture",
    "Sheet",
    "Table",
    "collect",
    "download_name",
    "labels",
    "named",
    "plain",
    "slug",
]


@dataclass(frozen=True)
class Picture:
    """A figure as a paper would have it.

    Args:
        key: unique within a page and stable while a run grows; letters, digits and hyphens.
        title: plain text.
        caption: plain text; what to see.
        figure: with a height and no width.
        wide: wants the whole width of the page.
        run: slug of the run that it shows, "" where it shows several.
        arm: that it shows, "" where it shows several.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    wide: bool = False
    run: str = ""
    arm: str = ""


@dataclass(frozen=True)
class Table:
    """Plain texts in rows; the first column names the row.

    Args:
        key: unique within a page.
        title: above it.
        caption: below it.
        columns: heads.
        rows: as many cells each.
        texts: whether cells are words, read from the left, and not numbers.
        runs: slug of the run of each row, () where rows are not of runs.
        arms: that each row is about, likewise.
    """

    key: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: bool = False
    runs: tuple[str, ...] = ()
    arms: tuple[tuple[str, ...], ...] = ()


class PassingNote(str):
    """A note on what may be there later, although nothing in the run's folder changes."""


@dataclass(frozen=True)
class Sheet:
    """What a page shows, from top to bottom.

    Args:
        lines: statements.
        pictures: that can be drawn from what is there.
        tables: of what a picture would not show better.
        notes: a sentence for each picture that cannot, saying why.
        cards: runs at a glance, above everything else.
        trials: of each run, by its name and slug, for a table that can be sorted and searched.
    """

    lines: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    trials: "tuple[NamedRun, ...]" = ()


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Args:
        key: for ids and addresses.
        title: for the navigation.
        build: makes the page from what the runs show.
    """

    key: str
    title: str
    build: Callable[[Sequence[Findings]], Sheet]


@dataclass(frozen=True)
class NamedRun:
    """A run with the names that it has on the page.

    Args:
        found: what it shows.
        label: plain text: the data set, with the run's folder where two runs have the same data set.
        slug: the same for keys.
        prefix: the label and a colon before statements, nothing for a run that stands alone.
        looks: of all arms on the page, so that one looks the same for each of its runs.
    """

    found: Findings
    label: str
    slug: str
    prefix: str
    looks: Mapping[str, Look]

    @property
    def run(self) -> Run:
        """The records."""
        return self.found.run

    def look(self, arm: str) -> Look:
        """Return how a loss or a control is drawn."""
        return self.looks[arm]


def named(all_found: Sequence[Findings]) -> list[NamedRun]:
    """Name runs as :func:`labels` does, and give each arm of theirs a look."""
    runs = [found.run for found in all_found]
    # Losses first: they are known from the beginning, and keep their looks when other arms come.
    looks = looks_of([*(loss for run in runs for loss in run.losses), *(arm for run in runs for arm in run.all_arms)])
    return [
        NamedRun(found, label, slug(label), f"{label}: " if len(runs) > 1 else "", looks)
        for found, label in zip(all_found, labels(runs), strict=True)
    ]


def labels(runs: Sequence[Run]) -> list[str]:
    """Name runs by data set, by folder where that is not enough, and by number where that is not either."""
    datasets = [plain(re.split(r"[/\\]", run.dataset.rstrip("/\\"))[-1]) for run in runs]
    found: list[str] = []
    for run, dataset in zip(runs, datasets, strict=True):
        label = dataset if datasets.count(dataset) == 1 else f"{dataset}, {plain(run.folder.resolve().name)}"
        taken = set(map(slug, found))
        numbered = (label, *(f"{label} ({number})" for number in range(2, len(runs) + 1)))
        found.append(next(name for name in numbered if slug(name) not in taken))
    return found


def collect(all_found: Sequence[Findings], *makers: Callable[[NamedRun], Iterable[Picture | str]]) -> Sheet:
    """Let each maker draw each run; texts among what they yield are notes."""
    parts = [
        replace(part, run=run.slug) if isinstance(part, Picture) else part
        for run in named(all_found)
        for make in makers
        for part in make(run)
    ]
    notes = dict.fromkeys(part for part in parts if isinstance(part, str))  # each once, in order
    return Sheet(pictures=tuple(part for part in parts if isinstance(part, Picture)), notes=tuple(notes))


def plain(text: object, limit: int = 60) -> str:
    """Return a name from a file as one short line of printable text."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def slug(*parts: str) -> str:
    """Return a key for ids and file names."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") or "unnamed"


def download_name(picture: Picture) -> str:
    """Return the base name of a downloaded file."""
    return picture.key[:100]
