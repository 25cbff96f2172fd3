"""Run folders, written with the writers that a search uses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tune.records import LossRecords, write_json


class RunWriter:
    """A run folder in the making.

    Args:
        folder: of the run.
        losses: that the run was asked to search.
        partial: whether it trains on a part of the data.
    """

    def __init__(self, folder: Path, losses: Sequence[str] = ("arcface", "softmax"), *, partial: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.info: dict[str, Any] = {
            "format": 1,
            "settings": {
                "losses": list(losses),
                "model": "ArcFaceCNN",
                "trials": 4,
                "max_epochs": 3,
                "grace_epochs": 1,
                "reduction_factor": 3.0,
            },
            "dataset": {"name": "digits", "partial": partial, "train_images": 100},
            "search_spaces": {loss: {"dimensions": 4 + number} for number, loss in enumerate(losses)},
            "invocations": [{}],
        }
        write_json(folder / "run.json", self.info)

    def trial(
        self,
        loss: str,
        number: int,
        accuracies: Sequence[float],
        ending: str | None = "finished",
        *,
        error: str | None = None,
        seconds: float = 2.0,
    ) -> str:
        """Record a trial with an accuracy an epoch and, unless it still runs, how it ended; return its id."""
        trial_id = f"{loss}-{number:04d}"
        records = LossRecords(self.folder / loss)
        config = {"loss": loss, "learning_rate": 0.1 + number, "loss_args": {} if loss == "softmax" else {"scale": 8.0}}
        records.event(trial_id, "started", config=config)
        for epoch, accuracy in enumerate(accuracies, start=1):
            self.epoch(loss, number, epoch, accuracy, seconds=seconds)
        if ending is not None:
            details = {} if error is None else {"error": error}
            records.event(trial_id, ending, epoch=len(accuracies), **details)
        return trial_id

    def epoch(self, loss: str, number: int, epoch: int, accuracy: float, *, seconds: float = 2.0) -> None:
        """Record one epoch of a trial."""
        record = {"epoch": epoch, "val_accuracy": accuracy, "seconds": seconds}
        LossRecords(self.folder / loss).epoch(f"{loss}-{number:04d}", record)

    def event(self, loss: str, number: int, event: str, **details: Any) -> None:
        """Record an event of a trial."""
        LossRecords(self.folder / loss).event(f"{loss}-{number:04d}", event, **details)


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunWriter]:
    """Makes an empty run in a folder of the given name."""

    def make(name: str = "run", *arguments: Any, **options: Any) -> RunWriter:
        return RunWriter(tmp_path / name, *arguments, **options)

    return make
