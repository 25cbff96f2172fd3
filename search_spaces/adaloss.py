"""AdaLoss and its variants: scale, margin, and the rule that moves the margin.

The margin, scale and shared knobs have ArcFace's ranges; the other parameters say how the margin moves. The first
points start from the margins that ArcFace's first points have; those of the quantile are AdaLoss's own.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.arcface import ARCFACE
from search_spaces.common import SCALE, Parameter, SearchSpace, log_uniform

__all__ = ["ADALOSS", "ADALOSS_PER_CLASS", "ADALOSS_QUANTILE", "ADALOSS_RELATIVE", "ADALOSS_TRAPEZOID"]

_DIFFICULTY = Parameter("difficulty", CategoricalDistribution(("error", "gap")))
_OWN = (
    SCALE,
    Parameter("margin_rad", FloatDistribution(0.0, 0.6)),
    Parameter("rate_up_rad_per_epoch", log_uniform(0.01, 1.0)),
    Parameter("rate_down_rad_per_epoch", log_uniform(0.01, 1.0)),
    _DIFFICULTY,
    Parameter("target_error", log_uniform(0.005, 0.5), "target_difficulty", ("difficulty", "error")),
    Parameter("target_gap", FloatDistribution(0.2, 0.45), "target_difficulty", ("difficulty", "gap")),
)
_RULE = {"rate_up_rad_per_epoch": 0.1, "rate_down_rad_per_epoch": 0.1, "difficulty": "error", "target_error": 0.1}
_POINTS = (
    {"scale": 8.0, "margin_rad": 0.1, **_RULE},
    {"scale": 16.0, "margin_rad": 0.05, **_RULE},
)

ADALOSS = SearchSpace("adaloss", own=_OWN, own_points=_POINTS)
ADALOSS_PER_CLASS = SearchSpace("adaloss_per_class", own=_OWN, own_points=_POINTS)

_QUANTILE_RULE = {**{key: _RULE[key] for key in ("rate_up_rad_per_epoch", "rate_down_rad_per_epoch")}, "quantile": 0.1}
ADALOSS_QUANTILE = SearchSpace(
    "adaloss_quantile",
    own=(
        *_OWN[:4],
        Parameter("quantile", log_uniform(0.005, 0.5)),
        Parameter("target_angle_gap_rad", FloatDistribution(0.0, 0.6)),
    ),
    own_points=tuple({**point, **_QUANTILE_RULE, "target_angle_gap_rad": 0.0} for point in ARCFACE.own_points),
)
ADALOSS_RELATIVE = SearchSpace(
    "adaloss_relative",
    own=(*_OWN[:2], Parameter("strength", FloatDistribution(-1.0, 1.0)), _DIFFICULTY),
    own_points=tuple({**point, "strength": 0.5, "difficulty": "error"} for point in ARCFACE.own_points),
)
ADALOSS_TRAPEZOID = SearchSpace(
    "adaloss_trapezoid",
    own=(
        *_OWN[:2],
        _DIFFICULTY,
        Parameter("plateau_from", log_uniform(0.005, 0.2)),
        Parameter("plateau_until", FloatDistribution(0.2, 0.5)),
        Parameter("zero_from", FloatDistribution(0.55, 1.0)),
    ),
    own_points=tuple(
        {**point, "difficulty": "error", "plateau_from": 0.01, "plateau_until": 0.3, "zero_from": 0.8}
        for point in ARCFACE.own_points
    ),
)
