"""Trials of a search, and random draws, as trials of a study, made of a run's records alone.

A published copy has no study; and what tells hyperparameters apart reads trials.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.loading import Run
from analysis.study_database import LossTrials

__all__ = ["drawn_trials", "flat_config", "recorded_distributions", "searched_trials"]

_NUMBER = r"[-+.\deE]+"
_CONDITION = r"(?: where (?P<other>\w+) is (?P<value>\S+))?"
_RANGE = re.compile(rf"(?P<name>\w+) (?P<kind>log|U)\[(?P<low>{_NUMBER}), (?P<high>{_NUMBER})\]{_CONDITION}")
_CHOICES = re.compile(rf"(?P<name>\w+) \{{(?P<choices>[^{{}}]+)\}}{_CONDITION}")
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class _Parameter:
    name: str
    distribution: BaseDistribution
    when: tuple[str, str] | None  # another parameter, and its value with which this one is drawn


def recorded_distributions(run: Run, loss: str) -> dict[str, BaseDistribution]:
    """Return the search space of a loss as ``run.json`` has it in words, without what only some trials have.

    Ranges that are written in another way are left out.
    """
    return {known.name: known.distribution for known in _parameters(run, loss) if known.when is None}


def _parameters(run: Run, loss: str) -> list[_Parameter]:
    found = []
    for text in map(str, run.info["search_spaces"][loss].get("parameters") or ()):
        distribution: BaseDistribution
        if match := _RANGE.fullmatch(text):
            distribution = FloatDistribution(float(match["low"]), float(match["high"]), log=match["kind"] == "log")
        elif match := _CHOICES.fullmatch(text):
            distribution = CategoricalDistribution([_choice(choice) for choice in match["choices"].split(", ")])
        else:
            continue
        when = (match["other"], match["value"]) if match["other"] else None
        found.append(_Parameter(match["name"], distribution, when))
    return found


def _choice(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the arguments of its loss beside the shared ones."""
    arguments = config.get("loss_args")
    shared = {name: value for name, value in config.items() if name not in ("loss", "loss_args")}
    return {**shared, **(arguments if isinstance(arguments, dict) else {})}


def drawn_trials(run: Run, loss: str) -> LossTrials:
    """Return the random draws of a loss as finished trials; one that failed has the accuracy of guessing."""
    parameters = _parameters(run, loss)
    rows = run.seed_runs_of("robustness", loss)
    return LossTrials(
        tuple(
            _trial(parameters, config, TrialState.COMPLETE, float(accuracy), {})
            for config, accuracy in zip(rows["config"], rows["accuracy"], strict=True)
        )
    )


def searched_trials(run: Run, loss: str) -> LossTrials:
    """Return the ended trials of the search of a loss, as far as records tell what its study has of them."""
    parameters = _parameters(run, loss)
    epochs = run.epochs[run.epochs["loss"] == loss] if len(run.epochs) else run.epochs
    by_trial = dict(iter(epochs.groupby("trial_id"))) if len(epochs) else {}
    found = []
    for _, row in run.trials[(run.trials["loss"] == loss) & run.trials["state"].isin(list(_STATES))].iterrows():
        rows = by_trial.get(row["trial_id"])
        values = {} if rows is None else dict(zip(rows["epoch"].astype(int), rows["val_accuracy"], strict=True))
        values = {epoch: float(value) for epoch, value in values.items() if value is not None and math.isfinite(value)}
        state = _STATES[row["state"]]
        if state == TrialState.COMPLETE and not values:
            continue
        value = values[max(values)] if values and state != TrialState.FAIL else None
        found.append(_trial(parameters, row["config"], state, value, values))
    return LossTrials(tuple(_numbered(found)))


def _numbered(trials: list[FrozenTrial]) -> Iterator[FrozenTrial]:
    for number, trial in enumerate(trials):
        trial.number = number
        yield trial


def _trial(
    parameters: list[_Parameter],
    config: Mapping[str, Any],
    state: TrialState,
    value: float | None,
    values: Mapping[int, float],
) -> FrozenTrial:
    given = flat_config(config)
    known = {p.name: p.distribution for p in parameters if _lies_in(given.get(p.name), p.distribution)}
    # What is drawn in one case only has an argument of another name: the one that no parameter names.
    applying = [p for p in parameters if p.when and str(given.get(p.when[0])) == p.when[1] and p.name not in given]
    unnamed = [name for name in given if name not in {p.name for p in parameters}]
    if len(applying) == len(unnamed) == 1 and _lies_in(given[unnamed[0]], applying[0].distribution):
        given[applying[0].name] = given[unnamed[0]]
        known[applying[0].name] = applying[0].distribution
    return create_trial(
        state=state,
        value=value,
        params={name: given[name] for name in known},
        distributions=known,
        intermediate_values=dict(values),
    )


def _lies_in(value: Any, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution._contains(value)
