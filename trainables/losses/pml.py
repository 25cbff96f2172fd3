"""Losses of pytorch-metric-learning (Musgrave et al., arXiv:2008.09164), as they are there, through one adaptor."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.losses.base import ClassifierLoss

__all__ = ["PMLLoss", "PMLSoftmaxLoss", "pml_file", "pml_loss"]


class _FiniteGradient(torch.autograd.Function):
    """The identity; what is not finite of a gradient becomes 0 on its way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


class PMLLoss(ClassifierLoss):
    """A loss of pytorch-metric-learning: its objective and its logits are the library's, in float32 or float64.

    Its gradient is the library's too, but for what is not finite of it, which counts as 0: ArcFace there has the slope
    of an arc cosine, infinite at angles of exactly 0 and pi.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        arguments: of the library's class. Its angular margins are degrees.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: if the library's class does not take an argument.
    """

    library_class = ""  # its name there

    def __init__(self, embedding_dim: int, num_classes: int, **arguments: Any) -> None:
        super().__init__(embedding_dim, num_classes)
        self.inner: nn.Module = _class_of(self.library_class)(
            num_classes=num_classes, embedding_size=embedding_dim, **arguments
        )

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the library's loss of (B, D) embeddings and (B,) labels."""
        self._check_batch(embeddings, labels)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            weights = {name: _FiniteGradient.apply(weight) for name, weight in self.inner.named_parameters()}
            embeddings = _FiniteGradient.apply(self._raised(embeddings))
            loss: Tensor = torch.func.functional_call(self.inner, weights, (embeddings, labels))
        return loss

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the library's logits, (B, C); where they are distances, less than 0."""
        self._check_embeddings(embeddings)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            found: Tensor = self.inner.get_logits(self._raised(embeddings))  # type: ignore[operator]
        return -found if self.library_class in _DISTANCES else found

    def _raised(self, embeddings: Tensor) -> Tensor:
        parameter = next(self.inner.parameters())
        dtype = torch.promote_types(torch.promote_types(embeddings.dtype, parameter.dtype), torch.float32)
        return embeddings.to(dtype)


class PMLSoftmaxLoss(PMLLoss):
    """One that ends in a cross-entropy, whose targets can be smoothed.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        arguments: of the library's class. Its angular margins are degrees.

    Raises:
        ValueError: if an argument is out of range.
        TypeError: if the library's class does not take an argument.
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, label_smoothing: float = 0.0, **arguments: Any) -> None:
        super().__init__(embedding_dim, num_classes, **arguments)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = label_smoothing
        if label_smoothing:
            self.inner.cross_entropy = nn.CrossEntropyLoss(reduction="none", label_smoothing=label_smoothing)


# Those with class weights and logits of their own. The others compare embeddings with each other: which class an image
# is of is none of their business.
_CLASSIFYING: dict[str, type[PMLLoss]] = {
    "ArcFaceLoss": PMLSoftmaxLoss,
    "CosFaceLoss": PMLSoftmaxLoss,
    "LargeMarginSoftmaxLoss": PMLSoftmaxLoss,
    "NormalizedSoftmaxLoss": PMLSoftmaxLoss,
    "ProxyAnchorLoss": PMLLoss,
    "ProxyNCALoss": PMLLoss,
    "SoftTripleLoss": PMLLoss,
    "SphereFaceLoss": PMLSoftmaxLoss,
    "SubCenterArcFaceLoss": PMLSoftmaxLoss,
}
_DISTANCES = frozenset({"ProxyNCALoss"})  # whose "logits" there are the larger, the farther away a class is


def pml_loss(name: str) -> type[PMLLoss]:
    """Return our class for a class of the library.

    Raises:
        UserError: the library is not installed, has no such loss, or one that does not classify.
    """
    _class_of(name)
    if name not in _CLASSIFYING:
        raise UserError(
            f"--loss pml:{name}: it compares embeddings with each other and has no logits; those that classify: "
            f"{', '.join(_CLASSIFYING)}"
        )
    about = {"library_class": name, "__doc__": f"{name} of pytorch-metric-learning.", "__module__": __name__}
    return type(name, (_CLASSIFYING[name],), about)


def pml_file(name: str) -> Path:
    """Return the file that defines a class of the library."""
    path = inspect.getsourcefile(_class_of(name))
    assert path is not None
    return Path(path)


def _class_of(name: str) -> type[nn.Module]:
    try:
        from pytorch_metric_learning import losses
    except ImportError:
        raise UserError(
            f'--loss pml:{name}: needs pytorch-metric-learning: pip install "pytorch-metric-learning>=2.8,<3"'
        ) from None
    cls = getattr(losses, name, None)
    if not isinstance(cls, type):
        raise UserError(
            f"--loss pml:{name}: pytorch-metric-learning has no loss of this name; those that classify: "
            f"{', '.join(_CLASSIFYING)}"
        )
    return cls
