"""The time that is left, from studies and a clock that a test sets."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.execution.time_left import Later, TimeLeft, duration
from tune.study import TrialCounts


class Study:
    """As much of a study as is looked at: some trials run, and so many epochs are to go."""

    def __init__(self, running: int = 1, to_go: float = 100.0) -> None:
        self.counts = TrialCounts(10, running={number: {} for number in range(running)})
        self.to_go = to_go

    def epochs_to_go(self) -> float:
        return self.to_go

    def train(self, epochs: int = 1) -> None:
        self.counts.epochs += epochs
        self.to_go -= epochs


def looking(study: Study, times: list[float], **options) -> TimeLeft:
    """Time left of a study that trained one epoch at each of these times."""
    left = TimeLeft({"arcface": study}, **options)
    for now in times:
        study.train()
        left.look(now)
    return left


def test_nothing_is_said_before_there_is_a_speed():
    study = Study()
    left = TimeLeft({"arcface": study})
    assert left.text(0.0) == ""
    left.look(5.0)
    assert left.text(5.0) == ""
    study.train()
    left.look(60.0)  # the first: who knows how much of the time was the start
    assert (left.seconds(60.0), left.text(60.0)) == (None, "")
    study.train()
    left.look(62.0)
    assert left.seconds(62.0) == pytest.approx(98 * 2.0)


def test_first_epochs_that_come_at_once_give_no_speed():
    """Two trials that started together end their first epochs together, a minute after they began."""
    study = Study(running=2)
    left = looking(study, [60.0, 60.1])
    assert left.seconds(60.1) is None
    for now in (120.0, 120.1):
        study.train()
        left.look(now)
    assert left.seconds(120.1) == pytest.approx(96 * 60.1 / 3)


def test_the_start_takes_no_part_in_the_speed():
    assert looking(Study(to_go=13), [100.0, 101.0, 102.0]).seconds(102.0) == pytest.approx(10.0)


def test_several_studies_are_added_up():
    first, second = Study(to_go=11), Study(to_go=21)
    left = TimeLeft({"arcface": first, "softmax": second})
    for now in (1.0, 2.0, 3.0):
        first.train()
        second.train()
        left.look(now)
    assert left.epochs_per_second(3.0) == pytest.approx(2.0)
    assert left.seconds(3.0) == pytest.approx((8 + 18) / 2)


def test_what_was_trained_before_this_program_began_is_no_speed():
    """A study that goes on counts the epochs of this process alone; so does a part that begins with some."""
    study = Study()
    study.counts.epochs = 500
    left = TimeLeft({"arcface": study})
    left.look(0.0)
    assert left.text(0.0) == ""
    study.train(2)
    left.look(4.0)
    assert left.epochs_per_second(4.0) == pytest.approx(0.5)


def test_between_epochs_the_speed_stays_and_falls_only_when_they_are_overdue():
    left = looking(Study(), [0.0, 10.0, 20.0])
    assert left.epochs_per_second(20.0) == left.epochs_per_second(29.0) == pytest.approx(0.1)
    assert left.epochs_per_second(60.0) == pytest.approx(3 / 60)


def test_a_limit_of_time_counts_where_it_is_shorter():
    assert looking(Study(), [0.0, 1.0], limit_s=lambda: 7.0).seconds(1.0) == 7.0
    assert looking(Study(), [0.0, 1.0], limit_s=lambda: 700.0).seconds(1.0) == pytest.approx(98)
    assert looking(Study(), [0.0, 1.0], limit_s=lambda: -3.0).seconds(1.0) == 0.0


def test_what_follows_is_told_beside_it_and_not_cut_by_the_limit():
    later = Later("the confirmation", 200.0)
    assert looking(Study(), [0.0, 1.0], later=later).text(1.0) == "about 2 min left, 5 min with the confirmation"
    shown = looking(Study(), [0.0, 1.0], later=later, limit_s=lambda: 30.0).text(1.0)
    assert shown == "about 30 s left, 4 min with the confirmation"
    assert looking(Study(), [0.0, 1.0], later=Later("the controls", 0)).text(1.0) == "about 2 min left"


def test_when_all_is_done_there_is_nothing_to_say():
    study = Study(to_go=2)
    left = looking(study, [0.0, 1.0])
    assert study.to_go == 0
    assert (left.seconds(1.0), left.text(1.0)) == (0.0, "")


@given(
    gaps=st.lists(st.floats(0, 1e4), max_size=30),
    running=st.integers(0, 4),
    to_go=st.integers(0, 100),
    waited=st.floats(0, 1e6),
    limit=st.floats(-10, 1e9),
)
def test_the_time_left_is_never_negative_and_never_beyond_its_limit(gaps, running, to_go, waited, limit):
    study, now = Study(running, to_go + len(gaps)), 0.0
    left = TimeLeft({"arcface": study}, limit_s=lambda: limit)
    for gap in gaps:
        now += gap
        study.train()
        left.look(now)
    seconds = left.seconds(now + waited)
    assert seconds is None or 0 <= seconds <= max(0.0, limit)
    assert not math.isnan(seconds or 0.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.1, "10 s"), (14, "10 s"), (16, "20 s"), (54, "50 s"), (55, "1 min"), (89, "1 min"), (91, "2 min")),
        *((240, "4 min"), (89 * 60, "89 min"), (90 * 60, "1.5 h"), (35 * 3600, "35.0 h"), (36 * 3600, "1.5 days")),
        (80 * 3600, "3.3 days"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


def test_studies_that_say_no_epochs_are_not_asked_how_many_are_to_go():
    """Before there is a speed: what a study has to compute for it is not computed at every redraw."""
    left = TimeLeft({"arcface": SimpleNamespace(counts=TrialCounts(3))})
    left.look(1.0)
    assert left.text(2.0) == ""
