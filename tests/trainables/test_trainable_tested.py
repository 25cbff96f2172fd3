"""Trials that are tested, once and after the last epoch, and trials that nobody validates."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.small_actors import EPOCHS, Actor, actor_of, saved, steps, trial, trial_data, weights
from trainables.data import TrainingData
from trainables.trainable import SHOULD_CHECKPOINT, STATE_FILE, MarginTrainable
from trainables.training import Trainer
from trainables.trial_data import TrialData
from tune.records.schema import PLACE_FIELDS

EXAMINED = {"test_accuracy", "test_loss", "confusion", "class_accuracy", "correct_bits", "angle_histograms"} | {
    "ece",
    "mean_confidence",
}
VALIDATED = {"val_accuracy", "val_loss"}

pytestmark = pytest.mark.usefixtures("narrow_model", "restored_torch_settings", "quick_collections")


@pytest.fixture(scope="module")
def data(digits: TrainingData) -> TrialData:
    return trial_data(digits, judged=False, tested=True)


@pytest.fixture
def actor(data: TrialData) -> Actor:
    return actor_of(data)


class Spied:
    """Images whose every use is noted, with the epochs that are trained by then."""

    def __init__(self, running: MarginTrainable) -> None:
        self.uses: list[tuple[int, str]] = []
        self._running, self._images = running, running._placed.test
        running._placed.test = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        assert self._running._trainer is not None
        self.uses.append((self._running._trainer.epoch, name))
        return getattr(self._images, name)


def poison(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the last step of an epoch ruin the weights, after its loss was taken."""
    train_epoch = Trainer.train_epoch

    def ruinous(self: Trainer) -> dict[str, Any]:
        result = train_epoch(self)
        if self.epoch == epoch:
            for parameter in self.model.parameters():
                parameter.data.fill_(math.nan)
        return result

    monkeypatch.setattr(Trainer, "train_epoch", ruinous)


