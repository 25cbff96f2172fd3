"""What all search spaces share: how a space is written down, and the knobs that every loss has.

A space is data: parameters with Optuna distributions. So it can be drawn from, counted and printed beside a result.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

__all__ = ["SCALE", "SHARED", "SHARED_POINTS", "Parameter", "SearchSpace", "log_uniform"]


@dataclass(frozen=True)
class Parameter:
    """One tuned value.

    Args:
        name: of the parameter in the study.
        distribution: where it is drawn from.
        argument: the key that it sets; its name where empty.
        when: (other parameter, value): drawn only where the other one has that value.
    """

    name: str
    distribution: BaseDistribution
    argument: str = ""
    when: tuple[str, Any] | None = None

    def suggest(self, trial: optuna.Trial) -> Any:
        """Draw from the trial's sampler."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log):
                return trial.suggest_float(self.name, low, high, log=log)
            case IntDistribution(low=low, high=high, log=log):
                return trial.suggest_int(self.name, low, high, log=log)
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(self.name, choices)
            case _:
                raise TypeError(f"{self.name}: no way to draw from {self.distribution}")

    def middle(self) -> Any:
        """Return the middle of the range, of its logarithm where that is what is uniform; the first of choices."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log):
                return math.sqrt(low * high) if log else (low + high) / 2
            case IntDistribution(low=low, high=high, log=log):
                return round(math.sqrt(low * high)) if log else (low + high) // 2
            case CategoricalDistribution(choices=choices):
                return choices[0]
            case _:
                raise TypeError(f"{self.name}: no way to draw from {self.distribution}")

    def describe(self) -> str:
        """Return the range in the notation of the protocol, such as ``scale log[4, 64]``."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, log=log) | IntDistribution(low=low, high=high, log=log):
                text = f"{'log' if log else 'U'}[{low:g}, {high:g}]"
            case CategoricalDistribution(choices=choices):
                text = "{" + ", ".join(map(str, choices)) + "}"
            case _:
                text = str(self.distribution)
        condition = f" where {self.when[0]} is {self.when[1]}" if self.when else ""
        return f"{self.name} {text}{condition}"


def log_uniform(low: float, high: float) -> FloatDistribution:
    """Return a distribution that is uniform in the logarithm."""
    return FloatDistribution(low, high, log=True)


SHARED = (
    Parameter("learning_rate", log_uniform(0.01, 1.0)),
    Parameter("head_learning_rate_multiplier", log_uniform(0.3, 10.0)),
    Parameter("weight_decay", log_uniform(1e-5, 1e-2)),
    Parameter("label_smoothing", CategoricalDistribution((0.0, 0.1))),
)
SCALE = Parameter("scale", log_uniform(4.0, 64.0))

# Known good settings, the same for every loss, tried before the sampler draws.
SHARED_POINTS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.2, "head_learning_rate_multiplier": 1.0, "weight_decay": 5e-4, "label_smoothing": 0.0},
    {"learning_rate": 0.1, "head_learning_rate_multiplier": 3.0, "weight_decay": 2e-3, "label_smoothing": 0.1},
)


@dataclass(frozen=True)
class SearchSpace:
    """The tuned parameters of one loss.

    Args:
        loss: the name in LOSSES.
        own: parameters of this loss alone, passed to the loss.
        own_points: for each of SHARED_POINTS, the known good values of `own`; what is not given is the middle.
        shared: those of SHARED that the loss takes.
    """

    loss: str
    own: tuple[Parameter, ...] = ()
    own_points: tuple[Mapping[str, Any], ...] = ({},) * len(SHARED_POINTS)
    shared: tuple[Parameter, ...] = SHARED

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The shared parameters, then the loss's own."""
        return self.shared + self.own

    @property
    def first_points(self) -> list[dict[str, Any]]:
        """Known good settings with which a search begins."""
        return [self._point({**shared, **own}) for shared, own in zip(SHARED_POINTS, self.own_points, strict=True)]

    def _point(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return known values, and the middle of what is not known and would be drawn beside them."""
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.name in known:
                point[parameter.name] = known[parameter.name]
            elif parameter.when is None or point.get(parameter.when[0]) == parameter.when[1]:
                point[parameter.name] = parameter.middle()
        return point

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draw one configuration.

        Returns:
            Fields of TrialConfig: ``loss``, ``loss_args`` and the shared ones.
        """
        drawn: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.when is None or drawn[parameter.when[0]] == parameter.when[1]:
                drawn[parameter.name] = parameter.suggest(trial)
        shared = {p.name: drawn[p.name] for p in self.shared}
        own = {p.argument or p.name: drawn[p.name] for p in self.own if p.name in drawn}
        return {**shared, "loss": self.loss, "loss_args": own}

    def point_of(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the parameters with which :meth:`suggest` gave a configuration.

        Raises:
            KeyError: the configuration lacks one of them.
        """
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.when is None or point[parameter.when[0]] == parameter.when[1]:
                values = config if parameter in self.shared else config["loss_args"]
                point[parameter.name] = values[parameter.argument or parameter.name]
        return point

    def describe(self) -> list[str]:
        """Return one line a parameter: name and range."""
        return [parameter.describe() for parameter in self.parameters]
