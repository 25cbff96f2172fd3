"""ArcFace whose margin follows a given schedule, step by step: a control for what adapts."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.margin_softmax import MarginSoftmaxLoss


class ArcFaceScheduleLoss(MarginSoftmaxLoss):
    """Additive angular margin, the same for every class, that training step t takes from a list.

    L = -log softmax(z)_y,  z_y = s psi(theta_y, m_t),  z_j = s cos(theta_j) for j != y

    With the margins that an AdaLoss run applied it replays that run without its feedback; with a rising line it is a
    margin warm-up. It is compared with what is searched and is not searched itself.

    The step is counted by every training batch, one with a loss that is not finite included: a schedule is a clock.
    Evaluation does not count. After the last entry its margin stays.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margins_rad: m_0, m_1, ..., each in [0, pi), at least one; rounded to float32.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Deng et al., arXiv:1801.07698, eq. 3, with a constant m.
    """

    margins_rad: Tensor  # (T,), comes from the arguments, so it is not saved
    steps_seen: Tensor  # (1,), int64

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margins_rad: Sequence[float],
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        require(len(margins_rad) > 0, "margins_rad", "a list of at least one", margins_rad)
        for step, margin_rad in enumerate(margins_rad):
            require(0.0 <= margin_rad < math.pi, f"margins_rad[{step}]", "in [0, pi)", margin_rad)
        margins = torch.tensor(margins_rad, dtype=torch.float32)
        self.register_buffer("margins_rad", margins, persistent=False)
        # One entry instead of a scalar: indexing with a scalar would wait for the device.
        self.register_buffer("steps_seen", torch.zeros(1, dtype=torch.int64))

    @property
    def margin_rad(self) -> float:
        """The margin of the next training step, in radians."""
        return self.applied_margin_rad().item()

    def applied_margin_rad(self) -> Tensor:
        """Return the margin of the next training step, (1,) on the device."""
        last = len(self.margins_rad) - 1
        return self.margins_rad.index_select(0, self.steps_seen.clamp(max=last))

    def extra_repr(self) -> str:
        """Show sizes, scale and the schedule's length in the module's printed form."""
        return f"{super().extra_repr()}, scheduled_steps={len(self.margins_rad)}"

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        return self.applied_margin_rad()

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor, directions_: Tensor) -> None:
        self.steps_seen += 1
