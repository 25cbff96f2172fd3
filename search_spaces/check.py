"""Whether a search space that somebody wrote is one: what Optuna, or a trial, would stumble over in mid-run."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.common import SHARED, SHARED_POINTS, Parameter, SearchSpace

__all__ = ["fault_in"]

_GIVEN = frozenset({"embedding_dim", "num_classes", "steps_per_epoch", "label_smoothing"})  # to a loss, by the trial
_RESERVED = frozenset({"loss", "loss_args"})


def fault_in(space: SearchSpace) -> str | None:
    """Return what is wrong with a search space, in words that follow "in its search space", or None."""
    for parameter in space.own:
        if fault := _fault_of(parameter):
            return fault
    names = [parameter.name for parameter in (*SHARED, *space.own)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"{twice} is there twice; the shared parameters are {', '.join(p.name for p in SHARED)}"
    arguments = [parameter.argument or parameter.name for parameter in space.own]
    alternatives = {parameter.argument or parameter.name for parameter in space.own if parameter.when is not None}
    if twice := next((name for name in arguments if arguments.count(name) > 1 and name not in alternatives), None):
        return f"two parameters set {twice}"
    known: list[str] = []
    for parameter in space.parameters:
        if parameter.when is not None and parameter.when[0] not in known:
            return f"{parameter.name} depends on {parameter.when[0]}, which is not drawn before it"
        known.append(parameter.name)
    if len(space.own_points) != len(SHARED_POINTS):
        return f"own_points must hold {len(SHARED_POINTS)} points, as many as there are shared ones"
    return next((fault for point in space.own_points if (fault := _fault_of_point(space, point))), None)


def _fault_of(parameter: object) -> str | None:
    if not isinstance(parameter, Parameter):
        return f"own must hold objects of the class Parameter, got {parameter!r}"
    name, argument = parameter.name, parameter.argument or parameter.name
    if not all(isinstance(text, str) and text.isidentifier() for text in (name, argument)) or name in _RESERVED:
        return f"{name!r} cannot be the name of a parameter"
    if argument in _GIVEN:
        return f"{name} sets {argument}, which is the trial's to give"
    match parameter.distribution:
        case FloatDistribution() | IntDistribution():
            return None
        case CategoricalDistribution(choices=choices):
            odd = [choice for choice in choices if not isinstance(choice, str | int | float | bool | None)]
            return f"{name} has the choice {odd[0]!r}, which is neither a text nor a number" if odd else None
    return f"{name} must have a FloatDistribution, an IntDistribution or a CategoricalDistribution"


def _fault_of_point(space: SearchSpace, point: Mapping[str, Any]) -> str | None:
    by_name = {parameter.name: parameter for parameter in space.own}
    for name, value in point.items():
        if name not in by_name:
            return (
                f"own_points gives {name}, which is none of its own parameters: {', '.join(by_name) or 'it has none'}"
            )
        match by_name[name].distribution:
            case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
                is_inside = isinstance(value, int | float) and low <= value <= high
            case CategoricalDistribution(choices=choices):
                is_inside = value in choices
            case _:
                is_inside = True
        if not is_inside:
            return f"own_points gives {value!r} to {by_name[name].describe()}"
    return None
