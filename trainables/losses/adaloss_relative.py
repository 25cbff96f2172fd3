"""Margins by class whose mean is fixed: only how they are spread over the classes adapts."""

import math
from typing import Any

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.running import Difficulty, DifficultyLoss, signature_of


class AdaLossRelative(DifficultyLoss):
    """Additive angular margin by class, from a class's difficulty relative to the mean over classes.

    q_c <- average of d over the samples of class c,  e_c = q_c - mean of q                            (1)
    m_c = m (1 + b e_c / max(mean of q, max_c |e_c|))                                                  (2)
    L = -log softmax(z)_y,  z_y = s psi(theta_y, m_y),  z_j = s cos(theta_j) for j != y                (3)

    The mean of m_c over classes is m whatever the difficulties are, and each m_c lies in [0, 2 m]. b > 0 gives harder
    classes the larger margin, b < 0 the smaller; b = 0 is ArcFace. A class never seen has m, and is in no mean.

    What it stands for, and a study can refute: if adapting by class helps, it beats the tuned ArcFace, and it beats
    `AdaLossRelativePermuted`, which has the same margins on the wrong classes. If the control is as good, it is not the
    adaptation that helps.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m, in [0, pi / 2).
        strength: b, in [-1, 1].
        steps_per_epoch: a step is 1 / steps_per_epoch of an epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: a step is B / samples_per_epoch of an epoch; > 0.
        difficulty: "error" or "gap", as of `AdaLoss`.
        half_life_epochs: half-life of the averages, > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        Ours; that margins differ by class, from its difficulty, is also what KappaFace does (arXiv:2201.07394).
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        strength: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        difficulty: Difficulty = "error",
        half_life_epochs: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim,
            num_classes,
            scale=scale,
            difficulty=difficulty,
            per_class=True,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
            label_smoothing=label_smoothing,
        )
        require(0.0 <= margin_rad < math.pi / 2.0, "margin_rad", "in [0, pi / 2)", margin_rad)
        require(-1.0 <= strength <= 1.0, "strength", "in [-1, 1]", strength)
        self._mean_margin_rad = float(margin_rad)
        self.strength = strength

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, margin_rad={self._mean_margin_rad}, strength={self.strength}, "
            f"difficulty={self.difficulty!r}"
        )

    def _applied_margins_rad(self) -> Tensor:
        seen = (self.epochs_seen > 0.0).to(self.running_difficulty.dtype)  # (C,)
        mean = (seen * self.running_difficulty).sum() / seen.sum().clamp_min(1.0)
        excess = seen * (self.running_difficulty - mean)  # (C,)
        unit = torch.maximum(mean, excess.abs().max())
        relative = torch.where(unit > 0.0, excess / unit, 0.0)  # (C,), in [-1, 1]
        return self._mean_margin_rad * (1.0 + self.strength * relative)


class AdaLossRelativePermuted(AdaLossRelative):
    """The control of `AdaLossRelative`: each class gets the margin that another class should have.

    m'_{p(c)} = m_c,  p a cycle through all classes, drawn when the loss is built

    The margins are spread as widely, and move as they would; they only say nothing of the class that has them. No class
    keeps its own. The cycle comes from torch's global generator, after the class weights: every seed has another.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        **arguments: as of `AdaLossRelative`.

    Raises:
        TypeError: if an argument is unknown.
        ValueError: if an argument is out of range.

    Reference:
        Ours.
    """

    __signature__ = signature_of(AdaLossRelative)

    permutation: Tensor  # (C,), int64: whose margin a class has

    def __init__(self, embedding_dim: int, num_classes: int, **arguments: Any) -> None:
        super().__init__(embedding_dim, num_classes, **arguments)
        order = torch.randperm(num_classes)
        permutation = torch.empty_like(order)
        permutation[order] = order.roll(1)
        self.register_buffer("permutation", permutation)

    def _applied_margins_rad(self) -> Tensor:
        return super()._applied_margins_rad()[self.permutation]
