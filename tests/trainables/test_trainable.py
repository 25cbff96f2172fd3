"""The Ray trainable without a cluster: actors are reused, trials fail alone, checkpoints go on exactly."""

import dataclasses
import gc
import hashlib
import json
import math
import tempfile
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.small_actors import EPOCHS, Actor, actor_of, saved, steps, trial, trial_data, weights
from trainables.config import TrialConfig
from trainables.data import TrainingData
from trainables.losses import LOSSES
from trainables.trainable import (
    CHECKPOINT_INDEX,
    SHOULD_CHECKPOINT,
    STATE_FILE,
    WEIGHTS_FILE,
    MarginTrainable,
    TrialData,
)
from trainables.training import Trainer

each_loss = pytest.mark.parametrize("loss", LOSSES)


pytestmark = pytest.mark.usefixtures("narrow_model", "restored_torch_settings", "quick_collections")


@pytest.fixture(scope="module")
def data(digits: TrainingData) -> TrialData:
    return trial_data(digits)


@pytest.fixture
def actor(data: TrialData) -> Actor:
    return actor_of(data)


def assert_equal(first: MarginTrainable, second: MarginTrainable) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


# --- Reuse -----------------------------------------------------------------------------------------------------------


@each_loss
def test_a_reused_actor_gives_a_fresh_ones_numbers(loss: str, actor: Actor) -> None:
    fresh = actor(trial(loss, seed=2))
    expected = steps(fresh)

    before = {"max_epochs": 5, "embedding_dim": 8, "batch_size": 16, "learning_rate": 0.3, "horizontal_flip": True}
    reused = actor(trial("adaloss", trial_id="t0", **before))
    steps(reused, 2)
    assert reused.reset_config(trial(loss, seed=2)) is True
    assert steps(reused) == expected
    assert_equal(fresh, reused)


def test_the_data_stays_where_it_is(actor: Actor, data: TrialData) -> None:
    running = actor(trial())
    before = running._placed.train
    assert running._placed.train.images.data_ptr() == data.train_images.ctypes.data
    running.reset_config(trial("softmax"))
    assert running._placed.train is before


def test_what_a_trial_held_is_let_go(actor: Actor) -> None:
    running = actor(trial())
    first = running._trainer
    running.reset_config(trial("softmax"))
    assert running._trainer is not first
    running.cleanup()
    assert running._trainer is None


def test_no_trial_is_kept_for_ever_though_what_it_imported_is(actor: Actor) -> None:
    """What the collector no longer looks at is never let go, if it holds itself."""
    running, before, kept = actor(trial()), gc.get_freeze_count(), []
    for seed in range(3):
        assert running._trainer is not None
        running._trainer.model.itself = [running._trainer.model]  # type: ignore[assignment]
        model = weakref.ref(running._trainer.model)
        running.reset_config(trial(seed=seed))
        assert model() is None
        kept.append(gc.get_freeze_count())
    assert before < kept[0] == max(kept)  # after the first, and never again


