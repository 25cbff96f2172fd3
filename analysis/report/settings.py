"""Which settings of a loss matter most, and where the good ones lie, over its random draws."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial

from analysis.loading import Run
from analysis.plots.studies import importance, parameters_of
from analysis.recorded_trials import drawn_trials, flat_config

__all__ = ["FEWEST", "MOST", "WORSE", "LossSettings", "Setting", "settings_that_matter"]

MOST = 3  # settings of a loss
WORSE = 1.1  # times as many errors as the best draw: as far a draw counts as good
FEWEST = 5  # draws that count as good at least


@dataclass(frozen=True)
class Setting:
    """One hyperparameter.

    Args:
        name: of it.
        share: of the variance of accuracy that single settings explain, as fANOVA has it.
        low: the least value of a good draw; None for a choice.
        high: the greatest.
        choices: the values that good draws have, where it is a choice, as the search space orders them.
        searched: the search space.
        chosen: what the winner has, None where it is not known.
    """

    name: str
    share: float
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    searched: BaseDistribution
    chosen: Any


@dataclass(frozen=True)
class LossSettings:
    """The settings of a loss that matter most.

    Args:
        loss: its name.
        draws: how many there are.
        good: of them, those whose errors are at most WORSE times the best one's, or the FEWEST best.
        settings: from the most important on.
    """

    loss: str
    draws: int
    good: int
    settings: tuple[Setting, ...]


def settings_that_matter(run: Run, loss: str, winner: dict[str, Any] | None) -> LossSettings | None:
    """Return the MOST settings that matter most, None where there are too few draws to tell.

    Draws are spread evenly over the search space and none is stopped early, which holds of no trial of a search.

    Args:
        run: whose draws they are.
        loss: of them.
        winner: the configuration that was chosen, None where there is none.
    """
    trials = drawn_trials(run, loss)
    shares = importance(trials, None, run.chance)
    if not shares:
        return None
    ordered = sorted(trials.trials, key=_error)
    enough = WORSE * _error(ordered[0])
    good = [trial for place, trial in enumerate(ordered) if place < FEWEST or _error(trial) <= enough]
    names = sorted(shares, key=lambda name: (-shares[name], name))[:MOST]
    chosen = flat_config(winner or {})
    searched = parameters_of(trials)
    found = tuple(_setting(name, shares[name], good, searched[name], chosen.get(name)) for name in names)
    return LossSettings(loss, len(trials.trials), len(good), found)


def _error(trial: FrozenTrial) -> float:
    return 1.0 - float(trial.value or 0.0)


def _setting(name: str, share: float, good: list[FrozenTrial], searched: BaseDistribution, chosen: Any) -> Setting:
    values = [trial.params[name] for trial in good]
    if isinstance(searched, CategoricalDistribution):
        return Setting(name, share, None, None, tuple(c for c in searched.choices if c in values), searched, chosen)
    assert isinstance(searched, FloatDistribution)
    return Setting(name, share, float(min(values)), float(max(values)), (), searched, chosen)
