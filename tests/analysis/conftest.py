"""Run folders, written with the writers that a search uses, and runs in memory."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.findings import Findings, load_findings
from analysis.loading import SEED_RUN_COLUMNS, Run
from tests.analysis.example_run import write_example_run
from tune.records import LossRecords, RecordFile, write_json


class RunWriter:
    """A run folder in the making.

    Args:
        folder: of the run.
        losses: that the run was asked to search.
        partial: whether it trains on a part of the data.
        dataset: its name.
    """

    def __init__(
        self,
        folder: Path,
        losses: Sequence[str] = ("arcface", "softmax"),
        *,
        partial: bool = False,
        dataset: str = "digits",
    ) -> None:
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
            "dataset": {"name": dataset, "partial": partial, "train_images": 100, "classes": list("0123456789")},
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

    def seed_run(self, role: str, arm: str, pair: int, accuracy: float | None = 0.9, **fields: Any) -> str:
        """Record a training run of the confirmation, whose accuracy None means that it failed; return its id."""
        validated = role in {"candidate", "robustness"}
        record = {
            "run_id": f"{role}-{arm}-{pair}",
            "role": role,
            "arm": arm,
            "pair": pair,
            "seed": 1000 + pair,
            "trial_id": None,
            "config": {"loss": arm, "loss_args": {}},
            "epochs": 3,
            "seconds": 6.0,
            "val_accuracy": accuracy if validated else None,
            "test_accuracy": None if validated else accuracy,
            "test_loss": None,
            "confusion": None,
            "angle_histograms": None,
            "curve": [],
            "error": "diverged" if accuracy is None else None,
            "time": 1.0,
            **fields,
        }
        RecordFile(self.folder / "confirm.jsonl").append(record)
        return str(record["run_id"])

    def seed_runs(self, role: str, arm: str, accuracies: Sequence[float | None], **fields: Any) -> None:
        """Record a run a pair."""
        for pair, accuracy in enumerate(accuracies):
            self.seed_run(role, arm, pair, accuracy, **fields)

    def rewrite(self, **parts: Any) -> None:
        """Change parts of run.json."""
        self.info |= parts
        write_json(self.folder / "run.json", self.info)


def run_of(dataset: str, **arms: Sequence[float]) -> Run:
    """Return a run in memory whose winners have these accuracies."""
    rows = [
        {**dict.fromkeys(SEED_RUN_COLUMNS), "run_id": f"{arm}-{pair}", "role": "winner", "arm": arm}
        | {"pair": pair, "seed": pair, "accuracy": accuracy, "failed": False}
        for arm, accuracies in arms.items()
        for pair, accuracy in enumerate(accuracies)
    ]
    info = {
        "settings": {"losses": list(arms), "trials": 64, "max_epochs": 20},
        "dataset": {"name": dataset, "classes": list("0123456789")},
    }
    seed_runs = pd.DataFrame(rows, columns=SEED_RUN_COLUMNS)
    return Run(Path(dataset), info, pd.DataFrame(), pd.DataFrame(), seed_runs, pd.DataFrame(), {})


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes what a folder holds once for all processes that run tests beside each other; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)

    def get(key: str, make: Callable[[Path], object]) -> Path:
        folder = shared / hashlib.sha256(key.encode()).hexdigest()[:16]
        with folder.with_suffix(".lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not lock.seek(0, os.SEEK_END):
                folder.mkdir()
                make(folder)
                lock.write("made")
        return folder

    return get


@pytest.fixture(scope="session")
def example_run(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[..., Path]:
    """Writes an example run without study.db unless asked for it, once for equal options; not to be changed."""

    def get(**options: Any) -> Path:
        name = str(options.get("dataset", "cifar10"))

        def write(folder: Path) -> None:
            write_example_run(folder / name, **{"study": False, **options})

        return made_once(f"example run: {sorted(options.items())}", write) / name

    return get


@pytest.fixture(scope="session")
def example_findings(example_run: Callable[..., Path]) -> Callable[..., list[Findings]]:
    """What example runs of these options show together, put together once; not to be changed."""
    found: dict[str, list[Findings]] = {}

    def get(*examples: dict[str, Any]) -> list[Findings]:
        key = repr([sorted(options.items()) for options in examples])
        if key not in found:
            found[key] = load_findings([example_run(**options) for options in examples])
        return found[key]

    return get


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunWriter]:
    """Makes an empty run in a folder of the given name."""

    def make(name: str = "run", *arguments: Any, **options: Any) -> RunWriter:
        return RunWriter(tmp_path / name, *arguments, **options)

    return make