def test_each_trial_gets_its_threads(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    running = actor(trial(threads=2))
    assert torch.get_num_threads() == 2
    running.reset_config(trial(threads=1))
    assert torch.get_num_threads() == 1


# --- Failures --------------------------------------------------------------------------------------------------------


def test_an_exception_is_the_trials_result_and_not_the_actors_end(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(actor(trial("adaloss")))
    running = actor(trial(trial_id="t0"))
    steps(running, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_steps", lambda self: 1 / 0)
        broken = running.step()
    assert "ZeroDivisionError" in broken["error"]
    assert math.isnan(broken["val_accuracy"])
    assert broken["epoch"] == 2
    assert SHOULD_CHECKPOINT not in broken
    assert running.step()["error"] == broken["error"]  # it does not go on as if nothing had happened
    running.reset_config(trial("adaloss"))
    assert steps(running) == expected


def test_an_actor_that_takes_up_other_data_gives_a_fresh_ones_numbers(digits: TrainingData) -> None:
    """As a worker of the search does that goes on with the paired seeds."""
    searched, tested = trial_data(digits), trial_data(digits, judged=False, tested=True)
    reused = actor_of(searched)(trial())
    steps(reused)
    MarginTrainable.reset_config(reused, {**trial(seed=2), "data": tested})
    fresh = actor_of(tested)(trial(seed=2))
    assert steps(reused) == steps(fresh)
    assert_equal(reused, fresh)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"dropout": 0.5}, "unknown configuration key: dropout"),
        ({"loss": "arcfase"}, "loss must be one of"),
        ({"loss_args": {"scale": -1.0, "margin_rad": 0.2}}, "scale must be"),
        ({"loss_args": {"scale": 8.0, "margin_degrees": 10}}, "margin_degrees"),
    ],
)
@pytest.mark.parametrize("reused", [False, True])
def test_a_bad_configuration_is_reported_by_the_first_step(
    changes: dict[str, Any], message: str, reused: bool, actor: Actor, tmp_path: Path
) -> None:
    if reused:
        running = actor(trial(trial_id="t0"))
        running.reset_config(trial(**changes))
    else:
        running = actor(trial(**changes))
    running.load_checkpoint(str(tmp_path))  # of a trial that never began there is nothing to load
    result = running.step()
    assert message in result["error"]
    assert result["epoch"] == 0
    assert math.isnan(result["val_accuracy"])
    running.reset_config(trial("softmax"))
    assert "error" not in running.step()


def test_a_diverging_trial_reports_nan_and_no_error(actor: Actor) -> None:
    running = actor(trial(learning_rate=1e30))
    results = steps(running, 2)
    assert math.isnan(results[-1]["val_accuracy"])
    assert "error" not in results[-1]


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_says_what_it_is(actor: Actor, tmp_path: Path) -> None:
    running = actor(trial("softmax", trial_id="t0"))
    running.reset_config(trial(trial_id="t7"))
    steps(running, 2)
    folder = saved(running, tmp_path / "two")
    assert sorted(p.name for p in folder.iterdir()) == [CHECKPOINT_INDEX, STATE_FILE]
    index = json.loads((folder / CHECKPOINT_INDEX).read_text())
    digest = hashlib.sha256((folder / STATE_FILE).read_bytes()).hexdigest()
    assert index == {"trial_id": "t7", "epoch": 2, "sha256": digest}
    state = torch.load(folder / STATE_FILE, weights_only=True)
    assert TrialConfig.from_dict(state["config"]) == running._trainer.config  # type: ignore[union-attr]


def test_the_weights_are_written_at_full_length_only(actor: Actor, tmp_path: Path) -> None:
    running = actor(trial())
    for epoch in range(1, EPOCHS + 1):
        steps(running, 1)
        assert (saved(running, tmp_path / str(epoch)) / WEIGHTS_FILE).exists() is (epoch == EPOCHS)
    index = json.loads((tmp_path / str(EPOCHS) / CHECKPOINT_INDEX).read_text())
    assert index["weights_sha256"] == hashlib.sha256((tmp_path / str(EPOCHS) / WEIGHTS_FILE).read_bytes()).hexdigest()
    state = torch.load(tmp_path / str(EPOCHS) / WEIGHTS_FILE, weights_only=True)
    assert set(state) == {"config", "epoch", "model", "loss", "data"}
    assert state["epoch"] == EPOCHS
    assert all(
        torch.equal(a, b)
        for a, b in zip([*state["model"].values(), *state["loss"].values()], weights(running), strict=True)
    )


def test_a_checkpoint_that_cannot_be_stored_leaves_nothing_behind(
    actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray leaves it in the folder for temporary files, which may be on the disk that is full."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = actor(trial())
    steps(running, 1)

    def full(folder: str, _: object) -> None:
        assert (Path(folder) / STATE_FILE).exists()
        raise OSError("no space left")

    monkeypatch.setattr(running, "_report_class_trainable_checkpoint", full)
    with pytest.raises(OSError, match="no space left"):
        running.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("loss", "way"),
    [(loss, "load_checkpoint") for loss in LOSSES] + [("adaloss", "path"), ("adaloss_per_class", "uri")],
)
def test_going_on_equals_never_having_stopped(loss: str, way: str, actor: Actor, tmp_path: Path) -> None:
    straight = actor(trial(loss))
    expected = steps(straight)
    interrupted = actor(trial(loss))
    steps(interrupted, 1)
    folder = saved(interrupted, tmp_path / "checkpoint")

    if way == "load_checkpoint":
        resumed = actor(trial(loss))
        resumed.load_checkpoint(str(folder))
    else:
        resumed = actor(trial("softmax", trial_id="t0"))
        resumed.reset_config(trial(loss, checkpoint=str(folder) if way == "path" else folder.as_uri()))
    assert steps(resumed, EPOCHS - 1) == expected[1:]
    assert_equal(straight, resumed)


