"""AdaCos: no margin, and a scale that follows the angles of each batch."""

import math

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.margin_softmax import MarginSoftmaxLoss


class AdaCosLoss(MarginSoftmaxLoss):
    """Cross-entropy over cosines whose scale is computed from the batch: AdaCos with its dynamic scale.

    s_0 = sqrt(2) log(C - 1)
    B_t = 1/N sum_i sum_{j != y_i} exp(s_{t-1} cos(theta_ij)),  a_t = median_i theta_{i y_i}
    s_t = log(B_t) / cos(min(pi / 4, a_t))
    L = -log softmax(s_t cos(theta))_y

    As in the original a training batch is scaled by what it itself says; evaluation has the scale of the last training
    batch. Without any data s_0 is the fixed AdaCos. Of the original this is changed: a batch whose scale would not be
    finite and positive leaves the old one.

    For few classes the rule is coarse: s_0 is 3.1 for ten, and none for two, which it does not take.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C, 3 or more.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Zhang et al., 2019, arXiv:1905.00292, sections 4.1 (s_0) and 4.2 (s_t).
    """

    scale: Tensor  # (), s_t

    def __init__(self, embedding_dim: int, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        require(num_classes >= 3, "num_classes", ">= 3", num_classes)
        first = math.sqrt(2.0) * math.log(num_classes - 1)
        super().__init__(embedding_dim, num_classes, scale=first, label_smoothing=label_smoothing)

    def diagnostics(self) -> dict[str, float | list[float]]:
        """Return the margins, which are 0, and the scale."""
        return {**super().diagnostics(), "scale": self.scale.item()}

    def extra_repr(self) -> str:
        """Show the sizes in the module's printed form."""
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"

    def _set_scale(self, scale: float) -> None:
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor | None:
        return None

    def _before_loss(self, cosine: Tensor, labels: Tensor) -> None:
        target = labels.unsqueeze(1)  # (B, 1)
        others = (self.scale * cosine).scatter(1, target, -math.inf)  # (B, C)
        log_mean = torch.logsumexp(others.flatten(), dim=0) - math.log(len(labels))  # log(B_t)
        theta = torch.arccos(cosine.gather(1, target).clamp(-1.0, 1.0)).flatten()  # (B,)
        median = torch.quantile(theta, 0.5)
        scale = log_mean / torch.cos(median.clamp(max=math.pi / 4.0))
        good = scale.isfinite() & (scale > 0.0)
        self.scale.copy_(torch.where(good, scale.to(self.scale.dtype), self.scale))
