"""Where a followed run stands, in words and numbers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.arms import name_of
from analysis.formatting import percent
from analysis.live.follow import FollowedRun
from analysis.live.stages import Stage, stages_of, time_left
from analysis.loading import Run
from analysis.plots.bands import best_trial
from tune.records.roles import CONTROLS_OF

__all__ = ["State", "is_locked", "state_of"]

# Without a new record for so long, or for so many of the longest epochs, a run is no longer taken to be alive.
_PATIENCE_S = 60.0
_PATIENCE_EPOCHS = 3.0


@dataclass(frozen=True)
class State:
    """What the head of the page says of a run.

    Args:
        word: searching, confirming, finished, ...
        alive: whether somebody is working on it, as far as can be seen.
        last_record_time: unix time of the newest line, None before the first.
        rows: one a loss, with `columns`.
        confirmation: a sentence, or "" where there is none.
        stages: that it was asked for.
        time_left: in words, "" where nobody knows.
    """

    word: str
    alive: bool
    last_record_time: float | None
    rows: tuple[tuple[str, ...], ...]
    confirmation: str
    stages: tuple[Stage, ...] = ()
    time_left: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of the rows."""
        unfinished = "running" if self.alive else "not ended"
        return ("loss", "best val. acc.", "done", unfinished, "stopped", "failed", "epochs")


def state_of(followed: FollowedRun, run: Run, now: float) -> State:
    """Return where a run stands.

    Args:
        followed: the run's folder.
        run: as it was last read.
        now: unix time.
    """
    last = followed.last_record_time()
    if followed.memo is None or followed.memo[0] is not run:  # of all that changes with its records alone
        is_complete = _search_complete(run) and _confirmation_complete(run)
        followed.memo = (run, (is_complete, tuple(_row(run, loss) for loss in run.losses), tuple(stages_of(run))))
    complete, rows, stages = followed.memo[1]
    alive = not complete and not _interrupted(followed, run) and _shows_life(run, last, now)
    alive = alive or is_locked(run.folder / ".lock")
    return State(
        word=_word(followed, run, complete=complete, alive=alive),
        alive=alive,
        last_record_time=last,
        rows=rows,
        confirmation=_confirmation(run, alive=alive),
        stages=stages,
        time_left=time_left(followed.progress, now) if alive else "",
    )


def _word(followed: FollowedRun, run: Run, *, complete: bool, alive: bool) -> str:
    if alive:
        if run.trials.empty:
            return "starting"
        return "confirming" if _search_complete(run) and run.confirmation else "searching"
    if complete:
        return "finished" if run.confirmation else "search finished, not confirmed"
    if _interrupted(followed, run):
        return "interrupted"
    return "no sign of life" if not run.trials.empty else "no trial yet"


def _search_complete(run: Run) -> bool:
    ended = run.trials[run.trials["state"] != "unfinished"]["loss"].value_counts()
    asked = run.info["settings"]["trials"]
    return all(ended.get(loss, 0) >= asked for loss in run.losses)


def _confirmation_complete(run: Run) -> bool:
    """Return whether every arm that was begun has as many runs as were asked for."""
    asked = run.confirmation
    if asked is None:
        return True
    wanted = {"winner": asked.get("seeds", 0), "untuned": asked.get("seeds", 0)}
    wanted |= {"control": asked.get("seeds", 0), "robustness": asked.get("robustness", 0)}
    has_controls = any(loss in run.winners for loss in CONTROLS_OF)
    needed = {"winner": bool(wanted["winner"]), "control": bool(asked.get("controls")) and has_controls}
    for role, count in wanted.items():
        arms = run.arms(role)
        if needed.get(role) and not arms:
            return False
        if any(len(run.seed_runs_of(role, arm)) < count for arm in arms):
            return False
    return set(run.winners) <= set(run.arms("winner"))


def _interrupted(followed: FollowedRun, run: Run) -> bool:
    """Return whether every trial that has not ended was put back, as a search does that is told to stop."""
    newest: dict[str, str] = {}
    for loss in run.losses:
        newest |= {event["trial_id"]: event["event"] for event in followed.lines(f"{loss}/trials.jsonl")}
    unfinished = run.trials[run.trials["state"] == "unfinished"]["trial_id"]
    return not unfinished.empty and all(newest.get(trial_id) == "interrupted" for trial_id in unfinished)


def _shows_life(run: Run, last: float | None, now: float) -> bool:
    if last is None:
        times = [invocation.get("time") for invocation in run.info["invocations"] if isinstance(invocation, Mapping)]
        last = max((time for time in times if isinstance(time, int | float)), default=0.0)
    return now - last < max(_PATIENCE_S, _PATIENCE_EPOCHS * _longest_epoch_s(run))


def _longest_epoch_s(run: Run) -> float:
    frames = [frame["seconds"] for frame in (run.epochs, run.seed_epochs) if "seconds" in frame]
    return float(pd.concat(frames).max()) if frames else 0.0


def is_locked(path: Path) -> bool:
    """Return whether a process of this machine holds a run's lock, where the system tells; nothing is locked for it.

    To try the lock would be to hold it for a moment, in which a search that starts finds it taken.
    """
    try:
        status = path.stat()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(" FLOCK " in lock and " WRITE " in lock and f" {device} " in lock and "->" not in lock for lock in locks)


def _row(run: Run, loss: str) -> tuple[str, ...]:
    trials = run.trials[run.trials["loss"] == loss]
    counts: Any = trials["state"].value_counts()
    unfinished = counts.get("unfinished", 0)
    best = best_trial(run, loss)
    return (
        name_of(loss),
        "-" if best is None else percent(best["val_accuracy"]),
        f"{len(trials) - unfinished}/{run.info['settings']['trials']}",
        str(unfinished),
        str(counts.get("stopped", 0)),
        str(counts.get("failed", 0)),
        f"{trials['epochs'].sum():,}",
    )


def _confirmation(run: Run, *, alive: bool) -> str:
    if run.seed_runs.empty and run.seed_epochs.empty:
        return ""
    done = set(run.seed_runs["run_id"])
    running = set(run.seed_epochs["run_id"]) - done
    failed = int(run.seed_runs["failed"].astype(bool).sum())
    parts = [f"{len(done)} training {'run' if len(done) == 1 else 'runs'} done"]
    if running:
        parts.append(f"{len(running)} {'running' if alive else 'not ended'}")
    if failed:
        parts.append(f"{failed} failed")
    return f"Confirmation: {', '.join(parts)}."
