"""Ray's searcher over the studies: who is asked for the next trial, and when."""

from types import SimpleNamespace

import pytest
from ray.tune.search import Searcher

from tune.execution.searcher import StudySearcher
from tune.study import Suggestion, TrialCounts


class FewTrials:
    """A study with some trials to hand out."""

    def __init__(self, count):
        self.counts = TrialCounts(count)

    def ask(self):
        number = self.counts.started
        if number >= self.counts.asked:
            return None
        self.counts.running[number] = {}
        return Suggestion(number, str(number), {})


def searcher(studies, capacity, closed=lambda: False):
    return StudySearcher(studies, lambda name, suggestion: {"is": f"{name}{suggestion.number}"}, closed, capacity)


def test_the_books_take_turns():
    asked = searcher({"a": FewTrials(2), "b": FewTrials(2)}, lambda: 9)
    assert [asked.suggest(str(i)) for i in range(4)] == [{"is": name} for name in ("a0", "b0", "a1", "b1")]
    assert asked.suggest("5") == Searcher.FINISHED


def test_no_more_trials_live_than_there_is_room_for_at_the_moment():
    room = SimpleNamespace(now=1)
    asked = searcher({"a": FewTrials(9)}, lambda: room.now)
    assert asked.suggest("x") == {"is": "a0"}
    assert asked.suggest("y") is None
    room.now = 3  # machines joined
    assert asked.suggest("y") == {"is": "a1"}
    assert asked.suggest("z") == {"is": "a2"}
    room.now = 2  # one was lost; what ran there waits for room
    assert asked.suggest("u") is None
    asked.on_trial_complete("x")
    assert asked.suggest("u") is None
    asked.on_trial_complete("y", error=True)
    assert asked.suggest("u") == {"is": "a3"}


def test_nothing_starts_once_it_is_closed():
    asked = searcher({"a": FewTrials(1)}, lambda: pytest.fail("counted"), closed=lambda: True)
    assert asked.suggest("x") == Searcher.FINISHED
