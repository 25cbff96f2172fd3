"""What every loss offers, so that trials, tests and analysis treat all of them alike."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


def require(condition: bool, name: str, allowed: str, value: object) -> None:
    """Raise ValueError naming the argument and what it may be, unless `condition` holds.

    Args:
        condition: whether the value is allowed; any comparison with NaN is false, so NaN is refused too.
        name: the argument's name.
        allowed: its allowed range, in words or signs.
        value: what was given.

    Raises:
        ValueError: if `condition` is false.
    """
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def is_finite_between(value: float, low: float, high: float = math.inf) -> bool:
    """Tell whether low < value < high and the value is finite.

    Args:
        value: the number in question.
        low: exclusive lower end.
        high: exclusive upper end.
    """
    return math.isfinite(value) and low < value < high


class ClassifierLoss(nn.Module, ABC):
    """A classification head together with its loss.

    The head always computes in float32 or float64, also under autocast: bf16 rounds a cosine of 1 - 1e-3 to 1, and fp16
    one of 1 - 1e-4, after which no margin can be told from another.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.
    """

    weight: nn.Parameter  # (C, D)

    def __init__(self, embedding_dim: int, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require(embedding_dim >= 1, "embedding_dim", ">= 1", embedding_dim)
        require(num_classes >= 2, "num_classes", ">= 2", num_classes)
        require(0.0 <= label_smoothing < 1.0, "label_smoothing", "in [0, 1)", label_smoothing)
        self.embedding_dim = embedding_dim
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the training objective.

        Args:
            embeddings: (B, D), any floating type; less than float32 is raised to float32.
            labels: (B,), int64 in [0, C).

        Returns:
            The mean loss of the batch, a float32 scalar (float64 for float64 embeddings).

        Raises:
            ValueError: if the shapes do not fit.
        """

    @abstractmethod
    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the margin-free logits, for evaluation and for feedback.

        Args:
            embeddings: (B, D).

        Returns:
            (B, C), float32 (float64 for float64 embeddings).

        Raises:
            ValueError: if the shape does not fit.
        """

    @property
    def margin_rad(self) -> float | Tensor:
        """The angular margin applied now, in radians: a float, or (C,) where it is per class."""
        return 0.0

    def applied_margin_rad(self) -> Tensor | None:
        """Return the margin that the next training step applies, in radians, without waiting for the device.

        Returns:
            (1,), a copy; None for a loss without one margin that moves.
        """
        return None

    def diagnostics(self) -> dict[str, float | list[float]]:
        """Return what is worth a line in the log after an epoch, as plain Python numbers.

        A loss whose margin differs by class overrides this.
        """
        margin_rad = float(self.margin_rad)
        return {"margin_rad": margin_rad, "margin_raw_rad": margin_rad}

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _compute_dtype(self, embeddings: Tensor) -> torch.dtype:
        dtype = torch.promote_types(embeddings.dtype, self.weight.dtype)
        return torch.promote_types(dtype, torch.float32)

    def _check_embeddings(self, embeddings: Tensor) -> None:
        if embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_dim:
            raise ValueError(f"embeddings must have shape (B, {self.embedding_dim}), got {tuple(embeddings.shape)}")

    def _check_batch(self, embeddings: Tensor, labels: Tensor) -> None:
        self._check_embeddings(embeddings)
        if labels.shape != embeddings.shape[:1]:
            raise ValueError(
                f"labels must have shape ({embeddings.shape[0]},) for embeddings of shape {tuple(embeddings.shape)}, "
                f"got {tuple(labels.shape)}"
            )
