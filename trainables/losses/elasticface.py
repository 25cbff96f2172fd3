"""ElasticFace: a margin drawn anew for each sample, on the angle or on the cosine."""

import math

import torch
from torch import Tensor

from trainables.losses.arcface import ArcFaceLoss
from trainables.losses.base import is_finite_between, require
from trainables.losses.cosface import CosFaceLoss, cosine_less_margin
from trainables.losses.counted_noise import normal_at
from trainables.losses.margin_softmax import MarginSoftmaxLoss


class _DrawnMargins(MarginSoftmaxLoss):
    """Margins drawn from a normal distribution, by the seed of the trial and the number of the sample.

    The seed comes from torch's global generator when the loss is built, after the class weights, so that trials with
    the same seed draw the same margins; with the count of the samples seen it is part of the state, so that a trial
    that is resumed goes on with the margins that it would have drawn.
    """

    noise_seed: Tensor  # (), int64
    samples_seen: Tensor  # (), int64

    def _begin_draws(self, std: float, name: str) -> None:
        require(std == 0.0 or is_finite_between(std, 0.0), name, "finite and >= 0", std)
        self._std = float(std)
        self.register_buffer("noise_seed", torch.randint(-(2**62), 2**62, (), dtype=torch.int64))
        self.register_buffer("samples_seen", torch.zeros((), dtype=torch.int64))

    def _drawn(self, mean: float, labels: Tensor, most: float) -> Tensor:
        """Return margins (B,) in [0, most]: drawn in training, the mean in evaluation."""
        if not self.training:
            return torch.full(labels.shape, mean, dtype=torch.float64, device=labels.device)
        counts = self.samples_seen + torch.arange(len(labels), device=labels.device)  # (B,)
        return (mean + self._std * normal_at(self.noise_seed, counts)).clamp(0.0, most)

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor, directions_: Tensor) -> None:
        self.samples_seen += len(labels) * loss.isfinite().to(torch.int64)


class ElasticFaceLoss(_DrawnMargins, ArcFaceLoss):
    """Additive angular margin, drawn for each sample of each training step: ElasticFace-Arc.

    L = -log softmax(z)_y,  z_y = s psi(theta_y, e),  z_j = s cos(theta_j) for j != y,  e from N(m, sigma^2)

    Of the original these are changed: e is kept in [0, 3] rad, and beyond theta + e = pi the target is psi's, which
    does not jump. Evaluation has the mean, m. `margin_rad` is m too.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m, in [0, pi).
        margin_std_rad: sigma >= 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Boutros et al., 2022, arXiv:2109.09416, section 3, without the sorting of ElasticFace-Arc+.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        margin_std_rad: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, scale=scale, margin_rad=margin_rad, label_smoothing=label_smoothing
        )
        self._begin_draws(margin_std_rad, "margin_std_rad")

    def extra_repr(self) -> str:
        """Show sizes, scale, margin and its spread in the module's printed form."""
        return f"{super().extra_repr()}, margin_std_rad={self._std}"

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        return self._drawn(self._margin_rad, labels, most=max(3.0, self._margin_rad))


class ElasticCosFaceLoss(_DrawnMargins, CosFaceLoss):
    """Additive margin on the cosine, drawn for each sample of each training step: ElasticFace-Cos.

    L = -log softmax(z)_y,  z_y = s (cos(theta_y) - e),  z_j = s cos(theta_j) for j != y,  e from N(m, sigma^2)

    Of the original this is changed: e is not below 0. Evaluation has the mean, m. It is no angle: `margin_rad` is 0.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin: m, a difference of cosines, in [0, 2).
        margin_std: sigma >= 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Boutros et al., 2022, arXiv:2109.09416, section 3, without the sorting of ElasticFace-Cos+.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin: float,
        margin_std: float,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, margin=margin, label_smoothing=label_smoothing)
        self._begin_draws(margin_std, "margin_std")

    def extra_repr(self) -> str:
        """Show sizes, scale, margin and its spread in the module's printed form."""
        return f"{super().extra_repr()}, margin_std={self._std}"

    def _with_margin(self, cosine: Tensor, directions_: Tensor, class_directions: Tensor, labels: Tensor) -> Tensor:
        return cosine_less_margin(cosine, labels, self._drawn(self.margin, labels, most=math.inf))
