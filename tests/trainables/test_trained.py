"""A model that is loaded again gives what the trial's own gave."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.own_losses import GOOD
from tests.trainables.small_actors import actor_of, saved, steps, trial, trial_data
from tests.trainables.small_trials import LOSS_ARGS
from tests.trainables.untrained import write_weights
from trainables import loss_code
from trainables.data import TrainingData
from trainables.errors import UserError
from trainables.loss_code import find_loss
from trainables.losses import LOSSES
from trainables.trainable import WEIGHTS_FILE
from trainables.trained import load_model

pytestmark = pytest.mark.usefixtures("narrow_model", "one_thread")


@pytest.fixture
def trained(digits: TrainingData, tmp_path: Path) -> Any:
    """Trains a loss and returns its actor and the file of its weights."""

    def train(loss: str) -> tuple[Any, Path]:
        running = actor_of(trial_data(digits))(trial(loss))
        steps(running)
        return running, saved(running, tmp_path / loss) / WEIGHTS_FILE

    return train


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss in LOSS_ARGS])
def test_logits_are_those_of_the_trial(trained: Any, digits: TrainingData, loss: str) -> None:
    running, path = trained(loss)
    model = load_model(path)
    images = torch.from_numpy(digits.validation.images[:60].copy())
    trainer = running._trainer
    expected = [
        trainer.loss.logits(embeddings) for embeddings, _ in trainer._embedded(trainer.model, trainer._validation)
    ]
    trainer.loss.eval()
    torch.testing.assert_close(model(images), torch.cat(expected), atol=2e-4, rtol=2e-4)
    labels = torch.from_numpy(digits.validation.labels[:60])
    accuracy = (model(images).argmax(1) == labels).double().mean().item()
    assert math.isclose(accuracy, running._record["val_accuracy"])


@pytest.mark.parametrize(("names", "are_photos"), [((), False), (tuple("abcdefghij"), True)])
def test_the_weights_say_what_the_classes_are_called_and_how_images_were_made(
    digits: TrainingData, tmp_path: Path, names: tuple[str, ...], are_photos: bool
) -> None:
    data = dataclasses.replace(trial_data(digits), class_names=names, are_photos=are_photos)
    running = actor_of(data)(trial("softmax"))
    steps(running)
    model = load_model(saved(running, tmp_path / "trial") / WEIGHTS_FILE)
    assert (model.class_names, model.are_photos, model.num_classes) == (names, are_photos, 10)


def test_weights_from_before_they_had_names_are_loaded(tmp_path: Path) -> None:
    model = load_model(write_weights(tmp_path / "old.pt", classes=7))
    assert (model.class_names, model.are_photos, model.num_classes) == ((), None, 7)


def test_names_that_are_not_those_of_the_classes_are_refused(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.pt", classes=3, class_names=["a", "b"])
    with pytest.raises(UserError, match="2 class names for 3 classes"):
        load_model(path)


def test_images_of_another_shape_or_type_are_refused(trained: Any) -> None:
    model = load_model(trained("softmax")[1])
    for images in (torch.zeros(2, 28, 28, 1), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="needs uint8 images"):
            model(images)


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_what_holds_no_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "winner.pt"
    if content is None:
        torch.save({"config": {}}, path)
    else:
        path.write_bytes(content)
    for place in (path, tmp_path / "missing.pt"):
        with pytest.raises(UserError, match=f"{place}: no weights of a trained model"):
            load_model(place)


# --- Losses of a user's own ------------------------------------------------------------------------------------------


@pytest.fixture
def own(
    digits: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, torch.Tensor, str]]:
    """Weights of a loss in a file, the logits that its trial gave, and its reference; this process knows it no more."""
    before = dict(LOSSES)
    monkeypatch.setattr(loss_code, "_registered", {})
    (tmp_path / "mine.py").write_text(GOOD)
    reference = f"{tmp_path}/mine.py:Mine"
    code, _ = find_loss(reference)
    data = dataclasses.replace(trial_data(digits), losses=(code,))
    running = actor_of(data)(trial("mine", loss_args={"scale": 8.0, "margin": 0.1}))
    steps(running)
    trainer = running._trainer
    assert trainer is not None
    trainer.loss.eval()
    logits = [trainer.loss.logits(found) for found, _ in trainer._embedded(trainer.model, trainer._validation)]
    LOSSES.clear()
    LOSSES.update(before)
    yield saved(running, tmp_path / "trial") / WEIGHTS_FILE, torch.cat(logits), reference
    LOSSES.clear()
    LOSSES.update(before)


def test_a_model_of_ones_own_loss_is_loaded_with_its_code(own: Any, digits: TrainingData) -> None:
    path, expected, reference = own
    model = load_model(path, loss=reference)
    images = torch.from_numpy(digits.validation.images[: len(expected)].copy())
    torch.testing.assert_close(model(images), expected, atol=2e-4, rtol=2e-4)


def test_weights_have_no_code_run_that_nobody_names_and_none_that_is_other(own: Any, tmp_path: Path) -> None:
    path, _, reference = own
    with pytest.raises(UserError, match=r"runs only where you name it: add --loss .*mine.py:Mine"):
        load_model(path)
    (tmp_path / "mine.py").write_text(GOOD.replace("0.4", "0.5"))
    with pytest.raises(UserError, match=r"it is not the code with which .* was trained"):
        load_model(path, loss=reference)
    with pytest.raises(UserError, match="of this project; leave the option out"):
        load_model(write_weights(tmp_path / "ours.pt"), loss=reference)
