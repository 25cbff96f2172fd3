"""Shared by the tests of the losses: one way to build each loss, one small batch."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.small_trials import first_loss_args
from trainables.losses import LOSSES, ClassifierLoss

ANGULAR: dict[str, Any] = {"scale": 8.0}
FIXED_MARGIN: dict[str, Any] = {**ANGULAR, "margin_rad": 0.3}
ADAPTIVE: dict[str, Any] = {
    **FIXED_MARGIN,
    "rate_up_rad_per_epoch": 0.5,
    "rate_down_rad_per_epoch": 0.4,
    "target_difficulty": 0.2,
    "steps_per_epoch": 10,
}
_KNOWN: dict[str, dict[str, Any]] = {
    "softmax": {},
    "norm_softmax": ANGULAR,
    "arcface": FIXED_MARGIN,
    "arcface_schedule": {**ANGULAR, "margins_rad": (0.0, 0.3, 0.1)},
    "adaloss": ADAPTIVE,
    "adaloss_per_class": ADAPTIVE,
    "adaloss_relative_permuted": {**FIXED_MARGIN, "strength": 0.5, "steps_per_epoch": 10},
}


def _arguments(loss: str) -> dict[str, Any]:
    """Return the arguments of a loss; of one that is not known here those of its search space's first point."""
    if loss in _KNOWN:
        return _KNOWN[loss]
    wants_steps = "steps_per_epoch" in inspect.signature(LOSSES[loss]).parameters
    return {**first_loss_args(loss), **({"steps_per_epoch": 10} if wants_steps else {})}


ARGUMENTS = {loss: _arguments(loss) for loss in LOSSES}

LossFactory = Callable[..., ClassifierLoss]


@pytest.fixture(autouse=True)
def _always_one_thread(one_thread: None) -> None:
    """All losses are tested on one thread."""


@pytest.fixture
def make_loss() -> LossFactory:
    """Return build(name, seed=0, **changed arguments)."""

    def build(name: str, seed: int = 0, **changes: Any) -> ClassifierLoss:
        torch.manual_seed(seed)
        arguments = {"embedding_dim": 6, "num_classes": 5, **ARGUMENTS[name], **changes}
        return LOSSES[name](**{key: value for key, value in arguments.items() if value is not ...})

    return build


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return draw(size, dim, classes, seed, dtype): embeddings that ask for a gradient, and labels."""

    def draw(
        size: int = 16, dim: int = 6, classes: int = 5, seed: int = 1, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        embeddings = 3.0 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (size,), generator=generator)
        return embeddings.to(dtype).requires_grad_(), labels

    return draw
