"""Margins by class that rise with difficulty, stay, and fall back where a class is beyond reach."""

import math

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.running import Difficulty, DifficultyLoss


class AdaLossTrapezoid(DifficultyLoss):
    """Additive angular margin by class, a trapezoid of the class's difficulty.

    q_c <- average of d over the samples of class c                                                    (1)
    m_c = m min(1, q_c / q_1, max(0, q_3 - q_c) / (q_3 - q_2))                                         (2)
    L = -log softmax(z)_y,  z_y = s psi(theta_y, m_y),  z_j = s cos(theta_j) for j != y                (3)

    The margin is 0 for a class that is perfectly easy, rises to m at q_1, stays until q_2, and is back at 0 from q_3
    on: there the network has nothing to sharpen yet. It is a function of the difficulty, not a sum of steps, so that it
    cannot wind up; where it makes a class too hard it falls by itself. Before a class is seen it has none.

    What it stands for, and a study can refute: on hard data, where AdaLoss's margin runs to its bound (CIFAR-10, with
    high rates and a low target, for some seeds), no configuration of this one trains more than 5 pp behind ArcFace of
    the same scale and margin.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m, of the plateau, in [0, pi).
        plateau_from: q_1 in (0, 1).
        plateau_until: q_2 in [q_1, 1).
        zero_from: q_3 in (q_2, 1].
        steps_per_epoch: a step is 1 / steps_per_epoch of an epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: a step is B / samples_per_epoch of an epoch; > 0.
        difficulty: "error" or "gap", as of `AdaLoss`.
        half_life_epochs: half-life of the averages, > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        Ours.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        plateau_from: float,
        plateau_until: float,
        zero_from: float,
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
        require(0.0 <= margin_rad < math.pi, "margin_rad", "in [0, pi)", margin_rad)
        require(0.0 < plateau_from < 1.0, "plateau_from", "in (0, 1)", plateau_from)
        allowed = f"in [plateau_from = {plateau_from}, 1)"
        require(plateau_from <= plateau_until < 1.0, "plateau_until", allowed, plateau_until)
        require(plateau_until < zero_from <= 1.0, "zero_from", f"in (plateau_until = {plateau_until}, 1]", zero_from)
        self._plateau_rad = float(margin_rad)
        self.plateau_from = plateau_from
        self.plateau_until = plateau_until
        self.zero_from = zero_from

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, margin_rad={self._plateau_rad}, plateau_from={self.plateau_from}, "
            f"plateau_until={self.plateau_until}, zero_from={self.zero_from}, difficulty={self.difficulty!r}"
        )

    def _applied_margins_rad(self) -> Tensor:
        rising = self.running_difficulty / self.plateau_from  # (C,)
        falling = (self.zero_from - self.running_difficulty) / (self.zero_from - self.plateau_until)  # (C,)
        return self._plateau_rad * torch.minimum(rising, falling).clamp(0.0, 1.0)
