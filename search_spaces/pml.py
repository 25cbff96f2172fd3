"""Spaces of the losses of pytorch-metric-learning, with the ranges of our own; its angular margins are degrees."""

from optuna.distributions import FloatDistribution, IntDistribution

from search_spaces.common import SCALE, Parameter, SearchSpace, log_uniform

__all__ = ["PML_SPACES"]

_DEGREES = Parameter("margin", FloatDistribution(0.0, 34.4))  # 0.6 rad
_DEGREE_POINTS = ({"scale": 8.0, "margin": 5.73}, {"scale": 16.0, "margin": 2.86})
# The multiplicative margin is a whole number, of which 1 is none; embeddings are not normalised, so the scale is small.
_TIMES = (Parameter("margin", IntDistribution(1, 4)), Parameter("scale", log_uniform(0.03, 3.0)))
_TIMES_POINTS = ({"margin": 1, "scale": 0.5}, {"margin": 2, "scale": 0.5})

_OWN: dict[str, tuple[tuple[Parameter, ...], tuple[dict[str, float], ...]]] = {
    "ArcFaceLoss": ((SCALE, _DEGREES), _DEGREE_POINTS),
    "SubCenterArcFaceLoss": (
        (SCALE, _DEGREES, Parameter("sub_centers", IntDistribution(1, 4))),
        tuple({**point, "sub_centers": 2} for point in _DEGREE_POINTS),
    ),
    "CosFaceLoss": (
        (SCALE, Parameter("margin", FloatDistribution(0.0, 0.6))),
        ({"scale": 8.0, "margin": 0.1}, {"scale": 16.0, "margin": 0.05}),
    ),
    "NormalizedSoftmaxLoss": (
        (Parameter("temperature", log_uniform(1 / 64, 1 / 4)),),
        ({"temperature": 1 / 8}, {"temperature": 1 / 16}),
    ),
    "LargeMarginSoftmaxLoss": (_TIMES, _TIMES_POINTS),
    "SphereFaceLoss": (_TIMES, _TIMES_POINTS),
    "ProxyAnchorLoss": (
        (Parameter("alpha", log_uniform(4.0, 64.0)), Parameter("margin", FloatDistribution(0.0, 0.6))),
        ({"alpha": 32.0, "margin": 0.1}, {"alpha": 16.0, "margin": 0.05}),
    ),
    "ProxyNCALoss": (
        (Parameter("softmax_scale", log_uniform(1.0, 64.0)),),
        ({"softmax_scale": 8.0}, {"softmax_scale": 16.0}),
    ),
    "SoftTripleLoss": (
        (
            Parameter("la", log_uniform(4.0, 64.0)),
            Parameter("gamma", log_uniform(0.03, 1.0)),
            Parameter("margin", FloatDistribution(0.0, 0.1)),
            Parameter("centers_per_class", IntDistribution(1, 10)),
        ),
        (
            {"la": 20.0, "gamma": 0.1, "margin": 0.01, "centers_per_class": 10},
            {"la": 8.0, "gamma": 0.1, "margin": 0.01, "centers_per_class": 2},
        ),
    ),
}

PML_SPACES = {
    f"pml_{name}": SearchSpace(f"pml_{name}", own=own, own_points=points) for name, (own, points) in _OWN.items()
}
