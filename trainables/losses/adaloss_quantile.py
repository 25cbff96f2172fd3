"""AdaLoss driven by a quantile of its samples' angle gaps instead of a mean difficulty."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from trainables.losses.adaloss import AdaLoss
from trainables.losses.base import require
from trainables.losses.running import best_other_cosine, signature_of


class AdaLossQuantile(AdaLoss):
    """AdaLoss whose margin rests where a given quantile of the angle gap is on target.

    a = min_{j != y} theta_j - theta_y,  d = 1 where a < a*, else 0,  tau = p

    and the equations of `AdaLoss`: q is the share of samples with a gap below a*, so that q = p, where the margin
    rests, says that the p-quantile of the gap is a*. The margin grows while that quantile is smaller and shrinks while
    it is larger. With a* = 0 it is AdaLoss with the difficulty "error" and the target p, but for ties.

    It counts how many samples lie below the target, not how far. What it stands for, and a study can refute: beside
    AdaLoss with the difficulty "gap", whose mean every outlier pulls, its margin at the end moves less and its accuracy
    falls no further when a part of the training labels is wrong (a share e of wrong labels moves q by e at most), and
    it loses less where its settings are drawn at random.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        quantile: p in (0, 1).
        target_angle_gap_rad: a* in (-pi, pi).
        **arguments: as of `AdaLoss`, without `difficulty` and `target_difficulty`.

    Raises:
        TypeError: if an argument is unknown.
        ValueError: if an argument is out of range.

    Reference:
        Ours.
    """

    __signature__ = signature_of(
        AdaLoss,
        without=["difficulty", "target_difficulty"],
        added=[
            inspect.Parameter("quantile", inspect.Parameter.KEYWORD_ONLY, annotation=float),
            inspect.Parameter("target_angle_gap_rad", inspect.Parameter.KEYWORD_ONLY, annotation=float),
        ],
    )

    def __init__(
        self, embedding_dim: int, num_classes: int, *, quantile: float, target_angle_gap_rad: float, **arguments: Any
    ) -> None:
        if unknown := {"difficulty", "target_difficulty"} & arguments.keys():
            raise TypeError(f"AdaLossQuantile takes no {', '.join(sorted(unknown))}")
        require(0.0 < quantile < 1.0, "quantile", "in (0, 1)", quantile)
        require(-math.pi < target_angle_gap_rad < math.pi, "target_angle_gap_rad", "in (-pi, pi)", target_angle_gap_rad)
        super().__init__(embedding_dim, num_classes, target_difficulty=quantile, **arguments)
        self.target_angle_gap_rad = target_angle_gap_rad

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return f"{super().extra_repr()}, target_angle_gap_rad={self.target_angle_gap_rad}"

    def _measure(self, cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        _, competence = super()._measure(cosine, labels)
        own = torch.arccos(cosine.gather(1, labels.unsqueeze(1)).squeeze(1).clamp(-1.0, 1.0))  # (B,)
        nearest_other = torch.arccos(best_other_cosine(cosine, labels).clamp(-1.0, 1.0))  # (B,)
        below = nearest_other - own < self.target_angle_gap_rad
        return below.to(cosine.dtype), competence
