"""Reads the Optuna studies of a run: of a file a copy, so that it is neither written nor locked."""

import math
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.loading import Run
from analysis.recorded_trials import searched_trials
from analysis.study_database import ENDED, LossTrials, StudyError, read_database
from tune.records.schema import PACKED, STUDY_FILE, TRIALS_FILE

__all__ = [
    "MIN_TRIALS",
    "MOST_DRAWN",
    "LossTrials",
    "StudyError",
    "drawn",
    "importance",
    "judged",
    "parameters_of",
    "place",
    "read_trials",
]

MIN_TRIALS = 10  # fewer say nothing about importance
MOST_DRAWN = 300  # trials of a loss; more are thinned
_TRIES = 5


def read_trials(run: Run) -> dict[str, LossTrials]:
    """Return the ended trials of each loss; of a published copy as far as its records tell of them.

    Raises:
        StudyError: there is no study, it is damaged, it is written to without a pause, or its database does not answer.
    """
    if any(run.folder.glob(f"*/{TRIALS_FILE}{PACKED}")):  # a published copy has no study, and needs no server
        return {loss: searched_trials(run, loss) for loss in run.losses}
    ended = int((run.trials["state"] != "unfinished").sum())
    url = run.info["settings"].get("study_storage")
    if url is not None:
        return read_database(url, _names(run), ended)
    path = run.folder / STUDY_FILE
    if not path.is_file():
        raise StudyError("study.db is missing")
    studies = _studies(path, path.stat().st_ino, ended)
    recorded = run.info.get("studies")
    known = recorded if isinstance(recorded, dict) else {}  # the first versions did not say
    return {
        loss: studies[name]
        for loss in run.losses
        for name in studies
        if (name == known[loss] if loss in known else name.endswith(f"-{loss}"))
    }


def _names(run: Run) -> dict[str, str]:
    """Return the names of a run's studies in a database, by loss."""
    recorded = run.info.get("studies")
    known = recorded if isinstance(recorded, dict) else {}
    names = {loss: known[loss] for loss in run.losses if isinstance(known.get(loss), str)}
    if len(names) < len(run.losses):
        raise StudyError("run.json does not name the studies; it was damaged or edited")
    return names


