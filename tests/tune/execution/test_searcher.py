"""Ray's searcher over the studies: who is asked for the next trial, and when."""

from types import SimpleNamespace

import pytest
from ray.tune.search import Searcher

from tests.tune.execution.invented_stages import Workers, stage_of, under_way
from trainables.errors import UserError
from tune.execution.searcher import StudySearcher
from tune.execution.stages import Stages
from tune.full_disk import LeaveRay
from tune.interruption import Interruption
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

    def requeue_running(self):
        self.counts.running.clear()


def searcher(*stages, capacity=lambda: 9, closed=lambda: False, workers=None):
    """A searcher at the first of some stages, each given by its studies."""
    return StudySearcher(
        under_way(*(stage_of(studies, is_followed=studies is not stages[-1]) for studies in stages)),
        lambda name, suggestion: {"is": f"{name}{suggestion.number}"},
        closed,
        capacity,
        workers or Workers(),
    )


def test_the_books_take_turns():
    asked = searcher({"a": FewTrials(2), "b": FewTrials(2)})
    assert [asked.suggest(str(i)) for i in range(4)] == [{"is": name} for name in ("a0", "b0", "a1", "b1")]
    assert asked.suggest("5") is None  # the stage is over when these are
    for i in range(4):
        asked.on_trial_complete(str(i))
    assert asked.suggest("5") == Searcher.FINISHED


def test_no_more_trials_live_than_there_is_room_for_at_the_moment():
    room = SimpleNamespace(now=1)
    asked = searcher({"a": FewTrials(9)}, capacity=lambda: room.now)
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
    asked = searcher({"a": FewTrials(1)}, capacity=lambda: pytest.fail("counted"), closed=lambda: True)
    assert asked.suggest("x") == Searcher.FINISHED


def test_the_next_stage_begins_when_the_last_trial_of_the_one_before_is_over():
    """Its workers are kept meanwhile; those of the last stage are not needed again."""
    workers = Workers()
    asked = searcher({"a": FewTrials(2)}, {"b": FewTrials(2)}, workers=workers)
    assert [asked.suggest(name) for name in "xyz"] == [{"is": "a0"}, {"is": "a1"}, None]
    asked.on_trial_complete("x")
    assert asked.suggest("z") is None
    assert workers.are_kept
    asked.on_trial_complete("y")
    assert [asked.suggest(name) for name in "zu"] == [{"is": "b0"}, {"is": "b1"}]
    assert workers.are_kept
    asked.on_trial_complete("u")
    assert asked.suggest("v") is None
    assert not workers.are_kept
    asked.on_trial_complete("z")
    assert asked.suggest("v") == Searcher.FINISHED


def test_what_breaks_between_two_stages_is_the_runs_own_and_none_of_rays():
    def stages():
        yield stage_of({"a": FewTrials(1)}, is_followed=True)
        raise UserError("no test images")

    under_way = Stages(stages(), Interruption())
    assert under_way.go_on()
    asked = StudySearcher(under_way, lambda *_: {}, lambda: False, lambda: 1, Workers())
    assert asked.suggest("x") == {}
    asked.on_trial_complete("x")
    with pytest.raises(LeaveRay) as met:
        asked.suggest("y")
    with pytest.raises(UserError, match="no test images"):
        under_way.go_on(met.value.__cause__)
