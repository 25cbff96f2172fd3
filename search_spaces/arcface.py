"""ArcFace: scale and fixed margin."""

from optuna.distributions import FloatDistribution

from search_spaces.common import SCALE, Parameter, SearchSpace

ARCFACE = SearchSpace(
    "arcface",
    own=(SCALE, Parameter("margin_rad", FloatDistribution(0.0, 0.6))),
    own_points=({"scale": 8.0, "margin_rad": 0.1}, {"scale": 16.0, "margin_rad": 0.05}),
)