@lru_cache(maxsize=8)
def _studies(path: Path, inode: int, ended: int) -> dict[str, LossTrials]:
    """Return the ended trials by name of the study; read again when other trials have ended."""
    content = _quiet_copy(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / STUDY_FILE
        copy.write_bytes(content)
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{copy}", skip_table_creation=True)
            try:
                return {
                    study.study_name: LossTrials(
                        tuple(storage.get_all_trials(study._study_id, deepcopy=False, states=ENDED))
                    )
                    for study in storage.get_all_studies()
                }
            finally:
                storage.remove_session()
                storage.engine.dispose()
        except (optuna.exceptions.OptunaError, sqlite3.Error, RuntimeError, ValueError, KeyError, TypeError):
            raise StudyError("study.db is damaged, or of another version of Optuna") from None


def _quiet_copy(path: Path) -> bytes:
    """Return the content of an SQLite file at a moment when nobody writes to it: SQLite then keeps no journal."""
    for _ in range(_TRIES):
        try:
            before = path.stat().st_mtime_ns
            if not _is_written(path):
                content = path.read_bytes()
                if not _is_written(path) and path.stat().st_mtime_ns == before:
                    return content
        except OSError as error:
            raise StudyError(f"study.db cannot be read ({error.strerror})") from None
    raise StudyError("study.db was being written to")


def _is_written(path: Path) -> bool:
    return path.with_name(f"{path.name}-journal").exists()


# --- Parameters ------------------------------------------------------------------------------------------------------


def drawn(trials: LossTrials) -> list[FrozenTrial]:
    """Return the trials to draw: all, or where they are many all finished ones and others evenly chosen, 300 in all.

    More than 300 finished ones are thinned evenly too, but the best tenth stays.
    """
    if len(trials.trials) <= MOST_DRAWN:
        return list(trials.trials)
    finished = sorted((t for t in trials.trials if t.state == TrialState.COMPLETE), key=lambda t: -(t.value or 0.0))
    others = [t for t in trials.trials if t.state != TrialState.COMPLETE]
    tenth = -(-len(finished) // 10)
    chosen = finished[:tenth] + _thinned(finished[tenth:], MOST_DRAWN * 2 // 3 - tenth)
    chosen += _thinned(others, MOST_DRAWN - len(chosen))
    return sorted(chosen, key=lambda t: t.number)


def _thinned(trials: list[FrozenTrial], count: int) -> list[FrozenTrial]:
    if len(trials) <= count:
        return trials
    return [trials[i * len(trials) // count] for i in range(max(count, 0))]


def parameters_of(trials: LossTrials) -> dict[str, BaseDistribution]:
    """Return the distributions of all parameters, in the order in which they were drawn."""
    found: dict[str, BaseDistribution] = {}
    for trial in trials.trials:
        found |= trial.distributions
    return found


def place(value: Any, distribution: BaseDistribution) -> float:
    """Return where a value lies in its range: 0 at the low end, 1 at the high end, logarithmic where the range is."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices.index(value) / max(len(choices) - 1, 1)
        case FloatDistribution(low=low, high=high, log=True) | IntDistribution(low=low, high=high, log=True):
            return math.log(value / low) / math.log(high / low) if high > low else 0.5
        case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
            return (value - low) / (high - low) if high > low else 0.5
    raise TypeError(f"no way to place a value of {distribution}")


# --- Importance ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def importance(trials: LossTrials, epoch: int | None, chance: float) -> dict[str, float] | None:
    """Return fANOVA's shares of the variance of accuracy by parameter; None where it has nothing to go by.

    Only parameters that all trials have are told apart. Forests are smaller than Optuna's own (32 trees of depth 8),
    which changes little and takes a thirtieth of the time at 700 trials.

    Args:
        trials: of one loss.
        epoch: judges all trials by their accuracy there, chance for those that broke before; None judges the finished
            trials by their last.
        chance: accuracy of guessing, a fraction.

    Reference:
        Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    values = judged(trials, epoch, chance)
    if len(values) < MIN_TRIALS or len(set(values.values())) < 2:
        return None
    known = [(trials.trials[place], value) for place, value in values.items()]
    varying = [name for name in parameters_of(trials) if _can_be_judged(name, [trial for trial, _ in known])]
    if not varying:
        return None
    with _quiet_optuna():
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                create_trial(
                    value=value,
                    params={name: trial.params[name] for name in varying},
                    distributions={name: trial.distributions[name] for name in varying},
                )
                for trial, value in known
            ]
        )
        evaluator = FanovaImportanceEvaluator(n_trees=32, max_depth=8, seed=0)
        shares = get_param_importances(study, evaluator=evaluator)
    return {name: float(shares[name]) for name in varying}


def judged(trials: LossTrials, epoch: int | None, chance: float) -> dict[int, float]:
    """Return the accuracies of the trials that count, by place."""
    found: dict[int, float] = {}
    for place, trial in enumerate(trials.trials):
        if epoch is None:
            if trial.state == TrialState.COMPLETE and trial.value is not None and math.isfinite(trial.value):
                found[place] = trial.value
        elif epoch in trial.intermediate_values and math.isfinite(trial.intermediate_values[epoch]):
            found[place] = trial.intermediate_values[epoch]
        elif trial.state == TrialState.FAIL:
            found[place] = chance
    return found


def _can_be_judged(name: str, trials: list[FrozenTrial]) -> bool:
    """Return whether all trials have a parameter, drawn from the same range, and not always the same value."""
    if not all(name in trial.params for trial in trials):
        return False
    first = trials[0]
    same_range = all(trial.distributions[name] == first.distributions[name] for trial in trials)
    return same_range and any(trial.params[name] != first.params[name] for trial in trials)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing the study that stands in."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
