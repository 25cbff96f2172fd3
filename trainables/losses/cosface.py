"""CosFace: one fixed margin on the cosine."""

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.margin_softmax import MarginSoftmaxLoss


def cosine_less_margin(cosine: Tensor, labels: Tensor, margin: Tensor) -> Tensor:
    """Return the cosines with the margin taken from the target's.

    cos(theta_y) - m

    Args:
        cosine: (B, C).
        labels: (B,).
        margin: (B,), m of each sample; no angle.

    Returns:
        (B, C).
    """
    return cosine.scatter_add(1, labels.unsqueeze(1), -margin.to(cosine.dtype).unsqueeze(1))


class CosFaceLoss(MarginSoftmaxLoss):
    """Additive margin on the cosine, the same for every class and all of training.

    L = -log softmax(z)_y,  z_y = s (cos(theta_y) - m),  z_j = s cos(theta_j) for j != y

    Its margin is no angle, so that `margin_rad` is 0.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin: m, a difference of cosines, in [0, 2).
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Wang et al., 2018, arXiv:1801.09414, eq. 4.
    """

    def __init__(
        self, embedding_dim: int, num_classes: int, *, scale: float, margin: float, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        require(0.0 <= margin < 2.0, "margin", "in [0, 2)", margin)
        self.margin = float(margin)

    def extra_repr(self) -> str:
        """Show sizes, scale and margin in the module's printed form."""
        return f"{super().extra_repr()}, margin={self.margin}"

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor | None:
        return None

    def _with_margin(self, cosine: Tensor, directions_: Tensor, class_directions: Tensor, labels: Tensor) -> Tensor:
        margin = torch.full(labels.shape, self.margin, dtype=torch.float64, device=labels.device)
        return cosine_less_margin(cosine, labels, margin)
