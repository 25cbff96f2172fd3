"""Image models: convolutions extract features, fully connected layers map them to the embedding that a loss takes.

The embedding ends in a linear layer and a batch norm with no ReLU after it. Non-negative features lie in one orthant,
where all cosines start high and a fixed angular margin easily collapses; that would be unfair to ArcFace.
"""

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["ArcFaceCNN", "ArcFaceCNN_CIFAR10", "DigitsCNN", "ResNet9"]


def _conv_bn_relu(in_channels: int, out_channels: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm and ReLU at the same size, or at half of it.

    Pooling comes before the batch norm: the norm then touches a quarter of the values, which on a CPU is a third of
    the time of such a layer, and max pooling commutes with the ReLU anyway.
    """
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _embedding(in_features: int, embedding_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_features, embedding_dim, bias=False),  # the batch norm has the bias
        nn.BatchNorm1d(embedding_dim),
    )


class _ImageModel(nn.Module):
    """Features, then embedding; subclasses build both and call :meth:`_initialise` last."""

    features: nn.Module
    embedding: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to embeddings (B, D)."""
        return cast(Tensor, self.embedding(self.features(images)))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)


class ArcFaceCNN(_ImageModel):
    """Small CNN for 28x28 grey images.

    Args:
        embedding_dim: size D of the embedding.
        width: channels of the first convolution; the others have multiples of it.
    """

    def __init__(self, embedding_dim: int = 128, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_bn_relu(1, width, pool=True),  # (B, W, 14, 14)
            _conv_bn_relu(width, 2 * width, pool=True),  # (B, 2W, 7, 7)
            _conv_bn_relu(2 * width, 4 * width, pool=True),  # (B, 4W, 3, 3)
        )
        self.embedding = _embedding(4 * width * 3 * 3, embedding_dim)
        self._initialise()


class ArcFaceCNN_CIFAR10(_ImageModel):
    """CNN for 32x32 RGB images.

    Args:
        embedding_dim: size D of the embedding.
        width: channels of the first convolution; the others have multiples of it.
    """

    def __init__(self, embedding_dim: int = 128, width: int = 64) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_bn_relu(3, width, pool=True),  # (B, W, 16, 16)
            _conv_bn_relu(width, 2 * width, pool=True),  # (B, 2W, 8, 8)
            _conv_bn_relu(2 * width, 4 * width, pool=True),  # (B, 4W, 4, 4)
            _conv_bn_relu(4 * width, 4 * width, pool=True),  # (B, 4W, 2, 2)
        )
        self.embedding = _embedding(4 * width * 2 * 2, embedding_dim)
        self._initialise()


class _EveryOther(nn.Module):
    """Half of the rows and columns."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


class DigitsCNN(_ImageModel):
    """Narrow CNN for scikit-learn's digits: 28x28 grey images that were enlarged from 8x8.

    It looks at every other row and column, where nothing of the original is lost, and has a thirtieth of ArcFaceCNN's
    multiplications: a first look on a laptop needs no more.

    Args:
        embedding_dim: size D of the embedding.
        width: channels of the first convolution; the second has twice as many.
    """

    def __init__(self, embedding_dim: int = 32, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _EveryOther(),  # (B, 1, 14, 14)
            _conv_bn_relu(1, width, pool=True),  # (B, W, 7, 7)
            _conv_bn_relu(width, 2 * width, pool=True),  # (B, 2W, 3, 3)
        )
        self.embedding = _embedding(2 * width * 3 * 3, embedding_dim)
        self._initialise()


class _Residual(nn.Module):
    """Two 3x3 layers around which the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv_bn_relu(channels, channels), _conv_bn_relu(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.layers(x))


class ResNet9(_ImageModel):
    """Nine-layer residual network for stronger results, after David Page's "How to train your ResNet".

    Args:
        embedding_dim: size D of the embedding.
        in_channels: 1 for grey images, 3 for RGB.
        width: channels of the first convolution; the others have multiples of it.
    """

    def __init__(self, embedding_dim: int = 128, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_bn_relu(in_channels, width),
            _conv_bn_relu(width, 2 * width, pool=True),
            _Residual(2 * width),
            _conv_bn_relu(2 * width, 4 * width, pool=True),
            _conv_bn_relu(4 * width, 8 * width, pool=True),
            _Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
        )
        self.embedding = _embedding(8 * width, embedding_dim)
        self._initialise()
