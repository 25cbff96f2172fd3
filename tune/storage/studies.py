"""Where the Optuna studies of a run lie: in its own `study.db`, or in a team's database, beside those of other runs."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.storages import RDBStorage
from rich.console import Console

from trainables.errors import UserError
from tune.interruption import Interruption
from tune.records import read_json, read_records, write_json
from tune.records.schema import RUN_FILE, STUDY_FILE, TRIALS_FILE
from tune.settings import SearchSettings
from tune.storage.retry import GIVE_UP_AFTER_S, Outage, Retrying, StudyUnreachable
from tune.storage.retrying_storage import RetryingStorage
from tune.storage.url import StudyUrlError, check_driver, login

__all__ = ["StudyPlace", "TeamDatabase", "open_database", "open_study_file", "study_names"]

_OPENING_TRIES = 5
# Of PostgreSQL: what was to be made is there, because another search makes its tables at the same moment.
_MADE_MEANWHILE = {"42P07", "42710", "23505"}


def study_names(settings: SearchSettings, dataset: str, *, resume: bool) -> dict[str, str]:
    """Return the names of a run's studies by loss.

    In its own file a study is ``<dataset>-<loss>``. In a team's database the run's name comes before that, with a mark
    that no other run has: everybody may call a run as they like.

    Args:
        settings: of the run.
        dataset: its name.
        resume: whether the run exists, and has names.
    """
    recorded: dict[str, str] = (read_json(settings.folder / RUN_FILE).get("studies") if resume else None) or {}
    before = ""
    if settings.study_storage is not None:
        known = next(iter(recorded.values()), f"{settings.name}-{secrets.token_hex(3)}/")
        before = known.partition("/")[0] + "/"
    return {loss: recorded.get(loss, f"{before}{dataset}-{loss}") for loss in settings.losses}


def open_study_file(settings: SearchSettings) -> RDBStorage:
    """Open the run's own file.

    Raises:
        UserError: it is missing from a run that was begun.
    """
    database = (settings.folder / STUDY_FILE).resolve()
    if not database.exists() and any(settings.folder.glob(f"*/{TRIALS_FILE}")):
        raise UserError(f"{database} is missing, and without it the run cannot go on; put it back or start a new run")
    return RDBStorage(f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": 60}})


@contextlib.contextmanager
def open_database(
    settings: SearchSettings, dataset: str, interruption: Interruption, console: Console, *, resume: bool
) -> Iterator["StudyPlace"]:
    """Open the team's database of a run, if it has one; the run's own file is opened once its folder is locked.

    Args:
        settings: of the run.
        dataset: its name.
        interruption: whether the user wants to stop; a database that is away is not waited for then.
        console: where outages are told.
        resume: whether the run exists.

    Raises:
        UserError: the database cannot be used, or has not what it must; known within seconds.
    """
    database = TeamDatabase(settings, interruption, console) if settings.study_storage else None
    try:
        names = study_names(settings, dataset, resume=resume)
        if database is not None:
            database.check_studies(names, resume=resume)
        yield StudyPlace(names, settings, database)
    finally:
        if database is not None:
            database.close()


@dataclass(frozen=True)
class StudyPlace:
    """Where the studies of a run lie.

    Args:
        names: of the studies by loss.
        settings: of the run.
        database: the team's, or None for the run's own file.
    """

    names: Mapping[str, str]
    settings: SearchSettings
    database: "TeamDatabase | None"

    def open(self) -> RDBStorage:
        """Return Optuna's storage; from now on a database that goes away is waited for."""
        if self.database is None:
            return open_study_file(self.settings)
        self.database.start_retrying()
        return self.database.storage


class TeamDatabase:
    """A team's database, for one search.

    Args:
        settings: of the search.
        interruption: whether the user wants to stop; the database is not waited for then.
        console: where outages are told.

    Raises:
        UserError: it cannot be used; that is known within seconds, and until the search begins nothing is waited for.
    """

    def __init__(self, settings: SearchSettings, interruption: Interruption, console: Console) -> None:
        assert settings.study_storage is not None
        check_driver()
        self.url = settings.study_storage
        self._settings, self._console = settings, console
        self._login = login(self.url)
        self._retrying = Retrying(self._login.reason, lambda: bool(interruption), self._began, self._ended, 0.0)
        self.storage = self._opened()

    def check_studies(self, names: Mapping[str, str], *, resume: bool) -> None:
        """Raise UserError unless a new run's studies are new, and those of a run that goes on are there."""
        try:
            found = [name for name in names.values() if _has_study(self.storage, name)]
        except StudyUnreachable as error:
            raise StudyUrlError(f"--study-storage {self.url}: {error}") from None
        if not resume and found:
            raise UserError(f"{self.url} has a study {found[0]} of another run already; choose another --name")
        begun = [loss for loss in names if read_records(self._settings.folder / loss / TRIALS_FILE)]
        missing = [names[loss] for loss in begun if names[loss] not in found]
        if missing:
            raise UserError(
                f"{self.url} has no study {missing[0]}, and without it the run cannot go on; see --study-storage, and "
                f"the study_storage in {self._settings.folder / RUN_FILE}"
            )

    def start_retrying(self) -> None:
        """From now on wait for the database when it goes away, and note that in the run's file."""
        self._retrying.give_up_after_s = GIVE_UP_AFTER_S

    def close(self) -> None:
        """Close all connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def _opened(self) -> RetryingStorage:
        for tries_left in reversed(range(_OPENING_TRIES)):
            try:
                return RetryingStorage(self._login, self._retrying)
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                cause = _database_error(error)
                if tries_left and getattr(getattr(cause, "orig", None), "sqlstate", None) in _MADE_MEANWHILE:
                    time.sleep(0.5)
                    continue
                raise StudyUrlError(f"--study-storage {self.url}: {self._login.reason(cause)}") from None
            except RuntimeError as error:  # tables of another version; the message says how to bring them up to date
                raise StudyUrlError(f"--study-storage {self.url}: {error}") from None
        raise AssertionError("the last try raises or returns")

    def _began(self, reason: str) -> None:
        self._say(
            f"the study database {self.url} does not answer ({reason}); "
            f"trying again for {GIVE_UP_AFTER_S / 60:.0f} minutes"
        )

    def _ended(self, outage: Outage) -> None:
        if outage.recovered:
            self._say(f"the study database answers again after {outage.seconds:.0f} s; the search goes on")
        _add_outage(self._settings, outage)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _add_outage(settings: SearchSettings, outage: Outage) -> None:
    """Note in a run's file, with the invocation that is under way, that the database of its studies was away."""
    path = settings.folder / RUN_FILE
    run = read_json(path)
    run["invocations"][-1].setdefault("study_storage_outages", []).append(asdict(outage))
    write_json(path, run)


def _database_error(error: BaseException) -> BaseException:
    """Return what the database said, which Optuna wraps."""
    return error.__cause__ if isinstance(error.__cause__, sqlalchemy.exc.SQLAlchemyError) else error


def _has_study(storage: Any, name: str) -> bool:
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True
