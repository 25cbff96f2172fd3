"""Reads runs as tables."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.folders import check_run
from tune.records import RecordError, checked_records, current_epochs, read_json
from tune.records.bits import unpack_bits
from tune.records.roles import JUDGED_ON_VALIDATION, controlled_loss, default_reference
from tune.records.schema import (
    CALIBRATION_FIELDS,
    ENDINGS,
    EPOCHS_FILE,
    RUN_FIELDS,
    RUN_FILE,
    RUN_FILE_FIELDS,
    RUN_FORMAT,
    SEED_EPOCH_FIELDS,
    SEED_EPOCHS_FILE,
    SEED_RUNS_FILE,
    TRIAL_EPOCH_FIELDS,
    TRIAL_EVENT_FIELDS,
    TRIALS_FILE,
    WINNER_FIELDS,
    check_fields,
    seed_run_fields,
    winner_file,
)

__all__ = ["SEED_RUN_COLUMNS", "Run", "load_run"]


@dataclass(frozen=True)
class Run:
    """One run as its records have it.

    Args:
        folder: where it lies.
        info: ``run.json``.
        trials: one row a trial: loss, trial_id, state (finished, stopped, failed, unfinished), epochs, val_accuracy
            (of its last epoch, a fraction), seconds, config, error.
        epochs: one row a trial and epoch, as recorded, with the loss.
        seed_runs: one row a training run of the confirmation, with the columns of ``confirm.jsonl`` and two more:
            failed, and accuracy, which is of the split that the role is judged on and chance for a run that failed.
        seed_epochs: one row an epoch of such a run, finished or not, as recorded.
        winners: ``winner_<loss>.json`` by loss.
        asked_reference: what a reader wants the losses held against, None for what the run was planned with.
    """

    folder: Path
    info: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    seed_runs: pd.DataFrame
    seed_epochs: pd.DataFrame
    winners: dict[str, dict[str, Any]]
    asked_reference: str | None = None

    @property
    def dataset(self) -> str:
        """Name of the data set, or the folder it lies in."""
        return str(self.info["dataset"]["name"])

    @property
    def losses(self) -> list[str]:
        """Losses in the order in which they were asked for."""
        return list(self.info["settings"]["losses"])

    @property
    def planned_reference(self) -> str:
        """The loss against which the others were to be held when the run was started."""
        planned = self.info["settings"].get("reference")
        return default_reference(self.losses) if planned is None else str(planned)

    @property
    def reference(self) -> str:
        """The loss against which the others are held."""
        return self.planned_reference if self.asked_reference is None else self.asked_reference

    def against(self, reference: str | None) -> "Run":
        """Return the same run with another loss as its reference; None for the one that it was planned with.

        Raises:
            RecordError: the run has no such loss.
        """
        if reference is not None and reference not in self.losses:
            raise RecordError(
                f"--reference {reference}: {self.folder} has {', '.join(self.losses)}; choose one of them"
            )
        return replace(self, asked_reference=reference)

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set; 0 where the run does not say."""
        return _num_classes(self.info)

    @property
    def chance(self) -> float:
        """Accuracy of guessing, a fraction; what a failed run counts."""
        return _chance(self.info)

    @property
    def rung_epochs(self) -> list[int]:
        """Epochs at which ASHA judged trials, ascending: grace_epochs reduction_factor^k < max_epochs."""
        settings = self.info["settings"]
        grace, longest, factor = settings["grace_epochs"], settings["max_epochs"], settings["reduction_factor"]
        if grace < 1 or factor <= 1 or longest < grace:
            return []
        count = math.floor(math.log(longest / grace, factor) + 1e-9) + 1
        return [rung for rung in (round(grace * factor**k) for k in range(count)) if rung < longest]

    @property
    def confirmation(self) -> dict[str, Any] | None:
        """What the confirmation was asked for, None where there is none."""
        return self.info.get("confirmation")

    def seed_runs_of(self, role: str, arm: str, trial_id: str | None = None) -> pd.DataFrame:
        """Return the runs of one arm, one a pair, by pair; the newest where a pair was run again.

        Candidates of a loss share their seeds, so one of them must be meant, and an extended search may have found
        another winner since: None means the winner as it is now, and its controls.
        """
        if trial_id is None and role in {"candidate", "winner", "control"}:
            trial_id = self.winners.get(controlled_loss(arm) if role == "control" else arm, {}).get("trial_id")
        runs = self._runs_by_arm.get((role, arm), self.seed_runs.iloc[:0])
        if trial_id is not None:
            runs = runs[(runs["trial_id"] == trial_id) | runs["trial_id"].isna()]
        elif role == "candidate":
            runs = runs.iloc[:0]
        return runs.drop_duplicates("pair", keep="last").sort_values("pair", ignore_index=True)

    def accuracies(self, role: str, arm: str, trial_id: str | None = None) -> pd.Series:
        """Return the accuracies of :meth:`seed_runs_of`, fractions by pair, chance for a run that failed."""
        return self.seed_runs_of(role, arm, trial_id).set_index("pair")["accuracy"].astype(float)

    def correct_images(self, role: str, arm: str) -> pd.DataFrame:
        """Return which test images the runs of :meth:`seed_runs_of` got right: a row a pair, a column an image.

        Runs that failed, and those of versions that recorded no images, have none.

        Raises:
            RecordError: what is on record does not fit the number of test images.
        """
        tested = self.seed_runs_of(role, arm).set_index("pair")
        tested = tested[tested["correct_bits"].notna() & tested["confusion"].notna()]
        bits = [
            unpack_bits(text, int(np.sum(confusion)))
            for text, confusion in zip(tested["correct_bits"], tested["confusion"], strict=True)
        ]
        if len(set(map(len, bits))) > 1:
            raise RecordError(f"{self.folder / SEED_RUNS_FILE}: runs of {arm} were tested on different images")
        return pd.DataFrame(np.array(bits, dtype=bool), index=tested.index)

    def arms(self, role: str) -> list[str]:
        """Return the arms that have a run in a role: losses in the order asked for, then others by name."""
        found = {arm for other, arm in self._runs_by_arm if other == role}
        return [loss for loss in self.losses if loss in found] + sorted(found - set(self.losses))

    @property
    def all_arms(self) -> list[str]:
        """Return the losses in the order asked for, then by name the other arms of the confirmation."""
        return [*self.losses, *sorted({arm for _, arm in self._runs_by_arm} - set(self.losses))]

    @cached_property
    def _runs_by_arm(self) -> dict[tuple[str, str], pd.DataFrame]:
        return {(str(role), str(arm)): runs for (role, arm), runs in self.seed_runs.groupby(["role", "arm"])}


