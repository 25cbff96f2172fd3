"""What the live page looks at: followed runs, the choices of them that browsers make, and the pages in view."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dash import html

from analysis.findings import Findings, findings, together
from analysis.live.blocks import Block, blocks_of, digest, head_of
from analysis.live.follow import FollowedRun, runs_in
from analysis.live.grid import GridRows, detail_component, rows_of
from analysis.live.state import state_of
from analysis.loading import Run
from analysis.plots import Page, Sheet
from analysis.plots.picture import NamedRun, PassingNote, labels, named
from analysis.plots.style import arm_name, shown

__all__ = ["Look", "Runs"]

_LOG = logging.getLogger(__name__)
_PASSING_S = 15.0  # a page that lacks what may come without a new record is drawn again so often
_MOST_TABLES = 64  # of trials, one for each choice of runs, whose changes are kept


@dataclass(frozen=True)
class Look:
    """What there is to see at a moment.

    Args:
        version: of the records and the choice; the part before the last hyphen is that of the choice.
        blocks: of the page.
        head: where the runs stand.
        problems: with them.
        choices: of runs and losses, as JSON.
        detail: of the trial that is open.
    """

    version: str
    blocks: list[Block]
    head: list[Any]
    problems: list[Any]
    choices: str
    detail: list[Any]


@dataclass(frozen=True)
class _View:
    """Runs that are looked at together.

    Args:
        key: of this choice of runs.
        runs: judged together.
        rows: of their table of trials, kept from change to change.
        blocks: of the pages that were looked at since the last change.
        stale: when to draw a page again that lacks what may have come meanwhile.
    """

    key: str
    runs: list[NamedRun]
    rows: GridRows
    blocks: dict[str, list[Block]]
    stale: dict[str, float]


class Runs:
    """The followed runs and the page in view, shared by all browsers that look.

    Args:
        folders: of the runs, or that hold runs.
        interval_s: browsers that ask in quick succession make it look at the files once.
        reference: the loss that the others are held against in runs that have it; None for each run's own.
    """

    def __init__(self, folders: Iterable[Path], interval_s: float, reference: str | None = None) -> None:
        self._folders = list(folders)
        self._reference = reference
        self._followed: list[FollowedRun] = []
        self._interval_s = interval_s
        self._looked = -float("inf")
        self._lock = threading.Lock()
        self._start = secrets.token_hex(4)  # a browser that outlives the server has something of another one
        self._changes = 0
        self._found: list[NamedRun] | None = None  # computed once a change, whatever pages are looked at
        self._earlier: list[Findings] = []  # of the last change
        self._broken: str | None = None  # why nothing could be computed
        self._views: dict[tuple[int, ...], _View] = {}  # by the places of the runs that are chosen
        self._rows: dict[str, GridRows] = {}

    def look(self, page: Page, left_out: frozenset[str] = frozenset(), opened: str | None = None) -> "Look":
        """Return what there is to see.

        Args:
            page: in view.
            left_out: names of runs that are not to be seen, nor judged with the others; unknown ones are ignored.
            opened: trial whose details are to be seen, as the table names it.
        """
        with self._lock:
            if time.monotonic() - self._looked > self._interval_s / 2:
                others = self._follow_what_is_there()
                changed = [followed.update() for followed in self._followed]  # all of them, whatever the first says
                if others or any(changed):
                    self._changes += 1
                    self._found = None
                    self._views.clear()
                self._looked = time.monotonic()
            view = self._view(left_out)
            if page.key in view.blocks and time.monotonic() >= view.stale.get(page.key, float("inf")):
                del view.blocks[page.key]
                self._changes += 1
            if page.key not in view.blocks:
                view.blocks[page.key] = self._built(page, view)
            return Look(
                f"{self._start}-{view.key}-{self._changes}",
                view.blocks[page.key],
                self._head(),
                self._problems(),
                self._choices(),
                detail_component(view.runs, opened) if page.key == "trials" and opened else [],
            )

    def _view(self, left_out: frozenset[str]) -> "_View":
        """Return the runs that are looked at together, judged once a change."""
        names = self._all()
        chosen = tuple(place for place, run in enumerate(names) if run.slug not in left_out)
        chosen = chosen or tuple(range(len(names)))
        if chosen not in self._views:
            runs = names
            if len(chosen) < len(names):
                found = together([names[place].found for place in chosen])
                runs = [replace(names[place], found=one) for place, one in zip(chosen, found, strict=True)]
            key = digest([run.slug for run in runs])
            if key not in self._rows and len(self._rows) >= _MOST_TABLES:
                self._rows.clear()  # browsers that have one of them get it whole once more
                self._start = secrets.token_hex(4)
            self._views[chosen] = _View(key, runs, self._rows.setdefault(key, GridRows()), {}, {})
        return self._views[chosen]

    def _all(self) -> list[NamedRun]:
        runs = [followed.run for followed in self._followed if followed.run is not None]
        if self._found is None:
            self._broken = None
            try:
                asked = [self._as_asked(run) for run in runs]
                self._found = named(findings(asked, self._earlier)) if runs else []
                self._earlier = [one.found for one in self._found]
            except Exception as error:  # noqa: BLE001  the head still says where the runs stand
                _LOG.exception("the runs cannot be compared")
                self._found, self._broken = [], f"{type(error).__name__}: {error}"
        return self._found

    def _choices(self) -> str:
        """Return the runs and losses that a browser can choose from, as JSON."""
        names = self._found or []
        hint = "A loss that is hidden still counts in the correction of p values."
        if len(names) > 1:
            hint = f"p values are corrected over the comparisons of the runs that are chosen. {hint}"
        losses = {loss: run.look(loss).colour for run in names for loss in run.run.losses}
        return json.dumps(
            {
                "runs": [{"value": run.slug, "label": run.label} for run in names],
                "losses": [
                    {"value": loss, "label": arm_name(loss), "shown": shown(loss), "colour": colour}
                    for loss, colour in losses.items()
                ],
                "hint": hint,
            }
        )

    def _follow_what_is_there(self) -> bool:
        """Return whether other runs are followed than before: a folder of runs gets new ones."""
        known = {followed.folder: followed for followed in self._followed}
        folders = runs_in(self._folders)
        self._followed = [known.get(folder) or FollowedRun(folder) for folder in folders]
        return list(known) != folders

    def _built(self, page: Page, view: "_View") -> list[Block]:
        if self._broken is not None:
            return blocks_of(page.key, Sheet(notes=(f"This page cannot be drawn: {self._broken}",)))
        if not view.runs:
            return []
        rows = None
        try:
            sheet = page.build([run.found for run in view.runs])
            if sheet.trials:
                view.rows.update(rows_of(sheet.trials))
                rows = view.rows
        except Exception as error:  # noqa: BLE001  a page that cannot be drawn must not end the others
            _LOG.exception("the page %r cannot be drawn", page.title)
            sheet = Sheet(notes=(f"This page cannot be drawn: {type(error).__name__}: {error}",))
        view.stale.pop(page.key, None)
        if any(isinstance(note, PassingNote) for note in sheet.notes):
            view.stale[page.key] = time.monotonic() + _PASSING_S
        return blocks_of(page.key, sheet, rows)

    def _as_asked(self, run: Run) -> Run:
        return run.against(self._reference) if self._reference in run.losses else run

    def _head(self) -> list[Any]:
        shown = [(followed, followed.run) for followed in self._followed if followed.run is not None]
        runs = [run for _, run in shown]
        names = [_name_of(run, label) for run, label in zip(runs, labels(runs), strict=True)]
        now = time.time()
        return head_of([(n, state_of(followed, run, now)) for n, (followed, run) in zip(names, shown, strict=True)])

    def _problems(self) -> list[Any]:
        texts = []
        for followed in self._followed:
            if followed.problem is not None:
                kept = "; shown as it was before" if followed.run is not None else "; nothing to show of it yet"
                texts.append(f"{followed.problem}{kept}")
            if followed.run is not None and self._reference is not None and self._reference not in followed.run.losses:
                losses = ", ".join(followed.run.losses)
                texts.append(f"{followed.folder}: --reference {self._reference} is none of its losses ({losses})")
        return [html.P(text, className="problem") for text in texts]


def _name_of(run: Run, label: str) -> str:
    return f"{label} (a part of the training images)" if run.info["dataset"]["partial"] else label
