"""Everything that defines one trial, in one frozen object."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from trainables.registry import MODELS

__all__ = ["PRECISIONS", "TrialConfig"]

PRECISIONS = ("auto", "bf16", "fp16", "float32")


@dataclass(frozen=True)
class TrialConfig:
    """The configuration of one trial. Two trials with equal configurations give equal numbers on the same machine.

    Args:
        loss: a name in LOSSES; whoever builds it checks that, since LOSSES comes with torch.
        loss_args: what the loss takes beyond ``embedding_dim``, ``num_classes`` and ``label_smoothing``: numbers,
            words, and lists of them, which are kept as tuples.
        model: a name in MODELS.
        max_epochs: length of the learning-rate schedule, in epochs.
        learning_rate: peak of the one-cycle schedule for the body, for a mean loss over the batch.
        head_learning_rate_multiplier: the class weights' learning rate, as a multiple of the body's.
        weight_decay: L2 penalty on the body's convolution and linear weights, none on norms and class weights.
        label_smoothing: in [0, 1).
        momentum: of Nesterov SGD.
        warmup_fraction: part of the schedule in which the learning rate rises.
        batch_size: images a step.
        embedding_dim: size of the embedding.
        crop_padding: pixels of reflected border from which a random crop is taken; 0 for none.
        horizontal_flip: flip every image in every other epoch.
        precision: of the body; "auto" takes bf16 where the hardware computes in it. The head is always float32.
        seed: of initial weights, data order and augmentation.
    """

    loss: str
    model: str
    max_epochs: int
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.1
    head_learning_rate_multiplier: float = 1.0
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    momentum: float = 0.9
    warmup_fraction: float = 0.25
    batch_size: int = 256
    embedding_dim: int = 128
    crop_padding: int = 2
    horizontal_flip: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        # The caller may go on changing its own.
        object.__setattr__(self, "loss_args", {key: _frozen(value) for key, value in self.loss_args.items()})
        self._require(self.model in MODELS, "model", f"one of {', '.join(MODELS)}")
        for name in ("max_epochs", "batch_size", "embedding_dim", "crop_padding", "seed"):
            self._require(isinstance(getattr(self, name), int), name, "a whole number")
        self._require(self.max_epochs >= 1, "max_epochs", "at least 1")
        self._require(self.batch_size >= 2, "batch_size", "at least 2 (batch norm needs two)")
        self._require(self.embedding_dim >= 1, "embedding_dim", "at least 1")
        self._require(self.crop_padding >= 0, "crop_padding", "at least 0")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "positive and finite")
        self._require(
            0 < self.head_learning_rate_multiplier < math.inf, "head_learning_rate_multiplier", "positive and finite"
        )
        self._require(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0 and finite")
        self._require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")
        self._require(0 <= self.momentum < 1, "momentum", "in [0, 1)")
        self._require(0 <= self.warmup_fraction < 1, "warmup_fraction", "in [0, 1)")
        self._require(self.seed >= 0, "seed", "at least 0")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")

    def _require(self, holds: bool, name: str, requirement: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {requirement}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and for :meth:`from_dict`."""
        return {**asdict(self), "loss_args": {key: _plain(value) for key, value in self.loss_args.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values; an unknown key raises ValueError."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown configuration key: {', '.join(unknown)}")
        return cls(**values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