# --- The test split --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judged", [True, False])
def test_the_test_images_are_touched_after_the_last_epoch_alone(judged: bool, digits: TrainingData) -> None:
    running = actor_of(trial_data(digits, judged=judged, tested=True))(trial("adaloss"))
    spied = Spied(running)
    passes: list[tuple[int, int]] = []  # epoch, images
    trainer = running._trainer
    assert trainer is not None

    def note(model: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if not model.training:
            passes.append((trainer.epoch, len(inputs[0])))

    trainer.model.register_forward_pre_hook(note)
    steps(running)
    # Once for the trained model and once for the one that it began as.
    assert spied.uses == [(EPOCHS, "batches")] * 2
    validations = [(epoch, 60) for epoch in range(EPOCHS)] if judged else []
    assert passes == [*validations, (EPOCHS, 100)]


def test_the_last_epoch_alone_reports_the_examination(actor: Actor) -> None:
    results = steps(actor(trial("adaloss")))
    assert [set(result) & EXAMINED for result in results] == [set(), set(), EXAMINED]
    assert len(results[-1]["confusion"]) == 10
    assert sum(map(sum, results[-1]["confusion"])) == 100
    assert [results[-1]["epoch"], results[-1]["test_accuracy"] > 0.1] == [EPOCHS, True]


def test_training_is_the_same_with_and_without_test_and_validation(digits: TrainingData) -> None:
    curves = []
    for judged, tested in ((True, False), (True, True), (False, True), (False, False)):
        running = actor_of(trial_data(digits, judged=judged, tested=tested))(trial("adaloss"))
        results = steps(running)
        assert all((set(result) >= VALIDATED) is judged for result in results)
        assert (set(results[-1]) >= EXAMINED) is tested
        curves.append([{key: value for key, value in r.items() if key not in VALIDATED | EXAMINED} for r in results])
        curves[-1].append({"weights": [tensor.tolist() for tensor in weights(running)]})
    assert curves[0] == curves[1] == curves[2] == curves[3]


def test_each_trial_of_an_actor_is_examined(actor: Actor) -> None:
    expected = steps(actor(trial("softmax", seed=1)))
    reused = actor(trial("adaloss"))
    steps(reused)
    reused.reset_config(trial("softmax", seed=1))
    assert steps(reused) == expected
    assert set(expected[-1]) >= EXAMINED


def test_the_test_images_stay_where_they_are(actor: Actor, data: TrialData) -> None:
    running = actor(trial())
    assert running._placed.test is not None
    assert data.test_images is not None
    assert running._placed.test.images.data_ptr() == data.test_images.ctypes.data


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize("missing", ["images", "labels"])
def test_images_and_labels_come_together(part: str, missing: str, digits: TrainingData) -> None:
    whole = vars(trial_data(digits, tested=True))
    with pytest.raises(ValueError, match=f"{part} images and {part} labels must be given together"):
        TrialData(**{**whole, f"{part}_{missing}": None})


# --- What goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, EPOCHS])
def test_a_diverged_trial_is_not_examined(epochs: int, actor: Actor) -> None:
    running = actor(trial("arcface", learning_rate=1e30, max_epochs=epochs, batch_size=16))
    spied = Spied(running)
    result = steps(running, epochs)[-1]
    assert math.isnan(result["train_accuracy"])
    assert not set(result) & (EXAMINED | VALIDATED | {"error"})
    assert spied.uses == []


def test_weights_ruined_by_the_last_step_have_no_accuracy(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, EPOCHS)
    result = steps(actor(trial()))[-1]
    assert math.isfinite(result["train_loss"])
    assert math.isnan(result["test_accuracy"])
    assert math.isnan(result["test_loss"])
    assert not set(result) & {"confusion", "angle_histograms"}


def test_weights_ruined_before_it_show_in_the_next_epoch(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, EPOCHS - 1)
    results = steps(actor(trial()))
    assert [math.isnan(result["train_accuracy"]) for result in results] == [False, False, True]


def test_an_examination_that_breaks_is_the_trials_error(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    running = actor(trial())
    steps(running, EPOCHS - 1)
    monkeypatch.setattr(Trainer, "examine", lambda self, test: 1 / 0)
    broken = running.step()
    assert "ZeroDivisionError" in broken["error"]
    assert not any("accuracy" in key for key in broken)  # nobody validates, so there is no accuracy to be missing
    assert broken["epoch"] == EPOCHS
    assert running.step() == broken


# --- Going on after the last epoch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["load_checkpoint", "path"])
@pytest.mark.parametrize("loss", ["softmax", "adaloss", "adaloss_per_class"])
def test_a_finished_trial_reports_again_and_trains_no_further(
    loss: str, way: str, actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = actor(trial(loss))
    lost = [running.step() for _ in range(EPOCHS)][-1]
    assert lost[SHOULD_CHECKPOINT] is True  # and again in the repeated ones
    folder = saved(running, tmp_path / "checkpoint")
    if way == "load_checkpoint":
        resumed = actor(trial(loss))
        resumed.load_checkpoint(str(folder))
    else:
        resumed = actor(trial("arcface", trial_id="t0", seed=3))
        resumed.step()
        resumed.reset_config(trial(loss, checkpoint=str(folder)))
    monkeypatch.setattr(Trainer, "train_epoch", lambda self: pytest.fail("it trained"))
    # The clock's numbers too: they are those of the epoch that was trained.
    assert resumed.step() == lost
    assert resumed.step() == lost
    assert all(torch.equal(a, b) for a, b in zip(weights(running), weights(resumed), strict=True))


@pytest.mark.parametrize("way", ["load_checkpoint", "path"])
def test_a_finished_trial_of_a_search_reports_again(way: str, digits: TrainingData, tmp_path: Path) -> None:
    actor = actor_of(trial_data(digits))
    running = actor(trial("adaloss"))
    lost = steps(running)[-1]
    folder = saved(running, tmp_path / "checkpoint")
    resumed = actor(trial("adaloss", checkpoint=str(folder) if way == "path" else None))
    if way == "load_checkpoint":
        resumed.load_checkpoint(str(folder))
    assert steps(resumed, 1) == [lost]
    assert lost["val_accuracy"] > 0.1


def test_a_trial_that_diverged_at_its_end_stays_diverged(actor: Actor, tmp_path: Path) -> None:
    running = actor(trial("arcface", learning_rate=1e30, batch_size=16))
    lost = steps(running)[-1]
    resumed = actor(trial("arcface", learning_rate=1e30, batch_size=16))
    resumed.load_checkpoint(str(saved(running, tmp_path / "checkpoint")))
    again = resumed.step()
    assert again["epoch"] == lost["epoch"] == EPOCHS
    assert math.isnan(again["train_accuracy"])
    assert not set(again) & EXAMINED


def test_a_checkpoint_holds_the_newest_record_and_no_code(actor: Actor, tmp_path: Path) -> None:
    running = actor(trial("adaloss"))
    result = running.step()
    state = torch.load(saved(running, tmp_path / "checkpoint") / STATE_FILE, weights_only=True)
    elsewhere = {SHOULD_CHECKPOINT, *PLACE_FIELDS}  # where it ran is of the process, not of the epoch
    assert state["record"] == {key: value for key, value in result.items() if key not in elsewhere}
