"""AdaLoss: an angular margin that grows where classes are hard to separate and shrinks where separation is easy."""

import math
from typing import Any

import torch
from torch import Tensor

from trainables.losses.base import is_finite_between, require
from trainables.losses.running import Difficulty, DifficultyLoss, Taken, signature_of


class AdaLoss(DifficultyLoss):
    """Additive angular margin driven by feedback from training.

    q <- average of d,  k <- average of c,  over the samples seen                                              (1)
    m <- clip(m + f (rate_up max(q - tau, 0) / (1 - tau) - rate_down max(tau - q, 0) / tau), m_min, m_max)     (2)
    L = -log softmax(z)_y,  z_y = s psi(theta_y, k m),  z_j = s cos(theta_j) for j != y                        (3)

    d is a sample's difficulty and c its competence, 1 if the sample is nearer to its own class than to any other,
    both from margin-free cosines; f is the share of an epoch that one step is. A step uses the old margin, then updates
    it; no gradient flows into it.

    "Harder, hence a larger margin" alone is positive feedback: the margin makes it harder still, and it runs away. The
    factor k in (3) closes the loop: the margin opens as the network becomes competent, from 0 at the start, and
    closes when training suffers.

    Time is counted in epochs, by samples, so that results do not depend on the batch size. The averages halve the
    weight of what was seen `half_life_epochs` ago and are bias-corrected: the first batch counts in full. With one
    margin a class, class j's n_j samples in a batch of n stand for f (n_j / n) / p_j epochs of that class, where p_j
    is its share of all samples so far. In (2), a class in the batch moves for f epochs and a class absent from it not
    at all: batches should hold several samples a class, or its margin moves only in part of the steps.

    A batch with a value that is not finite changes nothing, and neither does evaluation.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m at the start, in [margin_min_rad, margin_max_rad].
        rate_up_rad_per_epoch: fastest growth of m, at q = 1; >= 0.
        rate_down_rad_per_epoch: fastest decline of m, at q = 0; >= 0.
        target_difficulty: tau, where m rests; in (0, 1).
        steps_per_epoch: f = 1 / steps_per_epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: f = B / samples_per_epoch, which also counts a short last batch rightly; > 0.
        margin_min_rad: lower bound of m, >= 0.
        margin_max_rad: upper bound of m, < pi.
        difficulty: "error", d = 1 - c; or "gap", d = (2 - (cos_y - max_{j != y} cos_j)) / 4.
        per_class: one margin a class (K = C) instead of one for all (K = 1).
        half_life_epochs: half-life of both averages, > 0.
        competence_gate: False applies m instead of k m in (3), for the ablation.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        The margin's form: Deng et al., arXiv:1801.07698, eq. 3. The feedback is ours.
    """

    running_margin_rad: Tensor  # (K,), m

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        rate_up_rad_per_epoch: float,
        rate_down_rad_per_epoch: float,
        target_difficulty: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        margin_min_rad: float = 0.0,
        margin_max_rad: float = 0.8,
        difficulty: Difficulty = "error",
        per_class: bool = False,
        half_life_epochs: float = 0.2,
        competence_gate: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim,
            num_classes,
            scale=scale,
            difficulty=difficulty,
            per_class=per_class,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
            label_smoothing=label_smoothing,
        )
        self._set_margin_bounds(margin_rad, margin_min_rad, margin_max_rad)
        for name, rate in (
            ("rate_up_rad_per_epoch", rate_up_rad_per_epoch),
            ("rate_down_rad_per_epoch", rate_down_rad_per_epoch),
        ):
            require(rate == 0.0 or is_finite_between(rate, 0.0), name, "finite and >= 0", rate)
        require(0.0 < target_difficulty < 1.0, "target_difficulty", "in (0, 1)", target_difficulty)
        self.rate_up_rad_per_epoch = rate_up_rad_per_epoch
        self.rate_down_rad_per_epoch = rate_down_rad_per_epoch
        self.target_difficulty = target_difficulty
        self.competence_gate = competence_gate
        self._add_state("running_margin_rad", margin_rad)

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, rate_up_rad_per_epoch={self.rate_up_rad_per_epoch}, "
            f"rate_down_rad_per_epoch={self.rate_down_rad_per_epoch}, target_difficulty={self.target_difficulty}, "
            f"difficulty={self.difficulty!r}, per_class={self.per_class}, competence_gate={self.competence_gate}"
        )

    def _set_margin_bounds(self, start_rad: float, min_rad: float, max_rad: float) -> None:
        require(0.0 <= min_rad < math.pi, "margin_min_rad", "in [0, pi)", min_rad)
        require(min_rad <= max_rad < math.pi, "margin_max_rad", f"in [margin_min_rad = {min_rad}, pi)", max_rad)
        allowed = f"in [margin_min_rad, margin_max_rad] = [{min_rad}, {max_rad}]"
        require(min_rad <= start_rad <= max_rad, "margin_rad", allowed, start_rad)
        self.margin_min_rad = min_rad
        self.margin_max_rad = max_rad

    def _raw_margins_rad(self) -> Tensor:
        return self.running_margin_rad

    def _applied_margins_rad(self) -> Tensor:
        if not self.competence_gate:
            return self.running_margin_rad
        return self.running_competence * self.running_margin_rad  # (K,)

    def _move_margins(self, taken: Taken) -> None:
        margin_rad = self.running_margin_rad + taken.epochs * self._drift_rad_per_epoch()
        margin_rad = margin_rad.clamp(self.margin_min_rad, self.margin_max_rad)
        self.running_margin_rad.copy_(torch.where(taken.moves, margin_rad, self.running_margin_rad))

    def _drift_rad_per_epoch(self) -> Tensor:
        excess = self.running_difficulty - self.target_difficulty  # (K,)
        up = self.rate_up_rad_per_epoch * excess.clamp_min(0.0) / (1.0 - self.target_difficulty)
        down = self.rate_down_rad_per_epoch * (-excess).clamp_min(0.0) / self.target_difficulty
        return up - down


class AdaLossPerClass(AdaLoss):
    """AdaLoss with one margin a class.

    The equations of `AdaLoss`, each with an index for the class.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        **arguments: as of `AdaLoss`, without `per_class`.

    Raises:
        TypeError: if an argument is unknown, or is per_class.
        ValueError: if an argument is out of range.
    """

    # Whoever asks for the parameters of this loss is told AdaLoss's.
    __signature__ = signature_of(AdaLoss, without=["per_class"])

    def __init__(self, embedding_dim: int, num_classes: int, **arguments: Any) -> None:
        super().__init__(embedding_dim, num_classes, per_class=True, **arguments)
