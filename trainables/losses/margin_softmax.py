"""What all losses with an angular margin share; they differ in where the margin comes from."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.losses.base import ClassifierLoss, is_finite_between, require

SHORTEST_NORM = 1e-12  # a vector shorter than this has no direction


def directions(vectors: Tensor) -> Tensor:
    """Scale vectors to unit length; a zero vector stays zero.

    x / |x|

    Args:
        vectors: (N, D).

    Returns:
        (N, D). The gradient at a zero vector is that of the identity: dividing by a small epsilon instead, as
        `F.normalize` does, would multiply it by 1e12.
    """
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)  # (N, 1)
    return vectors / norm.masked_fill(norm < SHORTEST_NORM, 1.0)


def sine_between(first: Tensor, second: Tensor) -> Tensor:
    """Return the sine of the angle between unit vectors, exact down to angles of 0 and pi.

    sin(theta) = 2 sin(theta / 2) cos(theta / 2) = |u - v| |u + v| / 2

    sqrt(1 - cos^2) cannot tell angles below 3e-4 rad from 0 in float32, and its slope is infinite there. Here the slope
    is at most 1, and at an angle of exactly 0 or pi, where the sine has a kink, autograd takes 0 for the kinked factor.

    Args:
        first: (B, D), unit vectors u.
        second: (B, D), unit vectors v.

    Returns:
        (B,).
    """
    difference: Tensor = torch.linalg.vector_norm(first - second, dim=1)  # (B,), 2 sin(theta / 2)
    total: Tensor = torch.linalg.vector_norm(first + second, dim=1)  # (B,), 2 cos(theta / 2)
    return 0.5 * difference * total


def psi(cosine: Tensor, sine: Tensor, margin_rad: Tensor) -> Tensor:
    """Return the target cosine after the margin.

    psi(theta, m) = cos(theta + m)              where theta + m <= pi
                    cos(theta) - (1 - cos(m))   elsewhere

    Continuous, and falling in theta on all of [0, pi]. The usual fallback cos(theta) - m sin(m) jumps by -0.12 at
    m = 0.5, and with none at all the gradient would push embeddings further away where theta + m > pi.

    Args:
        cosine: (B,), cos(theta).
        sine: (B,), sin(theta) >= 0.
        margin_rad: (B,), m in [0, pi).

    Returns:
        (B,).

    Reference:
        Deng et al., arXiv:1801.07698, eq. 3, for the first line; the second is ours.
    """
    margin_cosine = torch.cos(margin_rad)
    added = cosine * margin_cosine - sine * torch.sin(margin_rad)
    return torch.where(cosine >= -margin_cosine, added, cosine - (1.0 - margin_cosine))


class MarginSoftmaxLoss(ClassifierLoss):
    """Cross-entropy over scaled cosines, with an angular margin on the target's.

    L = -log softmax(z)_y,  z_y = s psi(theta_y, m),  z_j = s cos(theta_j) for j != y

    A subclass says which margin applies in `_margin_of_samples_rad`, and may learn from each training batch in
    `_before_loss` or `_after_loss`.

    The scale must let the softmax saturate: a target probability P needs
    s >= ln((C - 1) P / (1 - P)) / (cos(m) + 1 / (C - 1)), which is 6.9 for C = 10, P = 0.99, m = 0.5.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.
    """

    scale: float | Tensor  # a tensor, without dimensions, where it moves

    def __init__(self, embedding_dim: int, num_classes: int, *, scale: float, label_smoothing: float = 0.0) -> None:
        super().__init__(embedding_dim, num_classes, label_smoothing=label_smoothing)
        require(is_finite_between(scale, 0.0), "scale", "finite and > 0", scale)
        self._set_scale(scale)
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))  # (C, D)
        nn.init.xavier_normal_(self.weight)

    @abstractmethod
    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor | None:
        """Return the margin of each sample, (B,) or one that expands to it; None spares the work where it is 0."""

    def _set_scale(self, scale: float) -> None:
        """Keep the scale; a loss that moves it keeps it in a buffer."""
        self.scale = scale

    def _before_loss(self, cosine: Tensor, labels: Tensor) -> None:
        """Learn from a training batch what its own loss needs: margin-free cosines (B, C), (B,); without gradient."""

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor, directions_: Tensor) -> None:
        """Learn from a training batch: margin-free cosines (B, C), (B,), scalar, (B, D); all without gradient."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of (B, D) embeddings and (B,) labels."""
        self._check_batch(embeddings, labels)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            directions_, class_directions = self._directions(embeddings)  # (B, D), (C, D)
            cosine = F.linear(directions_, class_directions)  # (B, C)
            if self.training:
                with torch.no_grad():
                    self._before_loss(cosine.detach(), labels)
            cosine_with_margin = self._with_margin(cosine, directions_, class_directions, labels)
            loss = F.cross_entropy(self.scale * cosine_with_margin, labels, label_smoothing=self.label_smoothing)
            if self.training:
                with torch.no_grad():
                    self._after_loss(cosine.detach(), labels, loss.detach(), directions_.detach())
        return loss

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return s cos(theta), (B, C)."""
        self._check_embeddings(embeddings)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            return self.scale * F.linear(*self._directions(embeddings))

    def extra_repr(self) -> str:
        """Show sizes and scale in the module's printed form."""
        return f"{super().extra_repr()}, scale={self.scale}"

    def _directions(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        dtype = self._compute_dtype(embeddings)
        return directions(embeddings.to(dtype)), directions(self.weight.to(dtype))

    def _with_margin(self, cosine: Tensor, directions_: Tensor, class_directions: Tensor, labels: Tensor) -> Tensor:
        margin_rad = self._margin_of_samples_rad(labels)
        if margin_rad is None:
            return cosine
        margin_rad = margin_rad.to(cosine.dtype).expand(labels.shape)  # (B,)
        target = labels.unsqueeze(1)  # (B, 1)
        target_cosine = cosine.gather(1, target).squeeze(1)  # (B,)
        sine = sine_between(directions_, class_directions[labels])  # (B,)
        return cosine.scatter(1, target, psi(target_cosine, sine, margin_rad).unsqueeze(1))  # (B, C)
