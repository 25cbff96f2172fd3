"""Search spaces, one file a loss, all with the same shared part."""

import pkgutil
from importlib import import_module

from search_spaces.common import SCALE, Parameter, SearchSpace, log_uniform

__all__ = ["SCALE", "SEARCH_SPACES", "Parameter", "SearchSpace", "log_uniform"]


def _collected() -> dict[str, SearchSpace]:
    """Return every space that a module of this package holds, by loss; those with fewer parameters come first.

    Raises:
        ValueError: a loss has two spaces.
    """
    found: dict[str, SearchSpace] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for space in vars(import_module(module.name)).values():
            if isinstance(space, SearchSpace) and found.setdefault(space.loss, space) is not space:
                raise ValueError(f"{module.name}: there is another search space of {space.loss}")
    return dict(sorted(found.items(), key=lambda item: (len(item[1].parameters), item[0])))


SEARCH_SPACES: dict[str, SearchSpace] = _collected()
