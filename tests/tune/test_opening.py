"""What a command says of its start: at once, and gone from a terminal when there is something better to see."""

import io

import pytest
from rich.console import Console

from tests.tune.told import steps_in, without_start
from tune import opening as module
from tune.opening import Opening, clock


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=20)


def terminal(width: int = 60) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def told(console: Console) -> str:
    return console.file.getvalue()


def test_without_a_terminal_each_step_is_a_line_at_once_and_none_is_wrapped(time):
    console = plain()
    with Opening(console) as opening:
        opening.step("reading [a folder] with a name that is long")
        assert told(console) == "0:00:00 start: reading [a folder] with a name that is long\n"
        time.now += 65
        opening.step("starting Ray")
        opening.end(2)
        opening.step("too late")
    assert told(console).splitlines()[1:] == [
        "0:01:05 start: starting Ray",
        "0:01:05 start: 2 workers, which load torch",
    ]
    assert steps_in(told(console))[1:] == ["starting Ray", "2 workers, which load torch"]
    assert without_start(told(console)) == ""


@pytest.mark.parametrize(("workers", "said"), [(0, []), (1, ["1 worker, which loads torch"])])
def test_workers_are_told_where_there_are_any(time, workers, said):
    console = plain()
    with Opening(console) as opening:
        opening.end(workers)
    assert steps_in(told(console)) == said


def test_a_terminal_shows_all_steps_and_is_clean_when_the_table_comes(time):
    console = terminal()
    with Opening(console) as opening:
        opening.step("reading digits")
        assert "0:00:00 start: reading digits" in told(console)
        time.now += 3
        opening.step("starting Ray")
        assert told(console).count("0:00:00 start: reading digits") == 2  # drawn again above the new one
        assert "0:00:03 start: starting Ray" in told(console)
        before = len(told(console))
        opening.end(2)
        after = told(console)[before:]
        opening.step("nothing more")
    assert after.rpartition("start:")[2].count("\x1b[2K") >= 2  # in the end both lines are erased
    assert "nothing more" not in told(console)
    assert "workers" not in told(console)


def test_the_cursor_of_a_terminal_is_there_all_the_time(time):
    """A kill in these seconds would leave it hidden."""
    console = terminal()
    opening = Opening(console)
    opening.step("starting Ray")
    assert told(console).rindex("\x1b[?25h") > told(console).rindex("\x1b[?25l")
    opening.end(0)


def test_a_step_that_is_too_long_for_a_terminal_takes_one_line(time):
    console = terminal(width=30)
    with Opening(console) as opening:
        opening.step("reading " + "x" * 100)
        assert "x" * 30 not in told(console)
        assert "…" in told(console)


def test_where_the_output_is_for_programs_only_a_terminal_is_told(time):
    for console, is_told in ((plain(), False), (terminal(), True)):
        with Opening(console, has_lines=False) as opening:
            opening.step("reading digits")
        assert ("reading digits" in told(console)) is is_told
    with Opening(None) as nowhere:
        nowhere.step("reading digits")
        nowhere.end(3)


def test_an_error_leaves_a_terminal_clean(time):
    console = terminal()
    opening = Opening(console)
    opening.__enter__().step("reading digits")
    before = len(told(console))
    opening.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert "\x1b[2K" in told(console)[before:]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00:00"), (59.9, "0:00:59"), (3725, "1:02:05")])
def test_time_is_hours_minutes_and_seconds(seconds, shown):
    assert clock(seconds) == shown
