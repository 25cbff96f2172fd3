"""Whatever happens between a trial's last epoch and its last checkpoint, the best trial's weights are not lost."""

import io
import os
import signal
from dataclasses import replace

import optuna
import pytest
import torch
from optuna.trial import TrialState
from ray.tune import Callback
from rich.console import Console

from trainables.trainable import MarginTrainable
from tune.execution import runner
from tune.full_disk import LeaveRay
from tune.records import LossRecords, read_json
from tune.run import search_and_confirm
from tune.settings import SearchSettings

EPOCHS = 2
SETTINGS = SearchSettings(
    dataset="digits", data_dir=None, losses=("softmax",), model="ArcFaceCNN", trials=1, max_epochs=EPOCHS,
    grace_epochs=EPOCHS, reduction_factor=3, time_budget_min=None, train_size=200, batch_size=64, precision="float32",
    cpus_per_trial=1, gpus_per_trial=None, max_concurrent=1, output="", name="run", storage=None, address=None,
    seed=0,
)  # fmt: skip


class LeaveBeforeTheCheckpoint(Callback):
    """Ends the driver's loop when it has heard of the last epoch and Ray has not asked for its checkpoint."""

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["epoch"] == EPOCHS:
            raise LeaveRay


def dying_once(note):
    """Trials whose process dies in the middle of the first checkpoint."""

    class Dying(MarginTrainable):
        def save_checkpoint(self, checkpoint_dir):
            super().save_checkpoint(checkpoint_dir)
            if not note.exists():
                note.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    return Dying


@pytest.mark.cluster
def test_a_trial_is_finished_when_its_weights_are_safe(shared_ray, tmp_path, monkeypatch):
    settings = replace(SETTINGS, output=str(tmp_path))
    console = Console(file=io.StringIO(), force_terminal=False)
    folder = tmp_path / "run"

    def state():
        (trial,) = optuna.load_study(study_name="digits-softmax", storage=f"sqlite:///{folder}/study.db").trials
        return trial.state

    search_and_confirm(settings, None, resume=False, console=console, callbacks=[LeaveBeforeTheCheckpoint()])
    assert state() == TrialState.WAITING
    assert not (folder / "best_softmax.json").exists()

    monkeypatch.setattr(runner, "MarginTrainable", dying_once(tmp_path / "died"))
    search_and_confirm(settings, None, resume=True, console=console)
    assert (tmp_path / "died").exists()
    assert state() == TrialState.COMPLETE
    records = LossRecords(folder / "softmax")
    events = [event["event"] for event in records.read_events()]
    assert events == ["started", "interrupted", "resumed", "resumed", "finished"]
    assert [epoch["epoch"] for epoch in records.read_epochs()] == list(range(1, EPOCHS + 1))
    weights = torch.load(folder / "best_softmax.pt", weights_only=True)
    assert weights["epoch"] == read_json(folder / "best_softmax.json")["epoch"] == EPOCHS
    assert not (folder / "checkpoints").exists()
