"""The losses under study and the controls, by name: `LOSSES["softmax"](embedding_dim=128, num_classes=10)`."""

from trainables.losses.adacos import AdaCosLoss
from trainables.losses.adaloss import AdaLoss, AdaLossPerClass
from trainables.losses.adaloss_quantile import AdaLossQuantile
from trainables.losses.adaloss_relative import AdaLossRelative, AdaLossRelativePermuted
from trainables.losses.adaloss_trapezoid import AdaLossTrapezoid
from trainables.losses.arcface import ArcFaceLoss
from trainables.losses.arcface_schedule import ArcFaceScheduleLoss
from trainables.losses.base import ClassifierLoss
from trainables.losses.cosface import CosFaceLoss
from trainables.losses.curricularface import CurricularFaceLoss
from trainables.losses.elasticface import ElasticCosFaceLoss, ElasticFaceLoss
from trainables.losses.kappaface import KappaFaceLoss
from trainables.losses.margin_softmax import MarginSoftmaxLoss
from trainables.losses.mr2 import MR2Loss
from trainables.losses.norm_softmax import NormSoftmaxLoss
from trainables.losses.softmax import SoftmaxLoss

LOSSES: dict[str, type[ClassifierLoss]] = {
    "softmax": SoftmaxLoss,
    "norm_softmax": NormSoftmaxLoss,
    "adacos": AdaCosLoss,
    "cosface": CosFaceLoss,
    "arcface": ArcFaceLoss,
    "arcface_schedule": ArcFaceScheduleLoss,
    "curricularface": CurricularFaceLoss,
    "elasticface": ElasticFaceLoss,
    "elasticface_cos": ElasticCosFaceLoss,
    "kappaface": KappaFaceLoss,
    "mr2": MR2Loss,
    "adaloss": AdaLoss,
    "adaloss_per_class": AdaLossPerClass,
    "adaloss_quantile": AdaLossQuantile,
    "adaloss_relative": AdaLossRelative,
    "adaloss_relative_permuted": AdaLossRelativePermuted,
    "adaloss_trapezoid": AdaLossTrapezoid,
}

__all__ = [
    "LOSSES",
    "AdaCosLoss",
    "AdaLoss",
    "AdaLossPerClass",
    "AdaLossQuantile",
    "AdaLossRelative",
    "AdaLossRelativePermuted",
    "AdaLossTrapezoid",
    "ArcFaceLoss",
    "ArcFaceScheduleLoss",
    "ClassifierLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "ElasticCosFaceLoss",
    "ElasticFaceLoss",
    "KappaFaceLoss",
    "MR2Loss",
    "MarginSoftmaxLoss",
    "NormSoftmaxLoss",
    "SoftmaxLoss",
]
