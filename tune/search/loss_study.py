"""The study of one loss: its Optuna study, its rungs and its records, kept in step. It knows nothing of Ray.

The study in the database is the one truth about a search; everything that a restart needs is derived from it. So there
is no snapshot that can be stale: after a kill at any moment the study is opened again, trials that were in flight go
back to waiting, and the rungs are replayed. Each step is told to the study before anybody acts on it.

Draws depend on the seed, the trial's number and the finished trials alone, so an interrupted search whose trials run
one at a time suggests what the uninterrupted one would have.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces import SearchSpace
from tune.records import LossRecords
from tune.records.schema import EPOCH_FIELDS, PLACE_FIELDS
from tune.search.rungs import Rungs
from tune.search.stored_study import StoredStudy
from tune.study import Checkpoint, Suggestion, TrialCounts

__all__ = ["LossStudy", "SearchPlan"]

# Trials drawn at random before TPE has anything to go by; the first points count among them.
STARTUP_TRIALS = 6


_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class SearchPlan:
    """What the search of a loss may spend, and where its draws come from; equal for all losses of a run.

    Args:
        trials: how many there shall be in all.
        max_epochs: length of a trial.
        grace_epochs: first milestone of the rungs.
        reduction_factor: of the rungs.
        seed: of the draws.
        first_points: tried before anything is drawn; None for those of the loss's search space.
    """

    trials: int
    max_epochs: int
    grace_epochs: int
    reduction_factor: float
    seed: int
    first_points: Sequence[Mapping[str, Any]] | None = None


class LossStudy:
    """Hands out the trials of one loss and takes in what became of them.

    Args:
        name: of the study, ``<dataset>-<loss>``.
        space: of the loss.
        storage: Optuna's.
        records: of the loss.
        plan: of the search.
        checkpoints: newest checkpoint of each trial, by trial id.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        storage: RDBStorage,
        records: LossRecords,
        plan: SearchPlan,
        checkpoints: Mapping[str, Checkpoint] | None = None,
    ) -> None:
        self.loss = space.loss
        self.max_epochs = plan.max_epochs
        self.counts = TrialCounts(plan.trials)
        self._space, self._records = space, records
        self._first_points = space.first_points if plan.first_points is None else plan.first_points
        self._checkpoints = dict(checkpoints or {})
        self._rungs = Rungs(plan.grace_epochs, plan.max_epochs, plan.reduction_factor)
        self._study = StoredStudy(name, storage, seed=plan.seed, startup_trials=STARTUP_TRIALS)
        self._places: dict[int, dict[str, Any]] = {}  # where running trials run, by number
        self._events = {(event["trial_id"], event["event"]) for event in records.read_events()}
        self._best: int | None = None
        self._recover()

    def trial_id(self, number: int) -> str:
        """Return the id of a trial in the records."""
        return f"{self.loss}-{number:04d}"

    def ask(self) -> Suggestion | None:
        """Return the next trial to run, interrupted ones first, or None when as many as asked for were started."""
        number = len(self._study)
        if not self._study.waiting and number >= self.counts.asked:
            return None
        points = self._first_points
        trial = self._study.ask(points[number] if number < len(points) else None)
        config, number = self._space.suggest(trial), trial.number
        trial_id = self.trial_id(number)
        self._study.save(number, {"trial_id": trial_id})
        checkpoint = self._checkpoints.get(trial_id)
        if self._is_recorded(trial_id, "started"):
            self._records.event(trial_id, "resumed", config=config, epoch=checkpoint.epoch if checkpoint else 0)
        else:
            self._record(trial_id, "started", config=config)
        self.counts.running[number] = {}
        self.counts.requeued.discard(number)
        return Suggestion(number, trial_id, config, checkpoint)

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> bool:
        """Take in an epoch of a running trial and return whether it goes on.

        A trial that does not is finished in the study when this returns, but for one at its full length: that is
        :meth:`on_checkpoint`'s. A result with an ``error``, or without a finite ``val_accuracy``, fails the trial.
        """
        if not self.counts.running.get(number):
            self._places[number] = {key: result[key] for key in PLACE_FIELDS if key in result}
        if error := result.get("error"):
            self.failed(number, error)
            return False
        record = {key: result[key] for key in (*EPOCH_FIELDS, "node_ip") if key in result}
        epoch, accuracy = record["epoch"], record["val_accuracy"]
        self._records.epoch(self.trial_id(number), record)
        self.counts.running[number] = record
        self.counts.epochs += 1
        if not math.isfinite(accuracy):
            self._rungs.diverged(number, epoch)
            error = f"diverged: the loss was not finite in epoch {epoch}"
            self._end(number, "failed", error=error, diverged_epoch=epoch)
            return False
        self._study.report(number, epoch, accuracy)
        if epoch >= self.max_epochs:
            return False
        if not self._rungs.goes_on(number, epoch, accuracy):
            self.stop(number, "below the rung's cutoff")
            return False
        return True

    def on_checkpoint(self, number: int) -> None:
        """Finish a running trial that has its full length: not before its weights are safe, it may be the best."""
        record = self.counts.running[number]
        if record.get("epoch", 0) >= self.max_epochs:
            self._end(number, "finished")

    def needs_checkpoint(self, number: int) -> bool:
        """Return whether a trial is still to be ended, or is the best so far, whose weights will be kept."""
        trial_id = self.trial_id(number)
        if self._is_recorded(trial_id, "finished"):
            return number == self.counts.best_number
        return not (self._is_recorded(trial_id, "stopped") or self._is_recorded(trial_id, "failed"))

    def stop(self, number: int, reason: str) -> None:
        """End a running trial before its full length; one that has no epoch yet fails."""
        if not self._study[number].intermediate_values:
            self.failed(number, reason)
            return
        self._end(number, "stopped", reason=reason)

    def failed(self, number: int, error: str) -> None:
        """End a running trial that broke."""
        self._end(number, "failed", error=error)

    def on_error(self, number: int, error: str) -> None:
        """End a running trial whose worker was lost too often."""
        self.failed(number, error)

    def requeue_running(self) -> None:
        """Put what runs back among the waiting, for a later resume."""
        for number in list(self.counts.running):
            self._wait(number)

    def requeue(self, number: int, error: str) -> None:
        """Put a trial back among the waiting that ran out of memory beside others."""
        self.counts.requeued.add(number)
        self._wait(number, error=error)

    def set_checkpoints(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Take in the newest checkpoint of each trial, by trial id."""
        self._checkpoints = dict(checkpoints)

    def _wait(self, number: int, **details: Any) -> None:
        self._study.wait(number)
        self._records.event(self.trial_id(number), "interrupted", **details)
        del self.counts.running[number]

    def on_restart(self, number: int, error: str) -> None:
        """Note that Ray runs a trial again, from its last checkpoint, after its worker was lost; maybe elsewhere."""
        self.counts.running[number] = {}
        self._records.event(self.trial_id(number), "resumed", error=error)

    def best(self) -> FrozenTrial | None:
        """Return the trial with the highest accuracy after its full length, else the highest of the stopped ones."""
        return None if self._best is None else self._study[self._best]

    def config_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's drawn configuration, as :meth:`ask` gave it."""
        return self._space.suggest(optuna.trial.FixedTrial(trial.params))  # type: ignore[arg-type]

    def waiting(self) -> list[int]:
        """Return the numbers of interrupted trials."""
        return self._study.waiting

    def is_running(self, number: int) -> bool:
        """Return whether a trial is running."""
        return number in self.counts.running

    def epochs_to_go(self) -> float:
        """Return how many epochs the trials may be expected to train still, by what the rungs let through."""
        reached = {number: self._epochs_behind(number) for number in (*self.counts.running, *self._study.waiting)}
        return self._rungs.epochs_to_go(reached, max(0, self.counts.asked - self.counts.done - len(reached)))

    def _epochs_behind(self, number: int) -> int:
        """Return how many epochs of a trial that has not ended need not be run again."""
        checkpoint = self._checkpoints.get(self.trial_id(number))
        return int(self.counts.running.get(number, {}).get("epoch", checkpoint.epoch if checkpoint else 0))

    def _is_recorded(self, trial_id: str, event: str) -> bool:
        return (trial_id, event) in self._events

    def _record(self, trial_id: str, event: str, **details: Any) -> None:
        self._records.event(trial_id, event, **details)
        self._events.add((trial_id, event))

    def _end(self, number: int, event: str, **details: Any) -> None:
        """End a running trial in the study, and then on record."""
        place = self._places.pop(number, None)
        about = {"place": place, **details} if place is not None else details
        self._study.end(number, _STATES[event], about)
        self._close(number, event)

    def _close(self, number: int, event: str) -> None:
        """Record how a trial ended that the study already knows as finished."""
        trial = self._study[number]
        self.counts.running.pop(number, None)
        setattr(self.counts, event, getattr(self.counts, event) + 1)
        if event != "failed":
            self._judge(trial)
        if not self._is_recorded(self.trial_id(number), event):
            self._record(self.trial_id(number), event, **_ending(trial))

    def _judge(self, trial: FrozenTrial) -> None:
        """Take a trial for the best if it is: of those with the full length, else of the stopped ones."""
        best = self.best()
        if trial.value is not None and (best is None or _merit(trial) > _merit(best)):
            self._best = trial.number
            self.counts.best_number, self.counts.best_accuracy = trial.number, trial.value

    def _recover(self) -> None:
        """Bring study, rungs and records into step after whatever ended the last process."""
        events = {state: event for event, state in _STATES.items()}
        for trial in self._study.trials():
            reached = trial.last_step or 0
            if trial.state == TrialState.RUNNING:
                self._study.wait(trial.number)
            if trial.state in events:
                self._close(trial.number, events[trial.state])
            else:
                # Later epochs are run again, and judged again where they were not.
                checkpoint = self._checkpoints.get(self.trial_id(trial.number))
                reached = checkpoint.epoch if checkpoint else 0
            known = {epoch: value for epoch, value in trial.intermediate_values.items() if epoch <= reached}
            self._rungs.replay(trial.number, known)
            if "diverged_epoch" in trial.user_attrs:
                self._rungs.diverged(trial.number, trial.user_attrs["diverged_epoch"])


def _merit(trial: FrozenTrial) -> tuple[bool, float, int]:
    assert trial.value is not None
    return trial.state == TrialState.COMPLETE, trial.value, -trial.number


def _ending(trial: FrozenTrial) -> dict[str, Any]:
    place = trial.user_attrs.get("place", {})
    details: dict[str, Any] = {"epoch": trial.last_step or 0, "val_accuracy": trial.value, **place}
    return details | {key: trial.user_attrs[key] for key in ("reason", "error") if key in trial.user_attrs}
