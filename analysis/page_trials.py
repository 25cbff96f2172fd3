"""The trials as the static page's script reads them: every text once, curves as whole numbers."""

from collections.abc import Sequence
from typing import Any

from analysis.plots.picture import NamedRun
from analysis.plots.style import arm_name
from analysis.trials import SHORT_NAMES, TrialDetail, details_of, trial_rows

__all__ = ["trials_data"]

_STATUSES = ("finished", "stopped", "failed", "unfinished")


class _Texts:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.all: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self.all.setdefault(text, len(self.all))


def trials_data(runs: Sequence[NamedRun]) -> dict[str, Any]:
    """Return all trials as JSON has them; accuracies and margins are in 1e-4, to be short."""
    nodes, names = _Texts(), _Texts()
    losses = list(dict.fromkeys(loss for run in runs for loss in run.run.losses))
    looks = {loss: run.look(loss).colour for run in runs for loss in run.run.losses}
    places = {loss: place for place, loss in enumerate(losses)}
    commands: list[list[list[str | None]]] = []
    trials = []
    for number, run in enumerate(runs):
        own: dict[tuple[str, str, str | None, str], int] = {}
        for detail in details_of(run.run, trial_rows(run.run)):
            command = own.setdefault(_command(detail), len(own))
            trials.append([number, *_plain(detail, places, nodes, names), command])
        commands.append([list(command) for command in own])
    return {
        "runs": [run.label for run in runs],
        "losses": [
            {"key": loss, "name": arm_name(loss), "colour": looks[loss], "place": place}
            for loss, place in places.items()
        ],
        "statuses": _STATUSES,
        "nodes": list(nodes.all),
        "names": [[name, SHORT_NAMES.get(name, name)] for name in names.all],
        "commands": commands,
        "trials": trials,
    }


def _plain(detail: TrialDetail, places: dict[str, int], nodes: _Texts, names: _Texts) -> list[Any]:
    row = detail.row
    return [
        places[row.loss],
        _STATUSES.index(row.status),
        row.number if row.trial_id == f"{row.loss}-{row.number:04d}" else row.trial_id,
        _short(row.val_accuracy),
        row.epochs,
        round(row.seconds, 1),
        nodes.place(row.node),
        [[names.place(name), value] for name, value in detail.settings],
        [[epoch, _short(accuracy)] for epoch, accuracy, _ in detail.curve],
        [_short(margin) for _, _, margin in detail.curve],
        detail.error,
    ]


def _short(value: float | None) -> int | None:
    return None if value is None else round(1e4 * value)


def _command(detail: TrialDetail) -> tuple[str, str, str | None, str]:
    """Return what a trial's command is for, the command before and after the trial's id, and what it does.

    What follows is None where the command is the same for all trials of a run.
    """
    if detail.row.status == "unfinished":
        return "Go on", detail.command, None, detail.purpose
    before, _, after = detail.command.rpartition(detail.row.trial_id)
    return "Run this configuration again", before, after, detail.purpose
