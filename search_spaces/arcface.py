"""ArcFace, and its relatives with a fixed margin: scale and margin, with the same ranges and first points."""

from optuna.distributions import FloatDistribution

from search_spaces.common import SCALE, Parameter, SearchSpace, log_uniform

_MARGIN = FloatDistribution(0.0, 0.6)
_SPREAD = log_uniform(0.005, 0.1)

ARCFACE = SearchSpace(
    "arcface",
    own=(SCALE, Parameter("margin_rad", _MARGIN)),
    own_points=({"scale": 8.0, "margin_rad": 0.1}, {"scale": 16.0, "margin_rad": 0.05}),
)
CURRICULARFACE = SearchSpace("curricularface", own=ARCFACE.own, own_points=ARCFACE.own_points)
ELASTICFACE = SearchSpace(
    "elasticface",
    own=(*ARCFACE.own, Parameter("margin_std_rad", _SPREAD)),
    own_points=tuple({**point, "margin_std_rad": 0.0175} for point in ARCFACE.own_points),
)
