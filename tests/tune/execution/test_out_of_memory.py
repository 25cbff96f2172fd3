"""Trials that break: out of memory beside others and of their own, with their GPU, and with their whole process."""

import io
import json
import os
import re
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.trial import TrialState
from rich.console import Console

from trainables.trainable import MarginTrainable
from tune.execution import runner
from tune.records import LossRecords, read_json, read_records
from tune.run import search_and_confirm
from tune.search import run as search
from tune.settings import SearchSettings

pytestmark = pytest.mark.cluster
SETTINGS = SearchSettings(
    dataset="digits", data_dir=None, losses=("softmax",), model="ArcFaceCNN", trials=3, max_epochs=2, grace_epochs=2,
    reduction_factor=3, time_budget_min=None, train_size=200, batch_size=64, precision="float32", cpus_per_trial=1,
    gpus_per_trial=None, max_concurrent=2, output="", name="run", storage=None, address=None, seed=0,
)  # fmt: skip
FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH = (f"softmax-{number:04d}" for number in range(6))
EVER = 100


def failing(folder: Path, ways: dict[str, tuple[str, int]]) -> type[MarginTrainable]:
    """Trials of which some break, each in a way of its own and so many times, and note each time in a folder.

    The ways: "beside" is out of memory when all others that shall be so are there too, and who "waits for them" breaks
    not at all, "memory" is out of memory, "lost" an error that ends the use of the GPU, "killed" an end of the process
    in the first epoch, "killed later" one in the second, when the first has its checkpoint.
    """
    together = sum(way == "beside" for way, _ in ways.values())

    def wait_for_them():
        while len({path.name[:12] for path in folder.iterdir()}) < together:
            time.sleep(0.05)

    class Failing(MarginTrainable):
        def step(self):
            way, times = ways.get(self._trial_id, ("", 0))
            earlier = [path.name for path in folder.iterdir()]
            count = sum(name.startswith(self._trial_id) for name in earlier)
            if way == "waits for them":
                wait_for_them()
                time.sleep(1)  # until they have said so
            if way == "killed later":
                self._last_checkpoint_time = -float("inf")  # each epoch is saved
                times *= self._trainer.epoch == 1
            if not self._has_lost_gpu and count < times:
                (folder / f"{self._trial_id}-{count}").touch()
                if way.startswith("killed"):
                    os.kill(os.getpid(), signal.SIGKILL)
                self._trainer.train_epoch = self._run_out
            return super().step()

        def _loses_gpu(self):
            return ways.get(self._trial_id, ("", 0))[0] == "lost" and self._error is not None

        def _run_out(self):
            way, _ = ways[self._trial_id]
            if way == "lost":
                raise RuntimeError("CUDA error: device-side assert triggered")
            if way == "beside":
                wait_for_them()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return Failing


class Run:
    def __init__(self, folder, monkeypatch, ways, **changes):
        notes = folder / "notes"
        notes.mkdir()
        monkeypatch.setattr(runner, "MarginTrainable", failing(notes, ways))
        console = Console(file=io.StringIO(), force_terminal=False, width=300)
        settings = replace(SETTINGS, output=str(folder), **changes)
        self.outcome = search_and_confirm(settings, None, resume=False, console=console).search
        self.folder = folder / "run"
        self.said = console.file.getvalue()
        self.times = Counter(path.name[:12] for path in notes.iterdir())
        self.trials = optuna.load_study(study_name="digits-softmax", storage=f"sqlite:///{self.folder}/study.db").trials
        self.events = LossRecords(self.folder / "softmax").read_events()

    def events_of(self, trial_id):
        return [event["event"] for event in self.events if event["trial_id"] == trial_id]

    @property
    def states(self):
        return [trial.state for trial in self.trials]


@pytest.fixture
def run(shared_ray, tmp_path, monkeypatch):
    return lambda ways, **changes: Run(tmp_path, monkeypatch, ways, **changes)


