"""Reads the Optuna studies of a run that keeps them in a team's database.

The address comes from the run's file, which somebody else may have written. So a server that only that file names is
not given a password in clear text; one that the user's own ADALOSS_STUDY_STORAGE names is trusted.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tune.storage.url import VARIABLE, StudyUrlError, check_driver, login, plain_url

__all__ = ["ENDED", "LossTrials", "StudyError", "read_database"]

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
RETRY_S = 10.0  # a database that did not answer is left alone for so long
_CONNECT_TIMEOUT_S = 3
_failures: dict[str, tuple[float, str]] = {}  # by URL: when, and why


class StudyError(Exception):
    """The study cannot be read; the message is a clause that says why.

    Args:
        message: the clause.
        may_pass: whether that may change although nothing in the run's folder does.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


@dataclass(frozen=True, eq=False)  # equal only to itself: results are remembered for it
class LossTrials:
    """The ended trials of a loss as its study has them, by number."""

    trials: tuple[FrozenTrial, ...]


def read_database(url: str, names: Mapping[str, str], ended: int) -> dict[str, LossTrials]:
    """Return the ended trials by loss, those that are read already unless others have ended since.

    Args:
        url: plain, as the run's file has it.
        names: of the studies by loss.
        ended: how many trials have ended as far as the records know.

    Raises:
        StudyError: the database cannot be read, or has no such study.
    """
    failed, reason = _failures.get(url, (-RETRY_S, ""))
    if time.monotonic() - failed < RETRY_S:
        raise StudyError(reason, may_pass=True)
    try:
        return _read(url, tuple(names.items()), ended)
    except StudyError as error:
        if error.may_pass:
            _failures[url] = (time.monotonic(), str(error))
        raise


@lru_cache(maxsize=8)
def _read(url: str, names: tuple[tuple[str, str], ...], ended: int) -> dict[str, LossTrials]:
    try:
        check_driver()
        found = login(plain_url(url))
    except StudyUrlError as error:
        raise StudyError(str(error)) from None
    arguments = found.arguments(_CONNECT_TIMEOUT_S)
    if not found.is_own:
        arguments["require_auth"] = "!password"
    try:
        storage = optuna.storages.RDBStorage(
            found.sqlalchemy_url, engine_kwargs={"connect_args": arguments}, skip_table_creation=True
        )
        try:
            return {loss: _ended_trials(storage, name, found.url) for loss, name in names}
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        wrapped = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        reason = found.reason(wrapped)
        if "require_auth" in reason or "cleartext" in reason:  # a libpq before 16, or a server that asked
            reason += f"; if it may be trusted with a password, name it in {VARIABLE}"
        raise StudyError(f"{found.url} cannot be read: {reason}", may_pass=True) from None
    except (RuntimeError, ValueError, TypeError):
        raise StudyError(f"the studies in {found.url} are of another version of Optuna") from None


def _ended_trials(storage: optuna.storages.RDBStorage, name: str, url: str) -> LossTrials:
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        raise StudyError(f"{url} has no study {name}", may_pass=True) from None
    return LossTrials(tuple(storage.get_all_trials(study_id, deepcopy=False, states=ENDED)))
