"""ArcFace: one fixed angular margin."""

import math

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.margin_softmax import MarginSoftmaxLoss


class ArcFaceLoss(MarginSoftmaxLoss):
    """Additive angular margin, the same for every class and all of training.

    L = -log softmax(z)_y,  z_y = s psi(theta_y, m),  z_j = s cos(theta_j) for j != y

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m, in [0, pi).
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Deng et al., arXiv:1801.07698, eq. 3.
    """

    def __init__(
        self, embedding_dim: int, num_classes: int, *, scale: float, margin_rad: float, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        require(0.0 <= margin_rad < math.pi, "margin_rad", "in [0, pi)", margin_rad)
        self._margin_rad = float(margin_rad)

    @property
    def margin_rad(self) -> float:
        """The margin, in radians."""
        return self._margin_rad

    def extra_repr(self) -> str:
        """Show sizes, scale and margin in the module's printed form."""
        return f"{super().extra_repr()}, margin_rad={self.margin_rad}"

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        # float64, so that float64 embeddings see the margin to the last digit; the caller rounds it otherwise.
        return torch.full(labels.shape, self._margin_rad, dtype=torch.float64, device=labels.device)
