"""AdaLoss: scale, starting margin, and the rule that moves the margin.

The starting margin, scale and shared knobs have ArcFace's ranges; four parameters more say how the margin moves. The
first points start from the margins that ArcFace's first points have.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import SCALE, Parameter, SearchSpace, log_uniform

_OWN = (
    SCALE,
    Parameter("margin_rad", FloatDistribution(0.0, 0.6)),
    Parameter("rate_up_rad_per_epoch", log_uniform(0.01, 1.0)),
    Parameter("rate_down_rad_per_epoch", log_uniform(0.01, 1.0)),
    Parameter("difficulty", CategoricalDistribution(("error", "gap"))),
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
