"""Waiting for a database that went away: operations are repeated until it answers, for as long as is reasonable."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import optuna
import sqlalchemy.exc

__all__ = ["GIVE_UP_AFTER_S", "Outage", "Retrying", "StudyUnreachable"]

GIVE_UP_AFTER_S = 600.0  # a database that is away for longer will not be back soon, and hardware stands idle
_LONGEST_PAUSE_S = 3.0
_SLICE_S = 0.2  # within which a wish to stop is noticed

_Result = TypeVar("_Result")


class StudyUnreachable(BaseException):
    """The database did not come back in time, or the user stopped waiting; no Exception, so that Ray's loop ends and
    nothing on the way takes it for a trial's.
    """


@dataclass(frozen=True)
class Outage:
    """A time in which the database did not answer.

    Args:
        time: unix time of its start.
        seconds: how long it was noticed.
        reason: why, in one line.
        recovered: whether the database came back.
    """

    time: float
    seconds: float
    reason: str
    recovered: bool


class Retrying:
    """Repeats what failed because the database was away.

    Args:
        reason: says in one line what an error means.
        interrupted: whether the user wants to stop; nothing is waited for then.
        began: is told the reason when waiting begins.
        ended: is told of each outage when it is over.
        give_up_after_s: how long one is waited for.
    """

    def __init__(
        self,
        reason: Callable[[BaseException], str],
        interrupted: Callable[[], bool],
        began: Callable[[str], None],
        ended: Callable[[Outage], None],
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> None:
        self._reason, self._interrupted = reason, interrupted
        self._began, self._ended = began, ended
        self.give_up_after_s = give_up_after_s  # 0: what fails is repeated once, and not waited for

    def call(self, operation: Callable[[bool], _Result]) -> _Result:
        """Return what an operation returns, once the database answers.

        Args:
            operation: is told whether an earlier attempt failed, of which nobody knows whether it took effect: the
                answer to a commit may have been lost.

        Raises:
            StudyUnreachable: it did not answer in time.
        """
        started, noticed, announced = time.time(), time.monotonic(), False
        for pause_s in _pauses():
            try:
                result = operation(pause_s is not None)
            except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                cause = _outage(error)
                if cause is None:
                    raise
                reason = self._reason(cause)
            else:
                if announced:
                    self._ended(Outage(started, time.monotonic() - noticed, reason, recovered=True))
                return result
            if pause_s is None:
                noticed = time.monotonic()
                continue  # a connection that was closed while idle is no outage: the next one may well work
            if not announced and self.give_up_after_s and not self._interrupted():
                self._began(reason)
                announced = True
            if not self._wait(pause_s, noticed):
                self.give_up_after_s = 0.0  # nor is what is left to do waited for
                lasted_s = time.monotonic() - noticed
                if announced:
                    self._ended(Outage(started, lasted_s, reason, recovered=False))
                raise StudyUnreachable(reason)
        raise AssertionError("there is always another pause")

    def _wait(self, pause_s: float, noticed: float) -> bool:
        """Wait, and return whether to try again."""
        end = time.monotonic() + pause_s
        while (now := time.monotonic()) < end:
            if self._interrupted() or now - noticed >= self.give_up_after_s:
                return False
            time.sleep(min(_SLICE_S, end - now))
        return True


def _pauses() -> Iterator[float | None]:
    """None for the first attempt, then how long to wait after each that failed."""
    yield None
    pause_s = 0.25
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _outage(error: BaseException) -> sqlalchemy.exc.DBAPIError | None:
    """Return the error by which the database was away, None where an operation failed for another reason.

    Optuna wraps it, and may meet another while it tidies up.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, sqlalchemy.exc.DBAPIError) and (
            seen.connection_invalidated
            or isinstance(seen, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError)
        ):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
