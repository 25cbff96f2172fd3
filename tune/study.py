"""The study protocol: what hands out trials, and takes in what became of them, one study a loss or an arm.

Ray's adaptors know no more than this, so a study can be driven without Ray, by invented trials.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Checkpoint", "Study", "Suggestion", "TrialCounts"]


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of a trial: how many epochs it has behind it, and where it lies (a path or URI)."""

    epoch: int
    path: str


@dataclass(frozen=True)
class Suggestion:
    """A trial to run: its number in the study, its id in the records, its configuration, where to go on from."""

    number: int
    trial_id: str
    config: dict[str, Any]
    checkpoint: Checkpoint | None = None


@dataclass
class TrialCounts:
    """Where the trials of a study stand, and the accuracy that is worth showing."""

    asked: int
    finished: int = 0
    stopped: int = 0
    failed: int = 0
    epochs: int = 0  # trained since this process started
    running: dict[int, dict[str, Any]] = field(default_factory=dict)  # number -> newest epoch record
    requeued: set[int] = field(default_factory=set)  # ran out of memory beside others and are to run again
    best_number: int | None = None
    best_accuracy: float = math.nan

    @property
    def done(self) -> int:
        """Trials that need no more work."""
        return self.finished + self.stopped + self.failed

    @property
    def started(self) -> int:
        """Trials done or running."""
        return self.done + len(self.running)


class Study(Protocol):
    """Hands out trials and takes in what became of them; each step is on record before Ray acts on it."""

    counts: TrialCounts

    def ask(self) -> Suggestion | None:
        """Return the next trial to run, or None when no more shall start."""

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> bool:
        """Take in what a trial reported of an epoch, and return whether it goes on."""

    def on_checkpoint(self, number: int) -> None:
        """Take in that a running trial's newest epoch has its checkpoint in the storage."""

    def needs_checkpoint(self, number: int) -> bool:
        """Return whether the checkpoint of a trial that Ray is done with is still of use."""

    def stop(self, number: int, reason: str) -> None:
        """End a running trial before its full length."""

    def on_error(self, number: int, error: str) -> None:
        """Take in that a trial's worker was lost too often."""

    def on_restart(self, number: int, error: str) -> None:
        """Take in that a trial's worker was lost, and that Ray runs the trial again."""

    def requeue(self, number: int, error: str) -> None:
        """Take in that a trial ran out of memory beside others: it says nothing of the trial, which is asked again."""

    def set_checkpoints(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Take in where trials that were put back go on: newest checkpoint of each trial, by its id."""

    def requeue_running(self) -> None:
        """Put back what runs, for a later resume."""

    def is_running(self, number: int) -> bool:
        """Return whether a trial is running."""

    def epochs_to_go(self) -> float:
        """Return how many epochs its trials may be expected to train still, those that have not begun included."""
