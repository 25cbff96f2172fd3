"""MR2: the temperature of its logits, and the weight of the distances within a class; first points by the authors."""

from search_spaces.common import Parameter, SearchSpace, log_uniform

__all__ = ["MR2"]

MR2 = SearchSpace(
    "mr2",
    own=(Parameter("temperature", log_uniform(0.25, 4.0)), Parameter("representation_weight", log_uniform(0.01, 1.0))),
    own_points=({"temperature": 1.0, "representation_weight": 0.1},) * 2,
)
