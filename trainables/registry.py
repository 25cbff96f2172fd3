"""The models that a trial may have, by name. Nothing here imports torch, so that names can be checked at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import UserError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "ModelSpec", "build_model", "default_model"]


@dataclass(frozen=True)
class ModelSpec:
    """A model and the images that it accepts.

    Args:
        build: makes the model from (embedding_dim, in_channels).
        image_shapes: accepted shapes (H, W, C).
        gpus_per_trial: the share of a GPU that one trial of it fills with work; its memory may ask for more.
        embedding_dim: size of the embedding that trials of a search have it make.
    """

    build: "Callable[[int, int], nn.Module]"
    image_shapes: tuple[tuple[int, int, int], ...]
    gpus_per_trial: float
    embedding_dim: int = 128


def _arcface_cnn(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import ArcFaceCNN

    return ArcFaceCNN(embedding_dim)


def _arcface_cnn_cifar10(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import ArcFaceCNN_CIFAR10

    return ArcFaceCNN_CIFAR10(embedding_dim)


def _arcface_cnn_w24(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import ArcFaceCNN

    return ArcFaceCNN(embedding_dim, width=24)


def _arcface_cnn_cifar10_w24(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import ArcFaceCNN_CIFAR10

    return ArcFaceCNN_CIFAR10(embedding_dim, width=24)


def _digits_cnn(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import DigitsCNN

    return DigitsCNN(embedding_dim)


def _resnet9(embedding_dim: int, in_channels: int) -> "nn.Module":
    from trainables.models import ResNet9

    return ResNet9(embedding_dim, in_channels)


_GREY = (28, 28, 1)
_RGB = (32, 32, 3)

MODELS: dict[str, ModelSpec] = {
    "ArcFaceCNN": ModelSpec(_arcface_cnn, (_GREY,), 0.125),
    "ArcFaceCNN_w24": ModelSpec(_arcface_cnn_w24, (_GREY,), 0.125),
    "ArcFaceCNN_CIFAR10": ModelSpec(_arcface_cnn_cifar10, (_RGB,), 0.25),
    "ArcFaceCNN_CIFAR10_w24": ModelSpec(_arcface_cnn_cifar10_w24, (_RGB,), 0.125),
    "DigitsCNN": ModelSpec(_digits_cnn, (_GREY,), 0.125, embedding_dim=32),
    "resnet9": ModelSpec(_resnet9, (_GREY, _RGB), 0.5),
}


def default_model(image_shape: tuple[int, int, int]) -> str:
    """Return the name of the first model that takes images of this shape (H, W, C)."""
    for name, spec in MODELS.items():
        if image_shape in spec.image_shapes:
            return name
    accepted = ", ".join("x".join(map(str, shape)) for shape in (_GREY, _RGB))
    raise UserError(f"no model takes {'x'.join(map(str, image_shape))} images; resize them to one of {accepted}")


def build_model(name: str, image_shape: tuple[int, int, int], embedding_dim: int) -> "nn.Module":
    """Build a model from the registry with freshly drawn weights, from torch's global generator."""
    return MODELS[name].build(embedding_dim, image_shape[2])
