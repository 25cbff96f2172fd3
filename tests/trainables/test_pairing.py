"""What makes a comparison paired: a seed gives every loss the same start and the same batches, another seed others."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.small_actors import EPOCHS, actor_of, trial, trial_data
from tests.trainables.small_trials import LOSS_ARGS, NARROW, trainer_of
from trainables.data import TrainingData, load_training_data
from trainables.losses import LOSSES, MarginSoftmaxLoss
from trainables.registry import MODELS
from trainables.training import Trainer

PROJECT = Path(__file__).parents[2]
MARGIN_LOSSES = [name for name, loss in LOSSES.items() if issubclass(loss, MarginSoftmaxLoss)]

# What losses are tuned in may differ between them, as it does between winners of a search.
TUNED: dict[str, dict[str, Any]] = {loss: {} for loss in LOSSES} | {
    "softmax": {"learning_rate": 0.2, "label_smoothing": 0.1},
    "norm_softmax": {"learning_rate": 0.03, "weight_decay": 0.01},
    "arcface": {"head_learning_rate_multiplier": 3.0, "loss_args": {"scale": 16.0, "margin_rad": 0.5}},
    "arcface_schedule": {"label_smoothing": 0.1},
    "adaloss": {"learning_rate": 0.02, "weight_decay": 0.0},
    "adaloss_per_class": {"learning_rate": 0.1, "head_learning_rate_multiplier": 0.5},
}

pytestmark = pytest.mark.usefixtures("narrow_model", "one_thread", "restored_torch_settings", "quick_collections")


class Observed:
    """What a trainer starts from and trains on; attach it before the first epoch."""

    def __init__(self, trainer: Trainer) -> None:
        self.body = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        self.class_weight = trainer.loss.weight.detach().clone()
        self.images: list[torch.Tensor] = []  # (B, C, H, W), a batch an entry
        self.labels: list[torch.Tensor] = []  # (B,)
        trainer.model.register_forward_pre_hook(self._on_images)
        trainer.loss.register_forward_pre_hook(lambda _, inputs: self.labels.append(inputs[1].clone()))

    def _on_images(self, model: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if model.training:
            self.images.append(inputs[0].clone())

    def digests(self) -> dict[str, str]:
        """Return a digest of every bit, by part."""
        parts = {"body": list(self.body.values()), "images": self.images, "labels": self.labels}
        return {name: digest(*tensors) for name, tensors in parts.items()}


def digest(*tensors: torch.Tensor) -> str:
    joined = hashlib.sha256()
    for tensor in tensors:
        joined.update(tensor.contiguous().numpy().tobytes())
    return joined.hexdigest()


def observe(digits: TrainingData, loss: str, seed: int) -> Observed:
    trainer = trainer_of(digits, loss, seed=seed, horizontal_flip=True, **TUNED[loss])
    observed = Observed(trainer)
    for _ in range(3):
        trainer.train_epoch()
    return observed


def observe_an_actors(running: Any) -> dict[str, str]:
    observed = Observed(running._trainer)
    for _ in range(EPOCHS):
        assert "error" not in running.step()
    return observed.digests()


def print_what_a_fresh_process_sees(loss: str, seed: int) -> None:
    """Print digests as JSON; called in another process."""
    MODELS["narrow"] = NARROW
    actor = actor_of(trial_data(load_training_data("digits", None), judged=False))
    print(json.dumps(observe_an_actors(actor(trial(loss, seed=seed, horizontal_flip=True, **TUNED[loss])))))


def test_the_cases_are_all_losses() -> None:
    assert set(TUNED) == set(LOSSES) == set(LOSS_ARGS)
    assert set(MARGIN_LOSSES) == set(LOSSES) - {"softmax", "mr2"}


@pytest.mark.parametrize("seed", [0, 5])
def test_a_seed_gives_every_loss_the_same_start_and_batches(seed: int, digits: TrainingData) -> None:
    observed = {loss: observe(digits, loss, seed) for loss in LOSSES}
    assert (
        [len(o.images) for o in observed.values()] == [len(o.labels) for o in observed.values()] == [12] * len(LOSSES)
    )
    assert len({digest(*images.unbind()) for images in observed["softmax"].images}) == 12  # each epoch its own
    reference = observed["softmax"].digests()
    for loss in LOSSES:
        assert observed[loss].digests() == reference, loss
    for loss in MARGIN_LOSSES:
        assert torch.equal(observed[loss].class_weight, observed["arcface"].class_weight), loss


def test_another_seed_gives_others(digits: TrainingData) -> None:
    first, other = observe(digits, "arcface", 5), observe(digits, "arcface", 6)
    assert not torch.equal(first.class_weight, other.class_weight)
    drawn = [key for key, value in first.body.items() if value.dim() > 1]
    assert len(drawn) == 4
    assert not any(torch.equal(first.body[key], other.body[key]) for key in drawn)
    for ours, theirs in zip(first.images, other.images, strict=True):
        assert not torch.equal(ours, theirs)
    for ours, theirs in zip(first.labels, other.labels, strict=True):
        assert not torch.equal(ours, theirs)


def test_an_actor_in_a_fresh_process_sees_what_a_reused_one_does_here(digits: TrainingData) -> None:
    call = "from tests.trainables.test_pairing import *; print_what_a_fresh_process_sees('adaloss', 5)"
    fresh = subprocess.run([sys.executable, "-c", call], cwd=PROJECT, capture_output=True, text=True)
    assert fresh.returncode == 0, fresh.stderr
    # Here with validation, after another trial, and for another loss.
    reused = actor_of(trial_data(digits))(trial("softmax", trial_id="t0", seed=1))
    reused.step()
    reused.reset_config(trial("arcface", seed=5, horizontal_flip=True, **TUNED["arcface"]))
    assert observe_an_actors(reused) == json.loads(fresh.stdout.splitlines()[-1])
