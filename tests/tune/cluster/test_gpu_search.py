"""Whole searches on a real GPU: shares, memory that runs out, and a GPU that a trial leaves unusable."""

import io
import json
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from rich.console import Console

from trainables.trainable import MarginTrainable
from tune.execution import runner
from tune.records import LossRecords, read_json
from tune.run import search_and_confirm
from tune.settings import SearchSettings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SETTINGS = SearchSettings(
    dataset="digits", data_dir=None, losses=("softmax", "adaloss"), model="ArcFaceCNN", trials=3, max_epochs=2,
    grace_epochs=2, reduction_factor=3, time_budget_min=None, train_size=200, batch_size=64, precision="auto",
    cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None, output="", name="run", storage=None,
    address="local", seed=0,
)  # fmt: skip


class Run:
    def __init__(self, folder, **changes):
        console = Console(file=io.StringIO(), force_terminal=False, width=300)
        self.settings = replace(SETTINGS, output=str(folder), **changes)
        self.outcome = search_and_confirm(self.settings, None, resume=False, console=console).search
        self.folder, self.said = folder / "run", console.file.getvalue()
        self.events = [
            event for loss in self.settings.losses for event in LossRecords(self.folder / loss).read_events()
        ]

    def ends(self):
        return [event for event in self.events if event["event"] in ("finished", "stopped", "failed")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("searched"))


def test_trials_share_the_gpu_by_measured_memory(searched):
    assert "of a GPU (" + torch.cuda.get_device_name(0) + "), measured" in searched.said
    assert [event["event"] for event in searched.ends()] == ["finished"] * 6
    slots = read_json(searched.folder / "run.json")["invocations"][0]["slots"]
    assert slots["gpu"] == torch.cuda.get_device_name(0)
    assert 0 < slots["gpu_bytes_per_trial"] < torch.cuda.mem_get_info()[1]
    assert 0 < slots["gpus_per_trial"] < 1


def test_device_precision_and_share_are_on_record(searched):
    precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    share = read_json(searched.folder / "run.json")["invocations"][0]["slots"]["gpus_per_trial"]
    for event in searched.ends():
        place = (event["device"], event["precision"], event["gpus"])
        assert place == (torch.cuda.get_device_name(0), precision, share)


def test_a_search_on_cpus_leaves_the_gpu_alone(tmp_path):
    done = Run(tmp_path, gpus_per_trial=0, max_concurrent=2, precision="float32")
    cpu = read_json(done.folder / "run.json")["invocations"][0]["hardware"]["cpu"]
    assert {(event["device"], event["gpus"]) for event in done.ends()} == {(cpu, 0)}
    assert {event["event"] for event in done.ends()} == {"finished"}


class Hungry(MarginTrainable):
    """Each trial takes most of the GPU's memory for some seconds."""

    def step(self):
        if self._trainer is not None:
            self._trainer.train_epoch = partial(self._hungry_epoch, self._trainer)
        return super().step()

    def _hungry_epoch(self, trainer):
        held = torch.empty(int(0.6 * torch.cuda.mem_get_info()[1]), dtype=torch.uint8, device="cuda")
        time.sleep(5)
        del held
        torch.cuda.empty_cache()  # what training allocates would lie in the midst of it
        return type(trainer).train_epoch(trainer)


def test_trials_that_do_not_fit_side_by_side_run_again_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "MarginTrainable", Hungry)
    done = Run(tmp_path, losses=("softmax",), gpus_per_trial=0.5, cpus_per_trial=1)
    assert "out of memory beside others" in done.said
    assert "run again, and all that follow, 1 at a time with 1 GPU each" in done.said
    assert [event["event"] for event in done.ends()] == ["finished"] * 3, done.events
    errors = [event["error"] for event in done.events if event["event"] == "interrupted"]
    assert errors
    assert all("CUDA out of memory" in error for error in errors)


class Poisonous(MarginTrainable):
    """One trial asks the GPU for what is not there, after which this process can use it no more."""

    def step(self):
        if self._trial_id == "softmax-0000":
            self._trainer.train_epoch = lambda: torch.zeros(3, device="cuda")[torch.tensor([7], device="cuda")].cpu()
        return super().step()


def test_a_trial_that_ends_the_use_of_the_gpu_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "MarginTrainable", Poisonous)
    done = Run(tmp_path, losses=("softmax",), max_concurrent=1)
    ends = {event["trial_id"]: event for event in done.ends()}
    assert ends["softmax-0000"]["event"] == "failed"
    assert "CUDA error: device-side assert" in json.dumps(ends["softmax-0000"])
    assert [ends[f"softmax-000{number}"]["event"] for number in (1, 2)] == ["finished"] * 2, done.events
