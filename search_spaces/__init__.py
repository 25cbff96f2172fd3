"""Search spaces, one file a loss, all with the same shared part."""

from search_spaces.adaloss import ADALOSS, ADALOSS_PER_CLASS
from search_spaces.arcface import ARCFACE
from search_spaces.common import Parameter, SearchSpace
from search_spaces.softmax import NORM_SOFTMAX, SOFTMAX

__all__ = ["SEARCH_SPACES", "Parameter", "SearchSpace"]

SEARCH_SPACES: dict[str, SearchSpace] = {
    space.loss: space for space in (SOFTMAX, NORM_SOFTMAX, ARCFACE, ADALOSS, ADALOSS_PER_CLASS)
}
