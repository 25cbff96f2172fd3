"""CurricularFace: a fixed margin, and hard negatives that count more as training goes on."""

import math

import torch
from torch import Tensor

from trainables.losses.arcface import ArcFaceLoss
from trainables.losses.base import is_finite_between, require


class CurricularFaceLoss(ArcFaceLoss):
    """Additive angular margin, with the cosines of hard negatives modulated.

    z_y = s psi(theta_y, m)
    z_j = s cos(theta_j)                     where cos(theta_j) <= psi(theta_y, m)
    z_j = s cos(theta_j) (t + cos(theta_j))  elsewhere: a hard negative
    t <- 2^(-f / H) t + (1 - 2^(-f / H)) r,  r = mean of cos(theta_y) over the batch,  t = 0 at the start
    L = -log softmax(z)_y

    t grows with the cosines of training, and hard negatives with it. As in the authors' code, a training batch moves t
    before it uses it; no gradient flows into it. Of the original these are changed: the average's momentum is counted
    in epochs (f is the share of an epoch that one step is, H the half-life), where it is 0.99 a step, half-life 69
    steps, there, so that results do not depend on the batch size; beyond theta + m = pi the target is psi's, which does
    not jump; and a batch with a value that is not finite does not move t.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m, in [0, pi).
        steps_per_epoch: f = 1 / steps_per_epoch; > 0.
        half_life_epochs: H > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Huang et al., 2020, arXiv:2004.00288, section 3.2.
    """

    running_target_cosine: Tensor  # (1,), t

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        steps_per_epoch: float,
        half_life_epochs: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, scale=scale, margin_rad=margin_rad, label_smoothing=label_smoothing
        )
        require(is_finite_between(steps_per_epoch, 0.0), "steps_per_epoch", "finite and > 0", steps_per_epoch)
        require(is_finite_between(half_life_epochs, 0.0), "half_life_epochs", "finite and > 0", half_life_epochs)
        self.steps_per_epoch = steps_per_epoch
        self.half_life_epochs = half_life_epochs
        self.register_buffer("running_target_cosine", torch.zeros(1, dtype=torch.float32))

    def _before_loss(self, cosine: Tensor, labels: Tensor) -> None:
        mean = cosine.gather(1, labels.unsqueeze(1)).mean().to(self.running_target_cosine.dtype)
        weight = -math.expm1(-math.log(2.0) / (self.half_life_epochs * self.steps_per_epoch))
        moved = self.running_target_cosine + weight * (mean - self.running_target_cosine)
        finite = cosine.isfinite().all()
        self.running_target_cosine.copy_(torch.where(finite, moved, self.running_target_cosine))

    def _with_margin(self, cosine: Tensor, directions_: Tensor, class_directions: Tensor, labels: Tensor) -> Tensor:
        target = labels.unsqueeze(1)  # (B, 1)
        with_margin = super()._with_margin(cosine, directions_, class_directions, labels)  # (B, C)
        target_cosine = with_margin.gather(1, target)  # (B, 1), psi(theta_y, m)
        modulated = cosine * (self.running_target_cosine.to(cosine.dtype) + cosine)
        negatives = torch.where(cosine > target_cosine.detach(), modulated, cosine)  # (B, C)
        return negatives.scatter(1, target, target_cosine)
