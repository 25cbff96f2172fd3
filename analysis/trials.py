"""The trials of a search one by one: a row each, and of one of them all that is on record."""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.arms import name_of
from analysis.loading import Run
from tune.records.roles import code_options

__all__ = [
    "SHORT_NAMES",
    "TrialDetail",
    "TrialRow",
    "command_of",
    "detail_of",
    "details_of",
    "settings_text",
    "trial_rows",
]


@dataclass(frozen=True)
class TrialRow:
    """A trial in a table.

    Args:
        trial_id: such as ``adaloss-0003``.
        number: of the trial in the search of its loss.
        loss: as the records call it.
        status: finished, stopped, failed or unfinished.
        val_accuracy: of its last epoch, a fraction; None before the first, and where it was not finite.
        epochs: trained.
        settings: what was tuned, on a line.
        seconds: of training and evaluating.
        node: address of the machine of its newest epoch, "" where nobody wrote it down.
    """

    trial_id: str
    number: int
    loss: str
    status: str
    val_accuracy: float | None
    epochs: int
    settings: str
    seconds: float
    node: str


@dataclass(frozen=True)
class TrialDetail:
    """All that is on record of a trial.

    Args:
        row: of the table.
        curve: epoch, validation accuracy (a fraction or None) and applied margin (rad or None), one an epoch.
        settings: name and value of all that was tuned.
        error: with which it failed, None where it did not.
        command: that runs its configuration again, or goes on with the trial.
        purpose: what the command does.
    """

    row: TrialRow
    curve: tuple[tuple[int, float | None, float | None], ...]
    settings: tuple[tuple[str, str], ...]
    error: str | None
    command: str
    purpose: str


def trial_rows(run: Run) -> list[TrialRow]:
    """Return the trials of a run, loss by loss in the order in which they were started."""
    nodes = _nodes(run)
    columns = [run.trials[name].tolist() for name in _READ]
    return [
        TrialRow(
            trial_id=trial_id,
            number=_number(trial_id),
            loss=loss,
            status=state,
            val_accuracy=_finite(accuracy),
            epochs=int(epochs),
            settings=settings_text(config),
            seconds=round(float(seconds), 2),
            node=nodes.get(trial_id, ""),
        )
        for trial_id, loss, state, accuracy, epochs, config, seconds in zip(*columns, strict=True)
    ]


_READ = ("trial_id", "loss", "state", "val_accuracy", "epochs", "config", "seconds")


def _nodes(run: Run) -> dict[str, str]:
    """Return the machine of each trial's newest epoch, where it is on record."""
    if "node_ip" not in run.epochs:
        return {}
    pairs = zip(run.epochs["trial_id"].tolist(), run.epochs["node_ip"].tolist(), strict=True)
    return {trial_id: node for trial_id, node in pairs if isinstance(node, str)}


def _number(trial_id: str) -> int:
    digits = trial_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 10 else 0


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def settings_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of what was tuned."""
    own = config.get("loss_args")
    flat = {key: value for key, value in config.items() if key not in {"loss", "loss_args"}}
    for name, value in {**flat, **(own if isinstance(own, dict) else {})}.items():
        yield str(name), f"{value:.4g}" if isinstance(value, float) else str(value)


# Short names for a column that holds all of them.
SHORT_NAMES = {
    "learning_rate": "lr",
    "head_learning_rate_multiplier": "head lr x",
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
    "margin_rad": "margin",
    "rate_up_rad_per_epoch": "up",
    "rate_down_rad_per_epoch": "down",
    "target_difficulty": "target",
}


def settings_text(config: Mapping[str, Any]) -> str:
    """Return what was tuned on a line."""
    return ", ".join(f"{SHORT_NAMES.get(name, name)} {value}" for name, value in settings_of(config))


def detail_of(run: Run, row: TrialRow) -> TrialDetail:
    """Return all that is on record of one trial."""
    trial = run.trials[run.trials["trial_id"] == row.trial_id].iloc[0]
    epochs = run.epochs[run.epochs["trial_id"] == row.trial_id] if len(run.epochs) else run.epochs
    return _detail(run, row, trial["config"], trial["error"], _curve(epochs))


def details_of(run: Run, rows: list[TrialRow]) -> Iterator[TrialDetail]:
    """Yield all that is on record of trials, which are all of the run, in its order."""
    curves = {key: _curve(epochs) for key, epochs in run.epochs.groupby("trial_id")} if len(run.epochs) else {}
    for row, config, error in zip(rows, run.trials["config"], run.trials["error"], strict=True):
        yield _detail(run, row, config, error, curves.get(row.trial_id, ()))


def _curve(epochs: pd.DataFrame) -> tuple[tuple[int, float | None, float | None], ...]:
    if epochs.empty:
        return ()
    ordered = epochs.sort_values("epoch")
    margins = ordered["margin_rad"].tolist() if "margin_rad" in ordered else [None] * len(ordered)
    return tuple(
        (int(epoch), _finite(accuracy), _finite(margin))
        for epoch, accuracy, margin in zip(
            ordered["epoch"].tolist(), ordered["val_accuracy"].tolist(), margins, strict=True
        )
    )


def _detail(run: Run, row: TrialRow, config: Mapping[str, Any], error: Any, curve: Any) -> TrialDetail:
    command, purpose = command_of(run, row)
    return TrialDetail(
        row, curve, tuple(settings_of(config)), error if isinstance(error, str) else None, command, purpose
    )


def command_of(run: Run, row: TrialRow) -> tuple[str, str]:
    """Return the command for a trial, and what it does: it goes on with the run, or runs the configuration again."""
    folder = run.folder
    settings = run.info.get("settings") or {}
    code = code_options(settings, None if row.status == "unfinished" else [row.loss])
    if row.status == "unfinished":
        place = ["--output", str(folder.parent), "--name", folder.name]
        return shlex.join(["python", "tune/run_search.py", "--resume", *place, *code]), (
            "Goes on with the search from the last checkpoints, this trial's too, unless it is under way."
        )
    again = shlex.join(["python", "tune/run_search.py", "--again", f"{folder}/{row.trial_id}", *code])
    return again, (
        f"Trains this configuration of {name_of(row.loss)} once more in full, with the seed and the images of its run, "
        "as a run of its own."
    )
