"""Waiting, with a clock that the tests turn."""

import itertools

import optuna
import pytest
import sqlalchemy.exc

from tune.storage import retry as module
from tune.storage.retry import GIVE_UP_AFTER_S, Outage, Retrying, StudyUnreachable

AWAY = sqlalchemy.exc.OperationalError("SELECT", {}, Exception("refused"))


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Told(Retrying):
    """Retrying that remembers what it told."""

    def __init__(self, give_up_after_s=GIVE_UP_AFTER_S, interrupted=lambda: False):
        self.begun, self.outages = [], []
        super().__init__(
            lambda error: str(error.orig), interrupted, self.begun.append, self.outages.append, give_up_after_s
        )


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def failing(times, error=AWAY, takes_s=0.0, clock=None):
    """An operation that fails so often, and then returns what each attempt was told."""
    told = []

    def operation(again):
        told.append(again)
        if clock is not None:
            clock.now += takes_s
        if len(told) <= times:
            raise error
        return told

    return operation


def test_what_works_is_done_once(clock):
    retrying = Told()
    assert retrying.call(failing(0)) == [False]
    assert (retrying.begun, retrying.outages, clock.now) == ([], [], 1000.0)


def test_a_connection_that_was_closed_while_idle_is_no_outage(clock):
    retrying = Told()
    assert retrying.call(failing(1)) == [False, True]
    assert (retrying.begun, retrying.outages, clock.now) == ([], [], 1000.0)


def test_an_outage_is_told_when_it_begins_and_when_it_ends(clock):
    retrying = Told()
    assert retrying.call(failing(12)) == [False] + 12 * [True]
    assert retrying.begun == ["refused"]
    (outage,) = retrying.outages
    assert outage == Outage(1000.0, pytest.approx(clock.now - 1000), "refused", recovered=True)
    assert retrying.call(failing(0)) == [False]
    assert len(retrying.outages) == 1


def test_pauses_grow_to_three_seconds(clock):
    times = []

    def operation(again):
        times.append(clock.now)
        if len(times) < 12:
            raise AWAY

    Told().call(operation)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses == pytest.approx([0, 0.25, 0.5, 1, 2, 3, 3, 3, 3, 3, 3])


@pytest.mark.parametrize("takes_s", [0.0, 5.0])
def test_it_gives_up_after_its_time_and_is_then_out_of_patience(clock, takes_s):
    retrying = Told()
    with pytest.raises(StudyUnreachable, match="refused"):
        retrying.call(failing(10**6, takes_s=takes_s, clock=clock))
    waited = clock.now - 1000
    assert GIVE_UP_AFTER_S <= waited <= GIVE_UP_AFTER_S + 3 + 2 * takes_s
    assert [outage.recovered for outage in retrying.outages] == [False]
    # What is left to do is tried, with one repetition, and neither waited for nor told.
    before = clock.now
    assert retrying.call(failing(1)) == [False, True]
    with pytest.raises(StudyUnreachable):
        retrying.call(failing(10**6))
    assert clock.now == before
    assert (len(retrying.begun), len(retrying.outages)) == (1, 1)


def test_the_user_may_stop_waiting_at_any_moment(clock):
    retrying = Told(interrupted=lambda: clock.now >= 1020)
    with pytest.raises(StudyUnreachable):
        retrying.call(failing(10**6))
    assert 1020 <= clock.now <= 1020.3
    with pytest.raises(StudyUnreachable):  # what is left to do on the way out
        retrying.call(failing(10**6))
    assert clock.now <= 1020.3
    assert retrying.call(failing(1)) == [False, True]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("no such trial"),
        sqlalchemy.exc.IntegrityError("INSERT", {}, Exception("twice")),
        sqlalchemy.exc.ProgrammingError("SELECT", {}, Exception("no such column")),
        optuna.exceptions.StorageInternalError("too long"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_wrong_for_another_reason_is_not_repeated(clock, error):
    operation = failing(1, error)
    with pytest.raises(type(error)):
        Told().call(operation)
    assert operation(False) == [False, False]


def wrapped(cause, context=None):
    """An error as Optuna raises it, which may have met another one while it tidied up."""
    cause.__context__ = context
    outer = optuna.exceptions.StorageInternalError("during the commit")
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    "error",
    [
        wrapped(AWAY),
        wrapped(sqlalchemy.exc.PendingRollbackError("reconnect"), AWAY),
        wrapped(sqlalchemy.exc.InterfaceError("SELECT", {}, Exception("closed"))),
        sqlalchemy.exc.InternalError("SELECT", {}, Exception("gone"), connection_invalidated=True),
    ],
    ids=["wrapped", "tidying up", "interface", "invalidated"],
)
def test_an_outage_is_known_by_what_the_database_said(clock, error):
    assert Told().call(failing(3, error)) == [False, True, True, True]
