"""Small trials on the digits: what the tests of training have in common."""

from typing import Any

import torch
from optuna.trial import FixedTrial

from search_spaces import SEARCH_SPACES
from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.data import TrainingData
from trainables.losses import LOSSES
from trainables.models import ArcFaceCNN
from trainables.registry import MODELS, ModelSpec
from trainables.training import Trainer

CPU = torch.device("cpu")
ANGULAR: dict[str, Any] = {"scale": 8.0}
FIXED = {**ANGULAR, "margin_rad": 0.2}
ADAPTIVE = {**FIXED, "rate_up_rad_per_epoch": 0.5, "rate_down_rad_per_epoch": 0.5, "target_difficulty": 0.1}
_KNOWN: dict[str, dict[str, Any]] = {
    "softmax": {},
    "norm_softmax": ANGULAR,
    "arcface": FIXED,
    "arcface_schedule": {**ANGULAR, "margins_rad": [0.0, 0.1, 0.2, 0.15]},
    "adaloss": ADAPTIVE,
    "adaloss_per_class": ADAPTIVE,
    "adaloss_relative_permuted": {**FIXED, "strength": 0.5},
}


def first_loss_args(loss: str) -> dict[str, Any]:
    """Return the arguments that a loss has in the first point of its search space."""
    space = SEARCH_SPACES[loss]
    return dict(space.suggest(FixedTrial(space.first_points[0]))["loss_args"])  # type: ignore[arg-type]


LOSS_ARGS = {loss: _KNOWN[loss] if loss in _KNOWN else first_loss_args(loss) for loss in LOSSES}
TIMES = ("seconds", "images_per_s")

# ArcFaceCNN with a quarter of its channels: what is asked of these trials does not depend on how much they compute.
NARROW = ModelSpec(lambda dim, _: ArcFaceCNN(dim, width=8), MODELS["ArcFaceCNN"].image_shapes, 0.125)


def resident(digits: TrainingData, part: str, count: int, device: torch.device) -> ResidentImages:
    split, spec = getattr(digits, part), digits.spec
    return ResidentImages(split.images[:count], split.labels[:count], spec.mean, spec.std, device)


def trainer_of(
    digits: TrainingData,
    loss: str = "arcface",
    *,
    count: int = 150,
    judged: bool = True,
    device: torch.device = CPU,
    **changes: Any,
) -> Trainer:
    settings = {"max_epochs": 4, "batch_size": 32, "embedding_dim": 16, "precision": "float32", **changes}
    config = TrialConfig(loss=loss, **{"model": "narrow", "loss_args": LOSS_ARGS[loss], **settings})
    validation = resident(digits, "validation", 100, device) if judged else None
    return Trainer(config, resident(digits, "train", count, device), validation, num_classes=10)


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in TIMES}


def run(trainer: Trainer, epochs: int) -> list[dict[str, Any]]:
    return [numbers(trainer.train_epoch()) for _ in range(epochs)]


def assert_same(first: Any, second: Any, where: str = "state") -> None:
    """Compare nested states bit by bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    else:
        assert first == second, where
