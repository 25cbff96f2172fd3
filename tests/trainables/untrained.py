"""Models as a run leaves them, but for the training: what they are used for does not ask how good they are."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.trainables.small_trials import LOSS_ARGS
from trainables.config import TrialConfig
from trainables.registry import MODELS, build_model
from trainables.trained import TrainedModel, load_model
from trainables.training import build_loss

MEAN, STD = (0.2, 0.4, 0.6), (0.3, 0.2, 0.5)

Shape = tuple[int, int, int]


def write_weights(
    path: Path, model: str = "DigitsCNN", shape: Shape = (28, 28, 1), *, classes: int = 3, **known: Any
) -> Path:
    """Write weights as the trainable does; without further keywords, as it did before it recorded classes' names."""
    torch.manual_seed(1)
    loss = known.pop("loss", "arcface")
    config = TrialConfig(
        loss=loss, loss_args=LOSS_ARGS[loss], model=model, max_epochs=1, embedding_dim=MODELS[model].embedding_dim
    )
    body, head = build_model(model, shape, config.embedding_dim), build_loss(config, classes, steps_per_epoch=1)
    _settle(body, shape)
    channels = shape[2]
    data = {"image_shape": list(shape), "mean": list(MEAN[:channels]), "std": list(STD[:channels])}
    state = {
        "config": config.to_dict(),
        "epoch": 1,
        "model": body.state_dict(),
        "loss": head.state_dict(),
        "data": {**data, "num_classes": classes, **known},
    }
    torch.save(state, path)
    return path


def untrained(path: Path, *args: Any, **known: Any) -> TrainedModel:
    """Write weights and load them."""
    return load_model(write_weights(path, *args, **known))


def _settle(body: nn.Module, shape: Shape) -> None:
    """Give the batch norms statistics other than those they begin with."""
    height, width, channels = shape
    with torch.no_grad():
        for _ in range(3):
            body(torch.randn(32, channels, height, width))
