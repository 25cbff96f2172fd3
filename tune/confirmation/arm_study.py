"""The study of one arm of a confirmation: training runs on given seeds, each run to its full length and recorded once.

`confirm.jsonl` is the one truth about what is done. A run that is not in it is run again, from its newest checkpoint
where there is one; so a kill at any moment loses at most the epochs since then, and no seed is counted twice.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tune.records import RecordFile, current_epochs, read_records
from tune.records.schema import CALIBRATION_FIELDS, EPOCH_FIELDS, PLACE_FIELDS, SEED_EPOCHS_FILE, SEED_RUNS_FILE
from tune.study import Checkpoint, Suggestion, TrialCounts

__all__ = ["ArmStudy", "ConfirmRecords", "SeedRun", "accuracy_of"]

_ANGLES = "angle_histograms"


@dataclass(frozen=True)
class SeedRun:
    """One configuration on one seed.

    Args:
        run_id: unique in the run's folder; names whatever the result depends on.
        role: candidate, winner, untuned, control or robustness.
        arm: what is compared with other arms of the same role: a loss or a control.
        pair: index of the seed; runs with the same index have the same seed.
        seed: of initial weights, data order and augmentation.
        config: what differs between trials, as it is recorded.
        trial_id: of the search's trial that the configuration comes from, or None.
        loss_args: arguments of the loss where ``config`` only describes them (a margin for each step, say).
    """

    run_id: str
    role: str
    arm: str
    pair: int
    seed: int
    config: Mapping[str, Any]
    trial_id: str | None = None
    loss_args: Mapping[str, Any] | None = None

    def trained_config(self) -> dict[str, Any]:
        """Return the configuration with which the run trains."""
        return dict(self.config) if self.loss_args is None else {**self.config, "loss_args": dict(self.loss_args)}


def accuracy_of(result: Mapping[str, Any], chance: float) -> float:
    """Return the accuracy that a recorded run is judged by; a diverged one counts at chance."""
    if result["error"]:
        return chance
    accuracy = result["val_accuracy"] if result["test_accuracy"] is None else result["test_accuracy"]
    return float(accuracy)


class ConfirmRecords:
    """What a confirmation has written.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._results = RecordFile(folder / SEED_RUNS_FILE)
        self._epochs = RecordFile(folder / SEED_EPOCHS_FILE)
        self.results = {result["run_id"]: result for result in read_records(self._results.path)}

    def read_epochs(self, run_id: str) -> list[dict[str, Any]]:
        """Return each epoch of a run once, in order."""
        epochs = [epoch for epoch in read_records(self._epochs.path) if epoch["run_id"] == run_id]
        return sorted(current_epochs(epochs, key="run_id"), key=lambda epoch: epoch["epoch"])

    def margin_steps_rad(self, run_id: str) -> list[float]:
        """Return the margin applied in every training step of a run."""
        return [margin for epoch in self.read_epochs(run_id) for margin in epoch["margin_steps_rad"]]

    def append_epoch(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Append an epoch of a run."""
        self._epochs.append({"run_id": run_id, "time": time.time(), **record})

    def append_result(self, result: dict[str, Any]) -> None:
        """Append the result of a finished run."""
        self._results.append(result)
        self.results[result["run_id"]] = result


class ArmStudy:
    """Hands out the runs of one arm and takes in what became of them.

    Args:
        runs: all of the arm; those with a result on record are done.
        records: of the confirmation.
        max_epochs: length of each run.
        num_classes: chance is one in so many.
        checkpoints: newest checkpoint of each run, by its id.
    """

    def __init__(
        self,
        runs: Sequence[SeedRun],
        records: ConfirmRecords,
        *,
        max_epochs: int,
        num_classes: int,
        checkpoints: Mapping[str, Checkpoint],
    ) -> None:
        self.counts = TrialCounts(len(runs))
        self.broken: dict[str, str] = {}  # run -> error, of runs that have no result because something broke
        self._runs, self._records = runs, records
        self._max_epochs, self._chance = max_epochs, 1 / num_classes
        self._checkpoints = dict(checkpoints)
        self._places: dict[int, dict[str, Any]] = {}
        self._waiting = [number for number, run in enumerate(runs) if run.run_id not in records.results]
        self._curves: dict[int, list[dict[str, Any]]] = {}
        self._count()

    def ask(self) -> Suggestion | None:
        """Return the next run, or None when all have started."""
        if not self._waiting:
            return None
        number = self._waiting.pop(0)
        self.counts.requeued.discard(number)
        run = self._runs[number]
        checkpoint = self._checkpoints.get(run.run_id)
        curve: list[dict[str, Any]] = []
        if checkpoint is not None:
            recorded = [epoch for epoch in self._records.read_epochs(run.run_id) if epoch["epoch"] <= checkpoint.epoch]
            if len(recorded) == checkpoint.epoch:
                curve = [{key: epoch[key] for key in EPOCH_FIELDS if key in epoch} for epoch in recorded]
            else:
                checkpoint = None  # without its first epochs on record, the run starts anew
        self._curves[number] = curve
        self.counts.running[number] = {}
        return Suggestion(number, run.run_id, run.trained_config(), checkpoint)

    def on_epoch(self, number: int, result: Mapping[str, Any]) -> bool:
        """Take in an epoch and return whether the run goes on; a run that diverged is finished, at chance."""
        run = self._runs[number]
        self._places[number] = {key: result[key] for key in PLACE_FIELDS if key in result}
        if error := result.get("error"):
            self._break(number, error)
            return False
        record = {key: result[key] for key in EPOCH_FIELDS if key in result}
        steps = {key: result[key] for key in ("margin_steps_rad",) if key in result and run.role == "winner"}
        steps |= {key: result[key] for key in ("node_ip",) if key in result}
        self._records.append_epoch(run.run_id, {**record, **steps})
        earlier = [epoch for epoch in self._curves[number] if epoch["epoch"] < record["epoch"]]
        self._curves[number] = [*earlier, record]
        self.counts.running[number] = record
        self.counts.epochs += 1
        judged = [record["train_loss"], record.get("val_accuracy", 0.0), result.get("test_loss", 0.0)]
        if not all(map(math.isfinite, judged)):
            self._finish(number, {}, error=f"diverged: the loss was not finite in epoch {record['epoch']}")
            return False
        if record["epoch"] >= self._max_epochs:
            self._finish(number, result)
            return False
        return True

    def on_checkpoint(self, number: int) -> None:
        """Nothing is left to do: a run's last result is all that is kept of it."""

    def needs_checkpoint(self, number: int) -> bool:
        """Return whether a run is still to be ended, and goes on from its checkpoint in a resume, or is to be kept.

        The weights of a winner's first pair are.
        """
        run = self._runs[number]
        return run.run_id not in self._records.results or (run.role == "winner" and run.pair == 0)

    def stop(self, number: int, reason: str) -> None:
        """Refuse: every run of a confirmation has its full length."""
        raise AssertionError(f"a confirmation has no early stopping ({reason})")

    def on_error(self, number: int, error: str) -> None:
        """Take in that a run's worker was lost too often: the run has no result and is left for a resume."""
        self._break(number, error)

    def on_restart(self, number: int, error: str) -> None:
        """Nothing is left to do: epochs that Ray runs again replace the earlier ones."""

    def requeue(self, number: int, error: str) -> None:
        """Put a run back that ran out of memory beside others; it is the next to be asked."""
        self.counts.requeued.add(number)
        self._waiting.insert(0, number)
        del self.counts.running[number]

    def set_checkpoints(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        """Take in the newest checkpoint of each run, by its id."""
        self._checkpoints = dict(checkpoints)

    def requeue_running(self) -> None:
        """Put back what runs; it has no result, so a resume runs it again."""
        self.counts.running.clear()

    def is_running(self, number: int) -> bool:
        """Return whether a run is running."""
        return number in self.counts.running

    def epochs_to_go(self) -> int:
        """Return how many epochs the runs have still to train; each has its full length."""
        return sum(self._max_epochs - self._epochs_behind(number) for number in [*self._waiting, *self.counts.running])

    def _epochs_behind(self, number: int) -> int:
        """Return how many epochs of a run that has not ended need not be run again."""
        checkpoint = self._checkpoints.get(self._runs[number].run_id)
        return int(self.counts.running.get(number, {}).get("epoch", checkpoint.epoch if checkpoint else 0))

    def _break(self, number: int, error: str) -> None:
        """End a run that broke. That says nothing about its loss, so it has no result."""
        self.broken[self._runs[number].run_id] = error
        del self.counts.running[number]
        self.counts.failed += 1

    def _finish(self, number: int, result: Mapping[str, Any], error: str | None = None) -> None:
        run, curve = self._runs[number], self._curves.pop(number)
        self._records.append_result(
            {
                "run_id": run.run_id,
                "role": run.role,
                "arm": run.arm,
                "pair": run.pair,
                "seed": run.seed,
                "trial_id": run.trial_id,
                "config": dict(run.config),
                "epochs": len(curve),
                "seconds": sum(epoch["seconds"] for epoch in curve),
                "val_accuracy": result.get("val_accuracy"),
                "test_accuracy": result.get("test_accuracy"),
                "test_loss": result.get("test_loss"),
                **{key: result.get(key) for key in CALIBRATION_FIELDS},
                "confusion": result.get("confusion"),
                "class_accuracy": result.get("class_accuracy"),
                "correct_bits": result.get("correct_bits"),
                _ANGLES: _angle_histograms(result),
                "curve": curve,
                **self._places.pop(number),
                "error": error,
                "time": time.time(),
            }
        )
        del self.counts.running[number]
        self._count()

    def _count(self) -> None:
        results = [self._records.results[run.run_id] for run in self._runs if run.run_id in self._records.results]
        self.counts.finished = len(results)
        if results:
            self.counts.best_accuracy = fmean(accuracy_of(result, self._chance) for result in results)


def _angle_histograms(result: Mapping[str, Any]) -> dict[str, dict[str, list[int]]] | None:
    """Return the histograms of a result that Ray has flattened."""
    if f"{_ANGLES}/after/own" not in result:
        return None
    return {
        when: {of: result[f"{_ANGLES}/{when}/{of}"] for of in ("own", "nearest_other")} for when in ("before", "after")
    }