def load_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        RecordError: it is not a run's folder, or a file in it is damaged.
    """
    check_run(folder)
    info = _load_info(folder / RUN_FILE)
    trials, epochs = [], []
    for loss in info["settings"]["losses"]:
        loss_epochs = current_epochs(checked_records(folder / loss / EPOCHS_FILE, TRIAL_EPOCH_FIELDS))
        epochs += [{"loss": loss, **record} for record in loss_epochs]
        trials += _trials(loss, checked_records(folder / loss / TRIALS_FILE, TRIAL_EVENT_FIELDS), loss_epochs)
    seed_epochs = current_epochs(checked_records(folder / SEED_EPOCHS_FILE, SEED_EPOCH_FIELDS), key="run_id")
    return Run(
        folder,
        info,
        pd.DataFrame(trials, columns=_TRIAL_COLUMNS),
        pd.DataFrame(epochs),
        _seed_runs(folder / SEED_RUNS_FILE, info),
        pd.DataFrame(seed_epochs, columns=None if seed_epochs else ["run_id", "epoch"]),
        _winners(folder, info["settings"]["losses"]),
    )


def _load_info(path: Path) -> dict[str, Any]:
    info = _read_object(path)
    missing = {"settings", "dataset", "search_spaces", "invocations"} - info.keys()
    if not missing and info.get("format") != RUN_FORMAT:
        raise RecordError(f"{path}: format {info.get('format')}, of another version of this program")
    if missing:
        raise RecordError(f"{path}: was not written by this program ({', '.join(sorted(missing))} missing)")
    for key, fields in RUN_FIELDS.items():
        part = info.get(key)
        if part is None and key == "confirmation":
            continue
        if not isinstance(part, dict):
            raise RecordError(f"{path}: '{key}' is not an object; the file was damaged or edited")
        check_fields(f"{path}, {key}", part, fields)
    check_fields(str(path), info, RUN_FILE_FIELDS)
    for loss in info["settings"]["losses"]:
        space = info["search_spaces"].get(loss) if isinstance(info["search_spaces"], dict) else None
        if not isinstance(space, dict) or not isinstance(space.get("dimensions"), int):
            raise RecordError(f"{path}: the search space of {loss} is missing; the file was damaged or edited")
        if Path(loss).name != loss or loss in {".", ".."} or not loss.isprintable():
            raise RecordError(f"{path}: {loss!r} is no name of a loss; the file was damaged or edited")
    reference = info["settings"].get("reference")
    if reference is not None and reference not in info["settings"]["losses"]:
        raise RecordError(f"{path}: the reference {reference!r} is none of its losses; the file was damaged or edited")
    return info


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except RecursionError:
        raise RecordError(f"{path}: cannot be read: nested too deeply") from None


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
        if event["event"] in ENDINGS:
            row["state"] = event["event"]
            row["error"] = event.get("error")
    for epoch in sorted(epochs, key=lambda record: record["epoch"]):
        row = rows.get(epoch["trial_id"], {})
        if row:
            row["epochs"] += 1
            row["seconds"] += epoch["seconds"]
            row["val_accuracy"] = epoch["val_accuracy"]
    return list(rows.values())


SEED_RUN_COLUMNS = [
    *("run_id", "role", "arm", "pair", "seed", "trial_id", "config", "epochs", "seconds", "val_accuracy"),
    *("test_accuracy", "test_loss", *CALIBRATION_FIELDS, "confusion", "class_accuracy", "correct_bits"),
    *("angle_histograms", "curve", "error", "time", "accuracy", "failed"),
]


def _num_classes(info: dict[str, Any]) -> int:
    return len(info["dataset"].get("classes") or [])


def _chance(info: dict[str, Any]) -> float:
    classes = _num_classes(info)
    return 1 / classes if classes else 0.0


def _seed_runs(path: Path, info: dict[str, Any]) -> pd.DataFrame:
    rows = []
    newest = {record["run_id"]: record for record in checked_records(path, seed_run_fields(_num_classes(info)))}
    if newest and not _num_classes(info):
        raise RecordError(f"{path.with_name('run.json')}: does not name the classes, so chance is unknown")
    for record in newest.values():
        measured = record.get("val_accuracy" if record["role"] in JUDGED_ON_VALIDATION else "test_accuracy")
        if record.get("error"):
            measured = None
        accuracy = _chance(info) if measured is None else measured
        rows.append(
            {**record, "curve": record.get("curve") or [], "accuracy": accuracy, "failed": measured is None},
        )
    return pd.DataFrame(rows, columns=SEED_RUN_COLUMNS)


def _winners(folder: Path, losses: list[str]) -> dict[str, dict[str, Any]]:
    winners = {}
    for loss in losses:
        path = folder / winner_file(loss)
        if path.exists():
            winner = _read_object(path)
            check_fields(str(path), winner, WINNER_FIELDS)
            winners[loss] = winner
    return winners
