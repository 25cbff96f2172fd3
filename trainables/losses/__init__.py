"""The losses under study and the controls, by name: `LOSSES["softmax"](embedding_dim=128, num_classes=10)`."""

from trainables.losses.adaloss import AdaLoss, AdaLossPerClass
from trainables.losses.arcface import ArcFaceLoss
from trainables.losses.arcface_schedule import ArcFaceScheduleLoss
from trainables.losses.base import ClassifierLoss
from trainables.losses.margin_softmax import MarginSoftmaxLoss
from trainables.losses.norm_softmax import NormSoftmaxLoss
from trainables.losses.softmax import SoftmaxLoss

LOSSES: dict[str, type[ClassifierLoss]] = {
    "softmax": SoftmaxLoss,
    "norm_softmax": NormSoftmaxLoss,
    "arcface": ArcFaceLoss,
    "arcface_schedule": ArcFaceScheduleLoss,
    "adaloss": AdaLoss,
    "adaloss_per_class": AdaLossPerClass,
}

__all__ = [
    "LOSSES",
    "AdaLoss",
    "AdaLossPerClass",
    "ArcFaceLoss",
    "ArcFaceScheduleLoss",
    "ClassifierLoss",
    "MarginSoftmaxLoss",
    "NormSoftmaxLoss",
    "SoftmaxLoss",
]
