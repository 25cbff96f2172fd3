"""Trials that run out of memory: beside others, of their own, and with their whole process."""

import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console

from trainables.trainable import MarginTrainable
from tune.execution import runner
from tune.records import LossRecords, read_json, read_records
from tune.run import search_and_confirm
from tune.settings import SearchSettings

SETTINGS = SearchSettings(
    dataset="digits", data_dir=None, losses=("softmax",), model="ArcFaceCNN", trials=4, max_epochs=2, grace_epochs=2,
    reduction_factor=3, time_budget_min=None, train_size=200, batch_size=64, precision="float32", cpus_per_trial=1,
    gpus_per_trial=None, max_concurrent=2, output="", name="run", storage=None, address="local", seed=0,
)  # fmt: skip
HUNGRY = "softmax-0001"


def failing(folder: Path, kind: str, times: int) -> type[MarginTrainable]:
    """Trials of which one runs out of memory so many times, and notes each."""

    class Failing(MarginTrainable):
        def step(self):
            if self._trial_id == HUNGRY and not self._has_lost_gpu and len(list(folder.iterdir())) < times:
                (folder / f"{len(list(folder.iterdir()))}").touch()
                if kind == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                self._trainer.train_epoch = self._run_out
            return super().step()

        def _loses_gpu(self):
            return kind == "lost" and self._error is not None

        def _run_out(self):
            if kind == "lost":
                raise RuntimeError("CUDA error: device-side assert triggered")
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return Failing


class Run:
    def __init__(self, folder, monkeypatch, kind, times, **changes):
        notes = folder / "notes"
        notes.mkdir()
        monkeypatch.setattr(runner, "MarginTrainable", failing(notes, kind, times))
        console = Console(file=io.StringIO(), force_terminal=False, width=300)
        settings = replace(SETTINGS, output=str(folder), **changes)
        self.outcome = search_and_confirm(settings, None, resume=False, console=console).search
        self.folder = folder / "run"
        self.said = console.file.getvalue()
        self.times = len(list(notes.iterdir()))
        self.trials = optuna.load_study(study_name="digits-softmax", storage=f"sqlite:///{self.folder}/study.db").trials
        self.events = LossRecords(self.folder / "softmax").read_events()

    def events_of(self, trial_id):
        return [event["event"] for event in self.events if event["trial_id"] == trial_id]

    @property
    def states(self):
        return [trial.state for trial in self.trials]


@pytest.fixture
def run(tmp_path, monkeypatch):
    return lambda kind, times, **changes: Run(tmp_path, monkeypatch, kind, times, **changes)


def test_a_trial_that_ran_out_of_memory_beside_another_runs_again_alone(run):
    done = run("gpu", 1)
    assert done.times == 1
    assert done.states == [TrialState.COMPLETE] * 4
    assert done.events_of(HUNGRY) == ["started", "interrupted", "resumed", "finished"]
    (error,) = [event["error"] for event in done.events if event["event"] == "interrupted"]
    assert "OutOfMemoryError: CUDA out of memory" in error
    assert f"out of memory beside others: {HUNGRY}; run again, and all that follow, 1 at a time\n" in done.said
    assert "2 at a time with 1 CPU each" in done.said
    assert done.outcome.failures == {}
    epochs = [(epoch["trial_id"], epoch["epoch"]) for epoch in read_records(done.folder / "softmax" / "epochs.jsonl")]
    place = {
        "device": read_json(done.folder / "run.json")["invocations"][0]["hardware"]["cpu"],
        "precision": "float32",
        "gpus": 0,
    }
    ends = [event for event in done.events if event["event"] == "finished"]
    assert [{key: event[key] for key in place} for event in ends] == [place] * 4
    assert sorted(epochs) == [(f"softmax-{number:04d}", epoch) for number in range(4) for epoch in (1, 2)]


@pytest.mark.cluster
def test_a_trial_that_runs_out_of_memory_of_its_own_has_failed_and_the_others_go_on(run):
    done = run("gpu", 100)
    assert done.times == 2  # beside another, and alone
    assert done.states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert done.events_of(HUNGRY) == ["started", "interrupted", "resumed", "failed"]
    assert "CUDA out of memory" in done.trials[1].user_attrs["error"]
    assert done.said.count("out of memory beside others") == 1


@pytest.mark.cluster
def test_a_trial_that_has_the_machine_to_itself_is_not_run_again(run):
    done = run("gpu", 100, max_concurrent=1)
    assert done.times == 1
    assert done.states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert "out of memory beside others" not in done.said


@pytest.mark.cluster
def test_time_that_is_up_does_not_leave_a_trial_that_was_put_back(run, monkeypatch):
    from tune.search import run as search

    state = {"up": False}
    requeue = search.LossStudy.requeue

    def requeue_and_let_time_pass(study, number, error):
        state["up"] = True
        requeue(study, number, error)

    monkeypatch.setattr(search.LossStudy, "requeue", requeue_and_let_time_pass)
    monkeypatch.setattr(search, "_clock", lambda settings: lambda: state["up"])
    done = run("gpu", 1)
    assert done.events_of(HUNGRY) == ["started", "interrupted", "resumed", "stopped"]
    assert len(done.trials) < 4
    assert set(done.states) <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.cluster
def test_a_process_that_is_killed_again_and_again_fails_its_trial_alone(run, monkeypatch):
    assert runner.MAX_WORKER_LOSSES == 3  # as the README tells
    monkeypatch.setattr(runner, "MAX_WORKER_LOSSES", 2)
    done = run("killed", 100)
    assert done.times == 3
    assert done.states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert done.events_of(HUNGRY) == ["started", "resumed", "resumed", "failed"]
    for trial_id in ("softmax-0000", "softmax-0002", "softmax-0003"):
        assert done.events_of(trial_id)[-1] == "finished"


@pytest.mark.cluster
def test_a_trial_that_ends_the_use_of_the_gpu_for_its_process_takes_no_other_with_it(run):
    done = run("lost", 100, max_concurrent=1)
    assert done.times == 1
    assert done.states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert done.events_of("softmax-0002") == ["started", "resumed", "finished"]  # in another process
    assert done.events_of("softmax-0003") == ["started", "finished"]
