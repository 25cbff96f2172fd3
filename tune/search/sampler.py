"""TPE whose draws can be repeated: they depend on the seed, the trial, the parameter and the finished trials alone."""

import json
import warnings
import zlib
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe.sampler import _RELATIVE_PARAMS_KEY
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

__all__ = ["RepeatableTPESampler"]


class RepeatableTPESampler(BaseSampler):
    """Optuna's TPE with a fresh generator for every trial, and for every parameter that it draws alone.

    A generator that runs on from draw to draw would start anew with each restart of the program, and give other trials
    than an uninterrupted search has, even one that was interrupted between two parameters of a trial.

    Args:
        seed: of the search.
        startup_trials: trials drawn at random before TPE has anything to go by.
        history: returns the trials that a draw goes by.
    """

    def __init__(self, seed: int, startup_trials: int, history: Callable[[], list[FrozenTrial]]) -> None:
        self._seed = seed
        self._startup_trials = startup_trials
        self._history = history
        self._views: dict[int, _View] = {}

    def _sampler(self, *key: int) -> TPESampler:
        seed = int(np.random.SeedSequence((self._seed, *key)).generate_state(1)[0])
        with warnings.catch_warnings():
            # `group`, which conditional parameters need, is called experimental; a test pins what is relied on.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return _ViewingTPESampler(
                n_startup_trials=self._startup_trials,
                multivariate=True,
                group=True,
                constant_liar=True,  # trials run side by side
                seed=seed,
            )

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        self._joint = self._sampler(trial.number)
        self._views = {seen.number: self._view(seen) for seen in self._history()}
        excerpt: Any = _Excerpt(study, list(self._views.values()))
        self._excerpt = excerpt
        kinds: Any = _Excerpt(study, _first_of_each_kind(self._views.values()))
        return self._joint.infer_relative_search_space(kinds, trial)

    def _view(self, trial: FrozenTrial) -> "_View":
        """Return what TPE sees of a trial; of one that has ended, or runs with the same parameters, what it saw."""
        known = self._views.get(trial.number)
        if known is not None and known.state == trial.state and known.drawn == len(trial.params):
            return known
        return _View(trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw those."""
        return self._joint.sample_relative(self._excerpt, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one that is not among them."""
        alone = self._sampler(trial.number, zlib.crc32(param_name.encode()))
        return alone.sample_independent(self._excerpt, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing is left to do."""


class _View:
    """What TPE reads of a trial, under the same names, worked out once: Optuna does so for every draw.

    Args:
        trial: it has ended, or runs with all of its parameters.
    """

    constraints: ClassVar[dict[str, float]] = {}  # a search has none

    def __init__(self, trial: FrozenTrial) -> None:
        self.number, self.state, self.value = trial.number, trial.state, trial.value
        self.drawn = len(trial.params)
        self.distributions, self.params = trial.distributions, _params(trial)
        step = trial.last_step
        self.intermediate_values = {} if step is None else {step: trial.intermediate_values[step]}
        self._numbers: dict[str, float] = {}

    def number_of(self, name: str, distribution: BaseDistribution) -> float:
        """Return a parameter's value as a number; in one study its distributions have the same for the same value."""
        if name not in self._numbers:
            self._numbers[name] = distribution.to_internal_repr(self.params[name])
        return self._numbers[name]


class _ViewingTPESampler(TPESampler):
    """Optuna's, which asks a view for its numbers."""

    def _get_internal_repr(
        self, trials: list[Any], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, npt.NDArray[Any]]:
        names = search_space.keys()
        having = [trial for trial in trials if names <= trial.params.keys()]
        return {
            name: np.asarray([trial.number_of(name, distribution) for trial in having])
            for name, distribution in search_space.items()
        }


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters; of one that runs also those that were drawn with them and are not in use."""
    if trial.state.is_finished():
        return trial.params
    parts, number = [], 0
    while part := trial.system_attrs.get(f"{_RELATIVE_PARAMS_KEY}:{number}"):
        parts.append(part)
        number += 1
    return {**(json.loads("".join(parts)) if parts else {}), **trial.params}


def _first_of_each_kind(views: Iterable[_View]) -> list[_View]:
    """Return of the trials that have ended the first with each set of parameters: further ones tell TPE no more."""
    ended = (view for view in views if view.state in (TrialState.COMPLETE, TrialState.PRUNED))
    kinds: dict[frozenset[str], _View] = {}
    for view in ended:
        kinds.setdefault(frozenset(view.distributions), view)
    return list(kinds.values())


class _Excerpt:
    """A study of which TPE sees a part of the trials."""

    def __init__(self, study: Study, trials: list[_View]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[_View]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    get_trials = _get_trials
