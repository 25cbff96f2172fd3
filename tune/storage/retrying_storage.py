"""Optuna's storage in a database that may go away for a while: nothing is lost, and nothing is done twice.

An operation that fails because the database does not answer is repeated. Repeating is harmless for reads and for what
sets a value. Four operations are not like that: where the answer to a commit was lost, a repeated one would make a
second study or trial, find the trial finished already, or find it taken. They look whether the earlier attempt went
through.
"""

import copy
import functools
import json
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy.event
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.storage.retry import Retrying
from tune.storage.url import Login

__all__ = ["RetryingStorage"]

CONNECT_TIMEOUT_S = 5
REQUEST_KEY = "adaloss:request"  # of the attribute that tells a trial made by an earlier attempt

# A server that does not notice that a connection is dead would hold its locks for hours.
_SESSION_LIMITS = (
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '60s'",
)


def _repeated(name: str) -> Any:
    """Return one of Optuna's methods, repeated while the database is away."""
    plain = getattr(RDBStorage, name)

    @functools.wraps(plain)
    def method(self: "RetryingStorage", *arguments: Any, **options: Any) -> Any:
        return self.retrying.call(lambda again: plain(self, *arguments, **options))

    return method


class RetryingStorage(RDBStorage):
    """A database of which one process at a time writes to a study, as the searches of this project do.

    Opening it fails at once where the database does not answer; from then on patience is what it has.

    Args:
        login: how to get in.
        retrying: with the database.
    """

    def __init__(self, login: Login, retrying: Retrying) -> None:
        super().__init__(login.sqlalchemy_url, engine_kwargs={"connect_args": login.arguments(CONNECT_TIMEOUT_S)})
        sqlalchemy.event.listen(self.engine, "connect", _limit_session)
        self.engine.dispose()  # the connection that was made without
        self.retrying = retrying

    def __getstate__(self) -> dict[Any, Any]:
        raise TypeError("a storage that knows a password is not pickled")

    # What reads, or sets a value.
    get_study_id_from_name = _repeated("get_study_id_from_name")
    get_study_name_from_id = _repeated("get_study_name_from_id")
    get_study_directions = _repeated("get_study_directions")
    get_study_user_attrs = _repeated("get_study_user_attrs")
    get_study_system_attrs = _repeated("get_study_system_attrs")
    get_all_studies = _repeated("get_all_studies")
    get_trial = _repeated("get_trial")
    get_trial_param = _repeated("get_trial_param")
    get_trial_user_attrs = _repeated("get_trial_user_attrs")
    get_trial_system_attrs = _repeated("get_trial_system_attrs")
    get_trial_id_from_study_id_trial_number = _repeated("get_trial_id_from_study_id_trial_number")
    _get_trials = _repeated("_get_trials")
    _get_best_trial_id = _repeated("_get_best_trial_id")
    set_study_user_attr = _repeated("set_study_user_attr")
    set_study_system_attr = _repeated("set_study_system_attr")
    set_trial_intermediate_value = _repeated("set_trial_intermediate_value")
    set_trial_user_attr = _repeated("set_trial_user_attr")
    set_trial_system_attr = _repeated("set_trial_system_attr")
    _set_trial_param = _repeated("_set_trial_param")  # a parameter that is there already stays as it is

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Make a study; one that an earlier attempt made is the one."""

        def create(again: bool) -> int:
            try:
                return super(RetryingStorage, self).create_new_study(directions, study_name)
            except DuplicatedStudyError:
                if not again or study_name is None:
                    raise
                return int(RDBStorage.get_study_id_from_name(self, study_name))

        return self.retrying.call(create)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Make a trial; one that an earlier attempt made is the one, known by a mark of its own.

        Optuna repeats by itself what failed here, and knows no mark.
        """
        template = copy.deepcopy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        mark = uuid.uuid4().hex
        template.system_attrs = {**template.system_attrs, REQUEST_KEY: mark}

        def create(again: bool) -> FrozenTrial:
            with _create_scoped_session(self.scoped_session) as session:
                # The lock also waits for an earlier attempt whose commit is still under way.
                models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
                trial: Any = _find_marked(session, study_id, mark) if again else None
                if trial is None:
                    trial = self._get_prepared_new_trial(study_id, template, session)
                made = copy.deepcopy(template)
                made.number, made._trial_id, made.datetime_start = trial.number, trial.trial_id, trial.datetime_start
                return made

        return self.retrying.call(create)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set a trial's state; one that an earlier attempt has set is set."""

        def is_set() -> bool:
            trial = RDBStorage.get_trial(self, trial_id)
            return trial.state == state and (values is None or trial.values == list(values))

        def set_(again: bool) -> bool:
            try:
                done = super(RetryingStorage, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if not again or not is_set():
                    raise
                return True
            return done or (again and is_set())

        return self.retrying.call(set_)


def _find_marked(session: Any, study_id: int, mark: str) -> Any:
    attribute = models.TrialSystemAttributeModel
    return (
        session.query(models.TrialModel)
        .join(attribute)
        .filter(models.TrialModel.study_id == study_id)
        .filter(attribute.key == REQUEST_KEY, attribute.value_json == json.dumps(mark))
        .one_or_none()
    )


def _limit_session(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        for setting in _SESSION_LIMITS:
            cursor.execute(setting)
    connection.commit()
