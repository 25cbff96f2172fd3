"""Softmax cross-entropy, and its normalised form with a scale and no margin."""

from search_spaces.common import SCALE, SearchSpace

SOFTMAX = SearchSpace("softmax")
NORM_SOFTMAX = SearchSpace("norm_softmax", own=(SCALE,), own_points=({"scale": 8.0}, {"scale": 16.0}))
