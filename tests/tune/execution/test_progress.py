import io
import itertools
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from tune.execution import progress as module
from tune.execution.progress import LINE_INTERVAL_S, REDRAW_INTERVAL_S, Progress
from tune.execution.time_left import Later, TimeLeft
from tune.study import TrialCounts


def study(counts: TrialCounts) -> SimpleNamespace:
    """A study as far as the table looks at it."""
    return SimpleNamespace(counts=counts)


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def studies():
    running = {4: {"epoch": 2, "val_accuracy": 0.9101}, 5: {}}
    arcface = TrialCounts(
        12, finished=2, stopped=1, failed=1, epochs=31, running=running, best_number=2, best_accuracy=0.98765
    )
    return {"arcface": study(arcface), "softmax": study(TrialCounts(12))}


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


# --- No terminal -----------------------------------------------------------------------------------------------------


def test_without_a_terminal_lines_say_where_the_search_stands(clock, studies):
    console = plain()
    with Progress(studies, "digits", console) as progress:
        clock.now += 3725
        progress.update()
    state = "arcface 4/12, 31 epochs, best val. acc. 98.77 % | softmax 0/12, 0 epochs"
    assert lines(console) == [f"1:02:05 search: {state}", f"1:02:05 search ended: {state}"]


def test_lines_come_no_more_often_than_a_person_reads(clock, studies):
    console = plain()
    with Progress(studies, "digits", console) as progress:
        for _ in range(1000):
            clock.now += 3.1 * LINE_INTERVAL_S / 1000
            progress.update()
        assert 3 <= len(lines(console)) <= 4


def test_a_line_is_never_folded(clock, studies):
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with Progress(studies, "digits", console):
        pass
    assert len(lines(console)) == 1
    assert len(lines(console)[0]) > 40


# --- A terminal ------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_a_table(clock, studies):
    console = terminal()
    with Progress(studies, "digits -> results/x", console) as progress:
        clock.now += 61
        progress.update()
        shown = console.file.getvalue()
    rows = [row.split() for row in shown.splitlines()]
    assert "digits -> results/x   0:01:01" in shown
    assert ["arcface", "4/12", "2", "1", "1", "98.77", "%", "#4", "e2", "91.01", "%,", "#5", "starting"] in rows
    assert ["softmax", "0/12", "0", "0", "0", "-"] in rows
    assert all(len(row) <= 120 for row in shown.replace("\x1b", "").splitlines())


def test_the_table_is_drawn_no_more_often_than_needed(clock, studies, monkeypatch):
    drawn = []
    monkeypatch.setattr(module.Live, "update", lambda *_, **__: drawn.append(clock.now))
    with Progress(studies, "digits", terminal()) as progress:
        for _ in range(100):
            clock.now += REDRAW_INTERVAL_S / 10
            progress.update()
    assert 10 <= len(drawn) <= 11
    assert all(later - earlier >= REDRAW_INTERVAL_S - 1e-9 for earlier, later in itertools.pairwise(drawn))


def test_the_table_is_gone_in_the_end_even_after_an_error(clock, studies):
    console = terminal()
    with pytest.raises(KeyError), Progress(studies, "digits", console) as progress:
        raise KeyError
    assert not progress._live.is_started


@pytest.mark.parametrize("console", [plain, terminal])
def test_the_time_left_stands_beside_the_time_spent(clock, console):
    counts = TrialCounts(3, running={0: {}})
    running = SimpleNamespace(counts=counts, epochs_to_go=lambda: 100 - counts.epochs)
    shown = console()
    time_left = TimeLeft({"arcface": running}, Later("the confirmation", 80))
    with Progress({"arcface": running}, "digits", shown, time_left=time_left) as progress:
        for _ in range(10):
            clock.now += 3.5
            counts.epochs += 1
            progress.update()
    said = shown.file.getvalue()
    assert "about 5 min left, 10 min with the confirmation" in said
    if console is plain:
        assert "0:00:35 search, about 5 min left" in said
        assert "left" not in said.splitlines()[-1]  # it has ended
    else:
        assert "digits   0:00:35   about 5 min left" in said


# --- Either ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("console", [plain, terminal])
def test_an_accuracy_that_is_no_number_is_a_dash_or_left_out(clock, console, value):
    counts = TrialCounts(3, running={0: {"epoch": 1, "val_accuracy": value}})
    shown = console()
    with Progress({"arcface": study(counts)}, "digits", shown) as progress:
        clock.now += 100
        progress.update()
    text = shown.file.getvalue()
    assert "nan" not in text
    assert "None" not in text
    if console is plain:
        assert "acc." not in text
    else:
        assert "#0 e1 -" in text


def test_a_stage_without_validation_shows_what_it_has(clock):
    running = {0: {"epoch": 3, "train_accuracy": 0.875}}
    shown = terminal()
    counts = TrialCounts(3, finished=1, running=running, best_accuracy=0.5)
    with Progress({"softmax": study(counts)}, "digits", shown, "confirmation", "mean acc.") as progress:
        clock.now += 1
        progress.update()
    text = shown.file.getvalue()
    assert "mean acc." in text
    assert "50.00 %" in text
    assert "#0 e3 87.50 %" in text
