"""TPE whose draws can be repeated: they depend on the seed, the trial, the parameter and the finished trials alone."""

import warnings
import zlib
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
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

    def _sampler(self, *key: int) -> TPESampler:
        seed = int(np.random.SeedSequence((self._seed, *key)).generate_state(1)[0])
        with warnings.catch_warnings():
            # `group`, which conditional parameters need, is called experimental; a test pins what is relied on.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self._startup_trials,
                multivariate=True,
                group=True,
                constant_liar=True,  # trials run side by side
                seed=seed,
            )

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        self._joint = self._sampler(trial.number)
        excerpt: Any = _Excerpt(study, self._history())
        self._excerpt = excerpt
        return self._joint.infer_relative_search_space(self._excerpt, trial)

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


class _Excerpt:
    """A study of which TPE sees a part of the trials."""

    def __init__(self, study: Study, trials: list[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    get_trials = _get_trials
