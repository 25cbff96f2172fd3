"""Settings at which the losses were published, for the check of the published claim without any tuning.

The study behind the claim names no settings. ArcFace's own are s = 64, m = 0.5 (Deng et al., arXiv:1801.07698, section
3.1); AdaLoss starts from the same scale and margin, with the rates of its first search point. The rest is the first of
the shared points, the same for both.
"""

from typing import Any

from optuna.trial import FixedTrial

from search_spaces.adaloss import ADALOSS
from search_spaces.arcface import ARCFACE

__all__ = ["CLAIMED", "PUBLISHED"]

CLAIMED = ("mnist", "cifar10")  # where the claim was made

PUBLISHED: dict[str, dict[str, Any]] = {
    space.loss: space.suggest(FixedTrial({**space.first_points[0], "scale": 64.0, "margin_rad": 0.5}))  # type: ignore[arg-type]
    for space in (ARCFACE, ADALOSS)
}
