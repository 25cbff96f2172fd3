"""Normalised softmax: angles without a margin, what every margin has to beat."""

from torch import Tensor

from trainables.losses.margin_softmax import MarginSoftmaxLoss


class NormSoftmaxLoss(MarginSoftmaxLoss):
    """Cross-entropy over scaled cosines.

    L = -log softmax(s cos(theta))_y

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.

    Reference:
        Wang et al., arXiv:1704.06369, section 3.2.
    """

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor | None:
        return None
