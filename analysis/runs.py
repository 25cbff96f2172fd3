"""Runs in a notebook: their records and their statistics as tables, the verdicts, the pictures of the pages.

::

    import analysis

    runs = analysis.load("results/NAME")  # or several, such as those of other data sets
    runs                                  # says what there is
    runs.verdict_table                    # a table of pandas, as runs.trials, runs.epochs, ...
    runs.describe("verdict_table")        # its columns, with units
    runs.figures["overview/..."]          # a picture of plotly
"""

import difflib
import html
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.findings import Findings, findings
from analysis.folders import check_each_once
from analysis.frames import FRAMES, correct_images, frame
from analysis.loading import Run, load_run
from analysis.statistics.verdict import Verdict
from tune.console import printable
from tune.records import RecordError

if TYPE_CHECKING:  # what draws is loaded once there is something to draw
    import plotly.graph_objects as go

    from analysis.plots import Page, Sheet

__all__ = ["Figures", "Runs", "load"]


def load(*folders: str | PathLike[str], reference: str | None = None) -> "Runs":
    """Read one run or several, which are then looked at together.

    A run may be under way, or a search alone: what it does not have yet is empty. What it writes later is seen by
    loading it again.

    Args:
        folders: of the runs, such as ``results/NAME``.
        reference: the loss that the others are held against in all of them; None for each run's own.

    Raises:
        RecordError: a folder holds no run, or a damaged one, or is given twice, or its run does not have the reference.
    """
    if not folders:
        raise RecordError("no run: give the folder of one, such as results/NAME")
    paths = [Path(folder) for folder in folders]
    check_each_once(paths)
    return Runs([load_run(path).against(reference) for path in paths])


