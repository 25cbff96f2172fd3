"""KappaFace: scale, the margin that its weights scale, and the weights' two settings.

Its weights lie around (1 - gamma) / 2 where classes come equally often, so its margin has twice ArcFace's range: then
the margins that it applies have ArcFace's. The first points apply ArcFace's margins, with the temperature and the
weights of the authors' code.
"""

from optuna.distributions import FloatDistribution

from search_spaces.arcface import ARCFACE
from search_spaces.common import SCALE, Parameter, SearchSpace

__all__ = ["KAPPAFACE"]

_GAMMA, _TEMPERATURE = 0.3, 0.55

KAPPAFACE = SearchSpace(
    "kappaface",
    own=(
        SCALE,
        Parameter("margin_rad", FloatDistribution(0.0, 1.2)),
        Parameter("gamma", FloatDistribution(0.0, 1.0)),
        Parameter("temperature", FloatDistribution(0.05, 1.0)),
    ),
    own_points=tuple(
        {
            "scale": point["scale"],
            "margin_rad": 2.0 * point["margin_rad"] / (1.0 - _GAMMA),
            "gamma": _GAMMA,
            "temperature": _TEMPERATURE,
        }
        for point in ARCFACE.own_points
    ),
)
