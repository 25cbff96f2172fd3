"""A compact live table of a search; plain lines where the output is no terminal."""

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tune.execution.time_left import TimeLeft
from tune.opening import clock
from tune.records import write_json
from tune.records.schema import PROGRESS_FILE
from tune.study import Study

__all__ = ["Progress"]

REDRAW_INTERVAL_S = 0.5
LINE_INTERVAL_S = 30.0
RECORD_INTERVAL_S = 3.0


class Progress:
    """Shows where a part of a run stands.

    Args:
        studies: by name.
        title: of the table.
        console: where it is shown.
        part: of the run.
        accuracy: what the studies' accuracy is.
        time_left: of the part, where somebody knows what follows it or limits it; by default of the studies alone.
        folder: of the run, for a file that tells a page what a terminal is told; None for no file.
    """

    def __init__(
        self,
        studies: Mapping[str, Study],
        title: str,
        console: Console,
        part: str = "search",
        accuracy: str = "best val. acc.",
        time_left: TimeLeft | None = None,
        folder: Path | None = None,
    ) -> None:
        self._studies = studies
        self._title = title
        self._part, self._accuracy = part, accuracy
        self._time_left = time_left or TimeLeft(studies)
        self._console = console
        self._started = time.monotonic()
        self._folder = folder
        self._shown = self._recorded = 0.0
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._say(final=True)

    def update(self) -> None:
        """Show the newest state, not more often than a person can read."""
        now = time.monotonic()
        self._time_left.look(now)
        if self._folder is not None and now - self._recorded >= RECORD_INTERVAL_S:
            self._record(self._folder, now)
            self._recorded = now
        if self._live is not None and now - self._shown >= REDRAW_INTERVAL_S:
            self._live.update(self._table(), refresh=True)
            self._shown = now
        elif self._live is None and now - self._shown >= LINE_INTERVAL_S:
            self._say()
            self._shown = now

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _record(self, folder: Path, now: float) -> None:
        """Write down how long it will take; that a page does not know is no reason to end a search."""
        later = self._time_left.with_later(now)
        state = {
            "time": time.time(),
            "part": self._part,
            "seconds_left": self._time_left.seconds(now),
            "later": later and later[0],
            "seconds_with_later": later and later[1],
        }
        with contextlib.suppress(OSError):
            write_json(folder / PROGRESS_FILE, state)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("", "done", "running", "stopped", "failed", self._accuracy, "newest epochs"):
            table.add_column(heading, no_wrap=heading != "newest epochs")
        for name, study in self._studies.items():
            counts = study.counts
            newest = ", ".join(_newest(number, record) for number, record in sorted(counts.running.items()))
            table.add_row(
                name,
                f"{counts.done}/{counts.asked}",
                str(len(counts.running)),
                str(counts.stopped),
                str(counts.failed),
                _percent(counts.best_accuracy),
                newest,
            )
        now = time.monotonic()
        counted = [study.counts for study in self._studies.values()]
        is_waiting = any(counts.running for counts in counted) and not any(counts.epochs for counts in counted)
        left = "waiting for the first epoch" if is_waiting else self._time_left.text(now)
        shown = [self._title, clock(now - self._started), left]
        return Group(Text("   ".join(filter(None, shown))), table)

    def _say(self, final: bool = False) -> None:
        parts = []
        for name, study in self._studies.items():
            counts = study.counts
            known = not math.isnan(counts.best_accuracy)
            accuracy = f", {self._accuracy} {_percent(counts.best_accuracy)}" if known else ""
            parts.append(f"{name} {counts.done}/{counts.asked}, {counts.epochs} epochs{accuracy}")
        now = time.monotonic()
        when = f"{clock(now - self._started)} {self._part}{' ended' if final else ''}"
        if not final and (left := self._time_left.text(now)):
            when = f"{when}, {left}"
        self._console.print(f"{when}: {' | '.join(parts)}", markup=False, soft_wrap=True)


def _newest(number: int, record: Mapping[str, Any]) -> str:
    if not record:
        return f"#{number} starting"
    accuracy = record["val_accuracy"] if "val_accuracy" in record else record["train_accuracy"]
    return f"#{number} e{record['epoch']} {_percent(accuracy)}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f} %"