class Figures(Mapping[str, "go.Figure"]):
    """The pictures of the pages, by page and key, such as ``curves/curves-digits-all``.

    A page is drawn when one of its pictures is asked for; to go through all takes seconds.

    Args:
        runs: whose pictures they are.
    """

    def __init__(self, runs: "Runs") -> None:
        self._runs = runs

    def __repr__(self) -> str:
        return f"Figures({list(self)})"

    def __getitem__(self, key: str) -> "go.Figure":
        page, _, picture = key.partition("/")
        if page in _pages():
            for drawn in self._runs.page(page).pictures:
                if drawn.key == picture:
                    return drawn.figure
        near = difflib.get_close_matches(key, list(self), n=1)
        raise KeyError(f"{key}{f' (did you mean {near[0]}?)' if near else ''}; list(runs.figures) has all")

    def __iter__(self) -> Iterator[str]:
        for page in _pages():
            yield from (f"{page}/{picture.key}" for picture in self._runs.page(page).pictures)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Runs:
    """One run or several that are looked at together: p values are corrected over all of them.

    The tables have the columns that :meth:`describe` lists, whatever a run has. Accuracies and differences are
    fractions, margins radians, times seconds. All of them begin with ``run`` and ``dataset``.

    Args:
        records: of the runs.
    """

    def __init__(self, records: Sequence[Run]) -> None:
        self.records = tuple(records)
        self._sheets: dict[str, Sheet] = {}

    # --- Tables ------------------------------------------------------------------------------------------------------

    @cached_property
    def search(self) -> pd.DataFrame:
        """A row a loss: what its search came to."""
        return self._frame("search")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial of the search."""
        return self._frame("trials")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row an epoch of a trial of the search."""
        return self._frame("epochs")

    @cached_property
    def confirmation_runs(self) -> pd.DataFrame:
        """A row a training run of the confirmation; what the report says rests on those that are ``counted``."""
        return self._frame("confirmation_runs")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row an epoch of such a run."""
        return self._frame("curves")

    @cached_property
    def class_accuracies(self) -> pd.DataFrame:
        """A row a class in such a run that read the test split."""
        return self._frame("class_accuracies")

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """A row an arm on the paired seeds."""
        return self._frame("accuracies")

    @cached_property
    def verdict_table(self) -> pd.DataFrame:
        """A row a comparison."""
        return self._frame("verdict_table")

    @cached_property
    def differences(self) -> pd.DataFrame:
        """A row a common seed of a comparison."""
        return self._frame("differences")

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """A row a number of the report: speed of learning, random draws, what was spent, and all of the above."""
        return self._frame("statistics")

    def _frame(self, name: str) -> pd.DataFrame:
        return frame(name, self.records, lambda: self.findings)

    def correct_images(self, role: str = "winner", run: str | PathLike[str] | None = None) -> pd.DataFrame:
        """Return which test images the runs of the confirmation got right, as truth values.

        A row a run, by ``arm`` and ``pair``; a column a test image, by its number from 0, in the order of the data set.
        Runs that failed are not there, nor are those of versions that recorded no images, nor those not ``counted``.

        Args:
            role: winner, untuned or control.
            run: which of several, by its folder, the folder's name, or its data set where no other run has the same.

        Raises:
            RecordError: there are several runs and none is named, or none of this name; or its records are damaged.
        """
        return correct_images(self._one(run), role)

    def _one(self, name: str | PathLike[str] | None) -> Run:
        if name is None and len(self.records) == 1:
            return self.records[0]
        for known in (
            [str(run.folder) for run in self.records],
            [run.folder.resolve().name for run in self.records],
            [run.dataset for run in self.records],
        ):
            if known.count(str(name)) == 1:
                return self.records[known.index(str(name))]
        asked = "several runs: name one of them" if name is None else f"{name}: not one of the runs"
        raise RecordError(f"{asked}, {', '.join(str(run.folder) for run in self.records)}")

    @staticmethod
    def describe(name: str | None = None) -> pd.DataFrame:
        """Return what the tables hold: a row a table, or a row a column of the table that is named.

        Raises:
            KeyError: there is no such table.
        """
        if name is None:
            about = {key: [known.about, len(known.all_columns)] for key, known in FRAMES.items()}
            return pd.DataFrame.from_dict(about, orient="index", columns=["a row is", "columns"])
        if name not in FRAMES:
            raise KeyError(f"{name}: no table; there are {', '.join(FRAMES)}")
        columns = {column.name: [column.dtype, column.meaning] for column in FRAMES[name].all_columns}
        return pd.DataFrame.from_dict(columns, orient="index", columns=["dtype", "meaning"])

    # --- What they show ----------------------------------------------------------------------------------------------

    @cached_property
    def findings(self) -> tuple[Findings, ...]:
        """What each run shows, as objects: all that the report says, see :class:`analysis.findings.Findings`."""
        return tuple(findings(self.records))

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The comparisons as objects, see :class:`analysis.statistics.verdict.Verdict`; the primary ones first."""
        return tuple(verdict for found in self.findings for verdict in found.verdicts)

    def report(self) -> str:
        """Return what ``analysis/compare.py`` says of the runs."""
        from analysis.compare import comparison_text

        return comparison_text(self.findings)

    # --- Pictures ----------------------------------------------------------------------------------------------------

    @property
    def figures(self) -> Figures:
        """The pictures of the pages, by page and key: ``list(runs.figures)``."""
        return Figures(self)

    def page(self, key: str) -> "Sheet":
        """Return a page: its statements, pictures with captions, tables, and notes on what could not be drawn.

        Args:
            key: overview, curves, margins, search, parameters, paired, controls, robustness, embeddings or confusion.

        Raises:
            KeyError: there is no such page.
        """
        pages = _pages()
        if key not in pages:
            raise KeyError(f"{key}: no page; there are {', '.join(pages)}")
        if key not in self._sheets:
            self._sheets[key] = pages[key].build(self.findings)
        return self._sheets[key]

    # --- As a notebook shows them ------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return "\n".join(["Runs", *(f"  {line}" for found in self.findings for line in _lines(found))])

    def _repr_html_(self) -> str:
        """Return what a notebook shows; texts from files are escaped."""
        runs = "".join(
            f"<p><b>{html.escape(first)}</b></p><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in rest)}</ul>"
            for first, *rest in map(_lines, self.findings)
        )
        return f"<div>{runs}<p>Tables: {', '.join(FRAMES)}; <code>describe()</code> says more.</p></div>"


def _pages() -> "dict[str, Page]":
    with warnings.catch_warnings():
        # In a notebook Optuna's progress bars, of which none is shown, miss what they are drawn with.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from analysis.plots import PAGES

    return {page.key: page for page in PAGES}


def _lines(found: Findings) -> list[str]:
    run = found.run
    lines = [
        f"{run.dataset}: {', '.join(run.losses)}, {run.folder}",
        f"{len(run.trials):,} trials, {len(run.seed_runs):,} runs of the confirmation",
    ]
    if not found.verdicts:
        lines.append("no verdict: its confirmation has no paired seeds yet")
    lines += [verdict.sentence for verdict in found.main_verdicts or found.verdicts]
    return [printable(line) for line in lines]
