"""Reads runs as tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tune.records import RecordError, current_epochs, read_json, read_records

__all__ = ["Run", "load_run"]

_FORMAT = 1  # of run.json
_ENDINGS = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Run:
    """One run as its records have it.

    Args:
        folder: where it lies.
        info: ``run.json``.
        trials: one row a trial: loss, trial_id, state (finished, stopped, failed, unfinished), epochs, val_accuracy
            (of its last epoch, a fraction), seconds, config, error.
        epochs: one row a trial and epoch, as recorded, with the loss.
    """

    folder: Path
    info: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def dataset(self) -> str:
        """Name of the data set, or the folder it lies in."""
        return str(self.info["dataset"]["name"])

    @property
    def losses(self) -> list[str]:
        """Losses in the order in which they were asked for."""
        return list(self.info["settings"]["losses"])


def load_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        RecordError: it is not a run's folder, or a file in it is damaged.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such folder")
    if not (folder / "run.json").is_file():
        raise RecordError(f"{folder}: holds no run (run.json is missing)")
    info = read_json(folder / "run.json")
    missing = {"settings", "dataset", "search_spaces", "invocations"} - info.keys()
    if not missing and info.get("format") != _FORMAT:
        raise RecordError(f"{folder / 'run.json'}: format {info.get('format')}, of another version of this program")
    if missing:
        raise RecordError(
            f"{folder / 'run.json'}: was not written by this program ({', '.join(sorted(missing))} missing)"
        )
    trials, epochs = [], []
    for loss in info["settings"]["losses"]:
        try:
            loss_epochs = current_epochs(read_records(folder / loss / "epochs.jsonl"))
            epochs += [{"loss": loss, **record} for record in loss_epochs]
            trials += _trials(loss, read_records(folder / loss / "trials.jsonl"), loss_epochs)
        except KeyError as error:
            raise RecordError(f"{folder / loss}: a record lacks {error}; the file was damaged or edited") from None
    return Run(folder, info, pd.DataFrame(trials, columns=_TRIAL_COLUMNS), pd.DataFrame(epochs))


_TRIAL_COLUMNS = ["loss", "trial_id", "state", "epochs", "val_accuracy", "seconds", "config", "error"]


def _trials(loss: str, events: list[dict[str, Any]], epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        row = rows.setdefault(
            event["trial_id"],
            {
                "loss": loss,
                "trial_id": event["trial_id"],
                "state": "unfinished",
                "epochs": 0,
                "val_accuracy": None,
                "seconds": 0.0,
                "config": {},
                "error": None,
            },
        )
        row["config"] = event.get("config") or row["config"]
        if event["event"] in _ENDINGS:
            row["state"] = event["event"]
            row["error"] = event.get("error")
    for epoch in sorted(epochs, key=lambda record: record["epoch"]):
        row = rows.get(epoch["trial_id"], {})
        if row:
            row["epochs"] += 1
            row["seconds"] += epoch["seconds"]
            row["val_accuracy"] = epoch["val_accuracy"]
    return list(rows.values())
