"""CosFace and its elastic relative: scale and a margin on the cosine, in numbers those that ArcFace has in radians."""

from search_spaces.arcface import ARCFACE, ELASTICFACE
from search_spaces.common import SCALE, Parameter, SearchSpace

__all__ = ["COSFACE", "ELASTICFACE_COS"]

_NAMES = {"scale": "scale", "margin_rad": "margin", "margin_std_rad": "margin_std"}


def _on_the_cosine(loss: str, angular: SearchSpace) -> SearchSpace:
    return SearchSpace(
        loss,
        own=(SCALE, *(Parameter(_NAMES[p.name], p.distribution) for p in angular.own[1:])),
        own_points=tuple({_NAMES[name]: value for name, value in point.items()} for point in angular.own_points),
    )


COSFACE = _on_the_cosine("cosface", ARCFACE)
ELASTICFACE_COS = _on_the_cosine("elasticface_cos", ELASTICFACE)
