"""The stages of a run, without Ray: what the run is told when, and what becomes of trials under way."""

import pytest

from tests.tune.execution.invented_stages import stage_of
from tests.tune.execution.test_searcher import FewTrials
from tune.execution.stages import Stages
from tune.interruption import Interruption
from tune.storage.retry import StudyUnreachable


class Broken(FewTrials):
    """Cannot put back what runs."""

    def __init__(self, error):
        super().__init__(1)
        self._error = error

    def requeue_running(self):
        raise self._error


def stages_of(generator):
    interruption = Interruption()
    return Stages(generator, interruption), interruption


def test_a_run_goes_on_where_it_gave_a_stage_and_tells_what_it_came_to():
    steps = []

    def run():
        steps.append("begun")
        yield stage_of({"a": FewTrials(1)})
        steps.append("between")
        yield stage_of({"b": FewTrials(1)})
        return "outcome"

    stages, _ = stages_of(run())
    with stages:
        assert stages.go_on()
        assert (list(stages.current.studies), steps, stages.is_over) == (["a"], ["begun"], False)
        assert stages.go_on()
        assert (list(stages.current.studies), steps) == (["b"], ["begun", "between"])
        assert not stages.go_on()
        assert (stages.is_over, stages.outcome, stages.progress) == (True, "outcome", None)


def test_stages_without_trials_to_run_are_passed_over():
    stages, _ = stages_of(stage_of({"a": FewTrials(count)}) for count in (0, 0, 3, 0))
    assert stages.go_on()
    assert stages.current.to_go == 3
    assert not stages.go_on()


def test_when_the_user_wants_to_stop_no_stage_begins_and_the_run_still_ends_in_its_own_way():
    def run():
        yield stage_of({"a": FewTrials(1)})
        yield stage_of({"b": FewTrials(1)})
        return "interrupted"

    stages, interruption = stages_of(run())
    assert stages.go_on()
    interruption._note(15, None)
    assert not stages.go_on()
    assert stages.outcome == "interrupted"


def test_what_a_stage_broke_off_with_is_raised_where_the_run_gave_it():
    def run(*, catches):
        try:
            yield stage_of({"a": FewTrials(1)})
        except ConnectionError:
            if not catches:
                raise
        return "unreachable"

    caught, _ = stages_of(run(catches=True))
    assert caught.go_on()
    assert not caught.go_on(ConnectionError())
    assert caught.outcome == "unreachable"
    raised, _ = stages_of(run(catches=False))
    assert raised.go_on()
    with pytest.raises(ConnectionError):
        raised.go_on(ConnectionError())


def test_trials_under_way_go_back_to_their_study_however_a_stage_is_left():
    for leave in (lambda stages: stages.go_on(), lambda stages: stages.__exit__()):
        study = FewTrials(2)
        stages, _ = stages_of(stage_of({"a": study}) for _ in range(1))
        stages.go_on()
        study.ask()
        leave(stages)
        assert study.counts.running == {}


@pytest.mark.parametrize("error", [OSError("no space left"), StudyUnreachable("no answer")])
def test_a_study_that_cannot_take_them_back_is_told_to_the_run(error):
    def run():
        with pytest.raises(type(error), match=str(error)):
            yield stage_of({"a": Broken(error)})
        return "told"

    stages, _ = stages_of(run())
    stages.go_on()
    assert not stages.go_on()
    assert stages.outcome == "told"


def test_a_trial_of_a_stage_that_is_over_is_nobodys():
    """Studies of two stages may have one name."""
    first, second = FewTrials(1), FewTrials(1)
    stages, _ = stages_of(stage_of({"a": study}) for study in (first, second))
    stages.go_on()
    config = {"stage": stages.number, "study": "a"}
    assert stages.study_of(config) is first
    stages.go_on()
    assert stages.study_of(config) is None
    assert stages.study_of({**config, "stage": stages.number}) is second


def test_a_run_that_is_left_in_the_middle_is_closed():
    closed = []

    def run():
        try:
            yield stage_of({"a": FewTrials(1)})
        finally:
            closed.append(True)

    stages, _ = stages_of(run())
    with stages:
        stages.go_on()
    assert closed == [True]
