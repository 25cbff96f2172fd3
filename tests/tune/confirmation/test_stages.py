"""What a confirmation is planned to run, beside what it then runs."""

from collections import Counter

import pytest

from tests.tune.confirmation.conftest import EPOCHS, confirm, results_of
from trainables.data import load_training_data
from tune.confirmation import run as module
from tune.confirmation import stages
from tune.confirmation.stages import plan_of, whole_confirmation
from tune.execution.time_left import TimeLeft
from tune.settings import ConfirmSettings

SOME = [
    ConfirmSettings(seeds=3, candidates=2, candidate_seeds=2),
    ConfirmSettings(seeds=2, candidates=9, candidate_seeds=1, controls=True, robustness=2),  # of four trials a loss
    ConfirmSettings(seeds=1, candidates=1, candidate_seeds=1, controls=True),  # one seed has no other to replay
]


def roles_of(plan):
    return Counter(run.role for run in plan.runs)


@pytest.mark.parametrize("asked", SOME)
def test_as_many_runs_are_planned_of_each_role_as_are_then_run(settings, world, asked):
    planned = roles_of(plan_of(settings, asked))
    confirm(settings, asked)
    assert planned == Counter(record["role"] for record in results_of(settings))


def test_published_settings_are_planned_where_the_claim_is_checked(settings, monkeypatch):
    asked = ConfirmSettings(seeds=5)
    assert roles_of(plan_of(settings, asked))["untuned"] == 0
    monkeypatch.setattr(stages, "CLAIMED", ("digits",))
    assert roles_of(plan_of(settings, asked))["untuned"] == 10


def test_losses_without_candidates_are_left_out(settings):
    plan = plan_of(settings, ConfirmSettings(controls=True), ["softmax"])
    assert (set(plan.paired), plan.controls) == ({"softmax"}, {})


def test_a_search_knows_how_much_follows(settings):
    """Tested runs train on the validation images as well, so their epochs are longer."""
    data = load_training_data("digits", None)
    assert stages.tested_share(data) == pytest.approx(1500 / 1250)
    assert whole_confirmation(settings, None, data) is None
    later = whole_confirmation(settings, SOME[0], data)
    assert later.name == "the confirmation"
    assert later.epochs == pytest.approx(EPOCHS * (12 + 9 * 1500 / 1250))


def test_each_stage_tells_what_follows_it_until_nothing_does(settings, world, monkeypatch):
    told = []

    def noting(studies, later=None):
        told.append(later and (later.name, later.epochs))
        return TimeLeft(studies, later)

    monkeypatch.setattr(module, "TimeLeft", noting)
    confirm(settings, ConfirmSettings(seeds=2, candidates=1, candidate_seeds=1, controls=True))
    controls, paired = EPOCHS * 12, EPOCHS * (6 + 4)
    assert told == [
        ("the paired seeds", pytest.approx((controls + paired) * 1500 / 1250)),
        ("the controls", controls),
        None,
    ]
    told.clear()
    confirm(settings, ConfirmSettings(seeds=3, candidates=1, candidate_seeds=1, controls=True))
    assert told[:1] == [("the controls", EPOCHS * 6)]  # of eighteen, twelve are done