def test_trials_that_ran_out_of_memory_beside_others_run_again_alone_until_time_is_up(run, monkeypatch):
    """One does not even fit then, another does. The one beside them goes on; one that follows is met by the end."""
    late_s = 0
    on_epoch = search.LossStudy.on_epoch

    def on_epoch_at_some_time(study, number, result):
        nonlocal late_s
        late_s = 3600 * (number == 3)
        return on_epoch(study, number, result)

    monkeypatch.setattr(search.LossStudy, "on_epoch", on_epoch_at_some_time)
    monkeypatch.setattr(search, "time", SimpleNamespace(time=lambda: time.time() + late_s))
    ways = {FIRST: ("beside", EVER), SECOND: ("beside", 1), THIRD: ("waits for them", 0)}
    done = run(ways, trials=50, cpus_per_trial=0.5, max_concurrent=3, time_budget_min=30)
    assert done.times == {FIRST: 2, SECOND: 1}  # beside the others, and alone
    assert done.states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
    assert done.events_of(FIRST) == ["started", "interrupted", "resumed", "failed"]
    assert done.events_of(SECOND) == ["started", "interrupted", "resumed", "finished"]
    assert done.events_of(THIRD) == ["started", "finished"]
    assert done.events_of(FOURTH) == ["started", "stopped"]
    assert [event["reason"] for event in done.events if event["event"] == "stopped"] == ["time budget"]
    errors = [event["error"] for event in done.events if event["event"] == "interrupted"]
    assert len(errors) == 2
    assert all("OutOfMemoryError: CUDA out of memory" in error for error in errors)
    assert "CUDA out of memory" in done.trials[0].user_attrs["error"]
    (told,) = re.findall(r"out of memory beside others: (.*); run again, and all that follow, 1 at a time\n", done.said)
    assert sorted(told.split(", ")) == [FIRST, SECOND]
    assert done.said.count("out of memory beside others") == 1
    assert "3 at a time with 0.5 CPU each" in done.said
    assert done.outcome.failures == {}
    epochs = [(epoch["trial_id"], epoch["epoch"]) for epoch in read_records(done.folder / "softmax" / "epochs.jsonl")]
    assert sorted(epochs) == [(SECOND, 1), (SECOND, 2), (THIRD, 1), (THIRD, 2), (FOURTH, 1)]
    place = {
        "device": read_json(done.folder / "run.json")["invocations"][0]["hardware"]["cpu"],
        "precision": "float32",
        "gpus": 0,
    }
    ends = [event for event in done.events if event["event"] == "finished"]
    assert [{key: event[key] for key in place} for event in ends] == [place] * 2


def test_a_trial_that_breaks_takes_no_other_with_it(run, monkeypatch):
    """One at a time, each in another way: out of memory, with the GPU, and with the process, for good or once."""
    assert runner.MAX_WORKER_LOSSES == 3  # as the README tells
    monkeypatch.setattr(runner, "MAX_WORKER_LOSSES", 1)
    ways = {
        FIRST: ("memory", EVER),
        SECOND: ("lost", EVER),
        FOURTH: ("killed", EVER),
        FIFTH: ("killed later", 1),
    }
    done = run(ways, trials=6, max_concurrent=1)
    states = dict(zip((FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH), done.states, strict=True))
    broken = {FIRST, SECOND, FOURTH}
    assert states == {trial: TrialState.FAIL if trial in broken else TrialState.COMPLETE for trial in states}
    # With the machine to itself it is not run again, and neither is what an error ended.
    assert done.events_of(FIRST) == done.events_of(SECOND) == ["started", "failed"]
    assert "out of memory beside others" not in done.said
    assert done.events_of(THIRD) == ["started", "resumed", "finished"]  # in another process, that has its GPU
    assert done.events_of(FOURTH) == ["started", "resumed", "failed"]  # lost once more than it may be
    assert done.events_of(FIFTH) == ["started", "resumed", "finished"]
    assert done.events_of(SIXTH) == ["started", "finished"]
    assert done.times == {FIRST: 1, SECOND: 1, FOURTH: 2, FIFTH: 1}
    # The one whose process died went on from its checkpoint: its first epoch was not run again.
    assert sorted(done.trials[4].intermediate_values) == [1, 2]
    lines = [json.loads(line) for line in (done.folder / "softmax" / "epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["trial_id"] == FIFTH] == [1, 2]
