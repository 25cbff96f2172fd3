"""torch's SGD for a process that compiles nothing."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["EagerSGD"]


def _without_compiler(method: Callable[..., Any]) -> Any:
    """Return a method of an optimizer as it was before torch wrapped it for torch.compile; as it is if it was not."""
    return getattr(method, "__wrapped__", method)


class EagerSGD(torch.optim.SGD):
    """`torch.optim.SGD`, with the same numbers and the same state, that does not import torch's compiler.

    Its methods are wrapped so that torch.compile leaves them alone, and the wrappers import ``torch._dynamo``: about
    two seconds of each worker's start, for something that no trial uses.
    """

    add_param_group = _without_compiler(torch.optim.SGD.add_param_group)
    zero_grad = _without_compiler(torch.optim.SGD.zero_grad)
    state_dict = _without_compiler(torch.optim.SGD.state_dict)
    load_state_dict = _without_compiler(torch.optim.SGD.load_state_dict)

    step = torch.no_grad()(_without_compiler(torch.optim.SGD.step))
