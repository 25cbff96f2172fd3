"""A model that is loaded again gives what the trial's own gave."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.small_actors import actor_of, saved, steps, trial, trial_data
from tests.trainables.small_trials import LOSS_ARGS
from trainables.data import TrainingData
from trainables.errors import UserError
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