@pytest.mark.parametrize("harm", ["truncated", "empty", "missing", "no checkpoint at all", "of another trial"])
@pytest.mark.parametrize("way", ["load_checkpoint", "path"])
def test_a_broken_checkpoint_is_an_error_and_not_a_crash(harm: str, way: str, actor: Actor, tmp_path: Path) -> None:
    running = actor(trial())
    steps(running, 1)
    folder = saved(running, tmp_path / "checkpoint")
    state = folder / STATE_FILE
    match harm:
        case "truncated":
            state.write_bytes(state.read_bytes()[:-1000])
        case "empty":
            state.write_bytes(b"")
        case "missing":
            state.unlink()
        case "no checkpoint at all":
            folder = tmp_path / "nowhere"
    wanted = trial(seed=1) if harm == "of another trial" else trial()
    if way == "path":
        wanted["checkpoint"] = str(folder)
    resumed = actor(wanted)
    if way == "load_checkpoint":
        resumed.load_checkpoint(str(folder))
    result = resumed.step()
    assert "Error" in result["error"]
    assert math.isnan(result["val_accuracy"])
    resumed.reset_config(trial())
    assert "error" not in resumed.step()


def test_a_trial_that_finds_no_gpu_for_its_share_is_an_error(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = actor({**trial(), "gpus": 0.25}).step()
    assert "finds no CUDA device" in result["error"]
    assert (result["device"], result["gpus"], result["out_of_memory"]) == (None, 0.25, False)


def test_a_process_that_has_lost_its_gpu_takes_no_other_trial(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    running = actor(trial())
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    running.reset_config(trial())
    assert "error" not in running.step()

    monkeypatch.setattr(running._trainer, "train_epoch", broken)
    assert "device-side assert" in running.step()["error"]
    running.reset_config(trial())  # on a CPU nothing of it is left
    assert "error" not in running.step()

    monkeypatch.setattr(running._trainer, "train_epoch", broken)
    assert "device-side assert" in running.step()["error"]
    running._device = torch.device("cuda")
    running.reset_config(trial())
    with pytest.raises(RuntimeError, match="without its GPU"):
        running.step()
    running.cleanup()


class Hostile:
    """Pickled, it would create a file wherever it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(actor: Actor, tmp_path: Path) -> None:
    torch.save({"config": Hostile(tmp_path / "hacked")}, tmp_path / STATE_FILE)
    running = actor(trial(checkpoint=str(tmp_path)))
    assert "UnpicklingError" in running.step()["error"]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(("interval_s", "wanted"), [(0.0, [True, True, True]), (1e9, [False, False, True])])
def test_long_epochs_and_the_last_one_ask_for_a_checkpoint(interval_s: float, wanted: list[bool], actor: Actor) -> None:
    running = actor({**trial(), "checkpoint_interval_s": interval_s})
    assert [bool(running.step().get(SHOULD_CHECKPOINT)) for _ in range(EPOCHS)] == wanted


def test_rays_own_train_save_and_restore(actor: Actor, tmp_path: Path) -> None:
    expected = steps(actor(trial("adaloss")))
    running = actor(trial("adaloss"))
    assert running.train()["val_accuracy"] == expected[0]["val_accuracy"]
    saved(running, tmp_path / "checkpoint")
    resumed = actor(trial("adaloss"))
    resumed.load_checkpoint(str(tmp_path / "checkpoint"))
    assert resumed.train()["val_accuracy"] == expected[1]["val_accuracy"]
    resumed.stop()
    assert resumed._trainer is None


def test_the_data_is_frozen(data: TrialData) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.num_classes = 5  # type: ignore[misc]
