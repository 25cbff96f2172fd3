"""Random draws as trials of a study, made of a run's records alone: what tells hyperparameters apart reads trials."""

import re
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.loading import Run
from analysis.study_database import LossTrials

__all__ = ["drawn_trials", "flat_config", "recorded_distributions"]

_NUMBER = r"[-+.\deE]+"
_RANGE = re.compile(rf"(?P<name>\w+) (?P<kind>log|U)\[(?P<low>{_NUMBER}), (?P<high>{_NUMBER})\]")
_CHOICES = re.compile(r"(?P<name>\w+) \{(?P<choices>[^{}]+)\}")


def recorded_distributions(run: Run, loss: str) -> dict[str, BaseDistribution]:
    """Return the search space of a loss as ``run.json`` has it in words, without what only some draws have.

    Ranges that are written in another way are left out.
    """
    found: dict[str, BaseDistribution] = {}
    for text in run.info["search_spaces"][loss].get("parameters") or ():
        if match := _RANGE.fullmatch(str(text)):
            low, high = float(match["low"]), float(match["high"])
            found[match["name"]] = FloatDistribution(low, high, log=match["kind"] == "log")
        elif match := _CHOICES.fullmatch(str(text)):
            found[match["name"]] = CategoricalDistribution([_choice(c) for c in match["choices"].split(", ")])
    return found


def _choice(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the arguments of its loss beside the shared ones."""
    arguments = config.get("loss_args")
    return {**config, **(arguments if isinstance(arguments, dict) else {})}


def drawn_trials(run: Run, loss: str) -> LossTrials:
    """Return the random draws of a loss as finished trials; one that failed has the accuracy of guessing."""
    distributions = recorded_distributions(run, loss)
    rows = run.seed_runs_of("robustness", loss)
    return LossTrials(
        tuple(
            _trial(flat_config(config), distributions, float(accuracy))
            for config, accuracy in zip(rows["config"], rows["accuracy"], strict=True)
        )
    )


def _trial(config: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], accuracy: float) -> FrozenTrial:
    known = {name: known for name, known in distributions.items() if _lies_in(config.get(name), known)}
    params = {name: config[name] for name in known}
    return create_trial(state=TrialState.COMPLETE, value=accuracy, params=params, distributions=known)


def _lies_in(value: Any, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution._contains(value)
