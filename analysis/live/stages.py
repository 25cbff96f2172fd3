"""The stages of a followed run, and how long it will still take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.formatting import duration
from analysis.loading import Run
from tune.records.roles import CONTROLS_OF

__all__ = ["Stage", "stages_of", "time_left"]

_FRESH_S = 120.0  # a search writes down its time left every few seconds; an older one says nothing any more


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Args:
        name: for people.
        done: trials or runs that are over.
        asked: for how many there will be, as far as is known.
    """

    name: str
    done: int
    asked: int

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.done >= self.asked


def stages_of(run: Run) -> list[Stage]:
    """Return the stages that a run was asked for, in their order."""
    losses = run.losses
    trials = run.info["settings"]["trials"]
    ended = run.trials[run.trials["state"] != "unfinished"]["loss"].value_counts()
    stages = [Stage("Search", sum(min(int(ended.get(loss, 0)), trials) for loss in losses), trials * len(losses))]
    asked = run.confirmation
    if asked is None:
        return stages
    seeds = _count(asked, "seeds")
    candidates = min(_count(asked, "candidates"), trials) * _count(asked, "candidate_seeds") * len(losses)
    begun = run.seed_runs.drop_duplicates("run_id")["role"].value_counts()
    known = len(run.arms("winner")) if run.winners else 0
    paired = seeds * max(known, len(losses))
    if _count(asked, "candidates"):
        over = set(run.winners) >= set(losses)
        chosen = candidates if over else min(int(begun.get("candidate", 0)), candidates)
        stages.append(Stage("Choice of winners", chosen, candidates))
    stages.append(Stage("Paired seeds", min(_runs(run, "winner"), paired), paired))
    if asked.get("controls") and any(loss in losses for loss in CONTROLS_OF):
        arms = max(len(run.arms("control")), 1)
        stages.append(Stage("Controls", min(_runs(run, "control"), seeds * arms), seeds * arms))
    if draws := _count(asked, "robustness"):
        arms = max(len(run.arms("robustness")), len(losses))
        stages.append(Stage("Random draws", min(_runs(run, "robustness"), draws * arms), draws * arms))
    return stages


def _count(asked: Mapping[str, Any], name: str) -> int:
    value = asked.get(name, 0)
    return value if isinstance(value, int) and 0 <= value < 10**6 else 0


def _runs(run: Run, role: str) -> int:
    return sum(len(run.seed_runs_of(role, arm)) for arm in run.arms(role))


def time_left(progress: Mapping[str, Any] | None, now: float) -> str:
    """Return such as "about 4 min left, 6 min with the confirmation"; nothing where nobody knows.

    Args:
        progress: ``progress.json``, None where there is none.
        now: unix time.
    """
    if progress is None or not -_FRESH_S < now - progress["time"] < _FRESH_S:
        return ""
    seconds, later = progress.get("seconds_left"), progress.get("seconds_with_later")
    if not seconds:
        return ""
    left = f"about {_rounded(seconds)} left"
    return f"{left}, {_rounded(later)} with {progress.get('later') or 'what follows'}" if later else left


def _rounded(seconds: float) -> str:
    """Return a time that is not known to the second."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else duration(seconds)
