import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
import torch
from rich.console import Console

from trainables import memory
from trainables.data import load_training_data
from trainables.devices import device_for
from trainables.errors import UserError
from trainables.memory import MemoryNeed
from trainables.registry import MODELS
from tune.cluster import gpu_share
from tune.cluster import slots as slots_module
from tune.cluster.gpu_share import share_of, slots_for
from tune.cluster.nodes import Machines
from tune.cluster.slots import Slots
from tune.settings import SearchSettings

GIBIBYTE = 2**30
SETTINGS = SearchSettings(
    dataset="digits", data_dir=None, losses=("arcface", "adaloss"), model="ArcFaceCNN", trials=2, max_epochs=2,
    grace_epochs=1, reduction_factor=3, time_budget_min=None, train_size=None, batch_size=64, precision="auto",
    cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None, output="results", name="run", storage=None,
    address=None, seed=0,
)  # fmt: skip


def need(total_gib, trial_gib):
    """A GPU, and a trial that with its margin needs so much of it."""
    most = int(trial_gib * GIBIBYTE / 1.15)
    total = int(total_gib * GIBIBYTE)
    return MemoryNeed("Some GPU", total, total - most, most, most)


@pytest.mark.parametrize(
    ("total", "trial", "model", "trials"),
    [
        (80, 2, "ArcFaceCNN", 8),  # memory for forty, work for eight
        (80, 2, "resnet9", 2),
        (8, 2.5, "ArcFaceCNN", 3),  # memory decides
        (8, 4.5, "resnet9", 1),
        (8, 9, "ArcFaceCNN", 1),  # too little even for one: it has all there is
    ],
)
def test_memory_decides_how_many_trials_share_a_gpu_and_the_work_they_fill_it_with(total, trial, model, trials):
    assert share_of(need(total, trial), model) == pytest.approx(1 / trials)


def test_the_shares_of_work_are_what_these_tests_take_them_for():
    assert (MODELS["ArcFaceCNN"].gpus_per_trial, MODELS["resnet9"].gpus_per_trial) == (0.125, 0.5)


# --- In a cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return load_training_data("digits", None)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=False, width=300)


@pytest.fixture
def gpus(monkeypatch):
    """Makes a machine of 16 cores and so many GPUs."""

    def make(count, measured=None):
        resources = {"CPU": 16.0} | ({"GPU": float(count)} if count else {})
        monkeypatch.setattr(slots_module, "machines", lambda: Machines([resources]))
        monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
        if measured is not None:
            monkeypatch.setattr(gpu_share, "_measured", measured)

    return make


def test_without_gpus_nothing_is_measured(gpus, data, console, monkeypatch):
    gpus(0)
    monkeypatch.setattr(ray, "remote", lambda **_: pytest.fail("measured"))
    assert slots_for(SETTINGS, data, console) == Slots(1, 0, 16, 1)
    assert console.file.getvalue() == ""


def test_what_the_user_asks_for_is_not_measured(gpus, data, console, monkeypatch):
    gpus(1, lambda *_: pytest.fail("measured"))
    asked = []
    monkeypatch.setattr(gpu_share, "on_worker", lambda share, function, *_: asked.append((share, function)))
    assert slots_for(replace(SETTINGS, gpus_per_trial=0.5), data, console) == Slots(4, 0.5, 2, 1)
    assert asked == [(0.5, device_for)]


def test_more_gpus_than_a_machine_has_are_refused_before_one_is_waited_for(gpus, data, console, monkeypatch):
    gpus(1)
    monkeypatch.setattr(gpu_share, "on_worker", lambda *_: pytest.fail("waited"))
    with pytest.raises(UserError, match="--gpus-per-trial 2: no machine has more than 1"):
        slots_for(replace(SETTINGS, gpus_per_trial=2), data, console)


def test_the_measured_share_decides_and_is_on_record(gpus, data, console):
    measured = need(8, 2.5)
    gpus(2, lambda *_: measured)
    slots = slots_for(SETTINGS, data, console)
    assert slots == Slots(2, 1 / 3, 6, 1, gpu="Some GPU", gpu_bytes=measured.trial_bytes)


def test_where_it_cannot_be_measured_the_model_decides(gpus, data, console):
    def broken(*_):
        raise gpu_share.NoAnswerError("it broke")

    gpus(1, broken)
    assert slots_for(SETTINGS, data, console) == Slots(2, 0.125, 8, 1)


@pytest.fixture(scope="module")
def pretended_gpu():
    """A Ray that was told of a GPU."""
    environment = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}  # there may be one
    ray.init(
        num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="error",
        object_store_memory=200 * 2**20, runtime_env=environment,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture
def no_data(monkeypatch):
    """What does not look at the data gets none: to read it, a worker would import all that trains."""
    monkeypatch.setattr(gpu_share, "search_data", lambda data, losses: None)


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_gpu_that_torch_cannot_use_is_bad_input(share, pretended_gpu, data, console):
    what = r"Ray found a GPU, but torch .* finds no CUDA device on .*; .* or train on CPUs with --gpus-per-trial 0$"
    with pytest.raises(UserError, match=what):
        slots_for(replace(SETTINGS, gpus_per_trial=share), data, console)


def test_where_trials_run_on_cpus_no_gpu_is_asked(pretended_gpu, data, console, monkeypatch):
    monkeypatch.setattr(ray, "remote", lambda **_: pytest.fail("asked"))
    assert slots_for(replace(SETTINGS, gpus_per_trial=0), data, console) == Slots(1, 0, 2, 1)


def test_a_gpu_that_is_not_free_is_not_waited_for(pretended_gpu, data, console, monkeypatch):
    monkeypatch.setattr(gpu_share, "ANSWER_TIMEOUT_S", 1.0)

    @ray.remote(num_gpus=1, num_cpus=0)
    class Holder:
        def ready(self):
            return True

    holder = Holder.remote()
    assert ray.get(holder.ready.remote())
    assert slots_for(SETTINGS, data, console) == Slots(1, 0.125, 2, 1)
    assert console.file.getvalue() == "no GPU was examined: none was free for 1 s\n"
    ray.kill(holder)


def test_a_trial_that_no_gpu_can_hold_is_bad_input(pretended_gpu, no_data, data, console, monkeypatch):
    def measure(configs, data, further_bytes):
        assert [config["loss"] for config in configs] == ["arcface", "adaloss"]
        assert all(config["batch_size"] == 64 for config in configs)
        assert further_bytes == 297 * 28 * 28
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory, "measure_need", measure)
    with pytest.raises(UserError, match="ArcFaceCNN needs more memory than a GPU has; lower --batch-size 64"):
        slots_for(SETTINGS, data, console)


def test_what_was_measured_is_said(pretended_gpu, no_data, data, console, monkeypatch):
    there = need(8, 2.5)
    parts = ("device", "total_bytes", "trial_bytes", "trials")
    measured = SimpleNamespace(**{name: getattr(there, name) for name in parts})  # to send it back needs no torch
    monkeypatch.setattr(memory, "measure_need", lambda *_: measured)
    slots = slots_for(SETTINGS, data, console)
    assert (slots.gpus_per_trial, slots.gpu, slots.gpu_bytes) == (1 / 3, "Some GPU", measured.trial_bytes)
    assert console.file.getvalue() == "a trial needs 2.5 of 8.0 GiB of a GPU (Some GPU), measured\n"
