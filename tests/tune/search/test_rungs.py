from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from tune.search.rungs import WORST_ACCURACY, Rungs


@pytest.mark.parametrize(
    ("grace", "longest", "factor", "milestones"),
    [
        (1, 27, 3, (1, 3, 9)),  # 27 is the full length: nothing is left to decide
        (2, 8, 3, (2, 6)),
        (1, 8, 2, (1, 2, 4)),
        (5, 5, 3, ()),
        (1, 1000, 10, (1, 10, 100)),
        (3, 20, 3, (3, 9)),
        (1, 10, 1.5, (1, 2, 3, 5, 8)),
    ],
)
def test_milestones(grace, longest, factor, milestones):
    assert Rungs(grace, longest, factor).milestones == milestones


accuracies = st.lists(st.lists(st.floats(0, 1), min_size=9, max_size=9), min_size=1, max_size=12)


@given(curves=accuracies, factor=st.sampled_from([2, 3, 4]))
def test_decisions_are_those_of_rays_bracket(curves, factor):
    """Ray's ASHA, fed in the same order, decides the same."""
    ours, rays = Rungs(1, 9, factor), _Bracket(1, 9, factor, 0)
    for number, curve in enumerate(curves):
        trial = SimpleNamespace(trial_id=str(number))
        for epoch, accuracy in enumerate(curve[:8], start=1):
            goes_on = ours.goes_on(number, epoch, accuracy)
            assert goes_on == (rays.on_result(trial, epoch, accuracy) == "CONTINUE")
            if not goes_on:
                break


def test_the_first_at_a_rung_goes_on_and_ties_do():
    rungs = Rungs(2, 8, 3)
    assert rungs.goes_on(0, 2, 0.1)
    assert rungs.goes_on(1, 2, 0.1)
    assert rungs.goes_on(2, 2, 0.2)
    assert not rungs.goes_on(3, 2, 0.05)


def test_between_milestones_every_trial_goes_on():
    rungs = Rungs(2, 8, 3)
    assert rungs.goes_on(0, 2, 0.9)
    assert rungs.goes_on(1, 1, 0.0)
    assert rungs.goes_on(1, 3, 0.0)


def test_a_trial_judged_again_is_not_compared_with_itself():
    rungs = Rungs(1, 9, 3)
    assert rungs.goes_on(0, 1, 0.5)
    rungs.goes_on(1, 1, 0.4)
    assert not rungs.goes_on(1, 1, 0.4)
    assert rungs.goes_on(1, 1, 0.5)


@given(curves=accuracies)
def test_replayed_rungs_decide_as_the_lost_ones_would_have(curves):
    lived, known = Rungs(1, 9, 3), {}
    for number, curve in enumerate(curves[:-1]):
        known[number] = {}
        for epoch, accuracy in enumerate(curve, start=1):
            known[number][epoch] = accuracy
            if not lived.goes_on(number, epoch, accuracy):
                break
    replayed = Rungs(1, 9, 3)
    for number, values in known.items():
        replayed.replay(number, values)
    for epoch, accuracy in enumerate(curves[-1], start=1):
        assert replayed.goes_on(99, epoch, accuracy) == lived.goes_on(99, epoch, accuracy)


def test_a_diverged_trial_is_the_worst_of_the_next_rung():
    rungs = Rungs(1, 9, 2)
    rungs.goes_on(0, 4, 0.5)
    rungs.diverged(1, 3)
    assert WORST_ACCURACY == 0.0
    assert rungs.goes_on(2, 4, 0.26)  # above the median of 0.0 and 0.5
    assert not rungs.goes_on(3, 4, 0.2)


def test_divergence_in_the_last_epochs_touches_no_rung():
    rungs = Rungs(1, 9, 3)
    rungs.diverged(0, 8)
    assert rungs.goes_on(1, 3, 0.0)


# --- What is still to be trained -------------------------------------------------------------------------------------


def simulated(milestones, longest, factor, before, reached, rounds=3000):
    """Mean epochs of trials that begin one after the other, with accuracies drawn anew at every rung."""
    rng = np.random.default_rng(0)
    total = 0
    for _ in range(rounds):
        rungs = {milestone: list(rng.random(count)) for milestone, count in zip(milestones, before, strict=True)}
        for start in reached:
            epoch = start
            while epoch < longest:
                epoch += 1
                if epoch in rungs:
                    accuracy, others = rng.random(), rungs[epoch]
                    goes_on = not others or accuracy >= np.quantile(others, 1 - 1 / factor)
                    others.append(accuracy)
                    if not goes_on:
                        break
            total += epoch - start
    return total / rounds


@pytest.mark.parametrize(
    ("factor", "before", "reached"),
    [
        (3, (0, 0), [0] * 8),
        (3, (0, 0), [0] * 40),
        (3, (5, 2), [0, 0, 0, 2, 5]),
        (2, (4, 0, 0), [0] * 10),
        (1.5, (2, 2, 2, 2), [0, 4, 7, 0]),
    ],
)
def test_the_epochs_to_go_are_those_of_a_simulated_search(factor, before, reached):
    rungs = Rungs(1, 9, factor)
    longest = 9
    assert len(rungs.milestones) >= len(before)
    before = (*before, *[0] * (len(rungs.milestones) - len(before)))
    for milestone, count in zip(rungs.milestones, before, strict=True):
        for number in range(count):
            rungs.replay(1000 + number, {milestone: 0.5})
    expected = simulated(rungs.milestones, longest, factor, before, reached)
    assert rungs.epochs_to_go(dict(enumerate(reached)), 0) == pytest.approx(expected, rel=0.04)


def test_few_trials_go_on_more_often_than_many():
    """The first at a rung always does; of many it is one in F."""
    assert Rungs(1, 9, 3).epochs_to_go({}, 1) == Rungs(1, 9, 3).epochs_to_go({0: 0}, 0) == 9
    assert Rungs(1, 9, 3).epochs_to_go({}, 3000) / 3000 == pytest.approx(1 + 2 / 3 + 6 / 9, rel=0.01)


def test_without_rungs_every_trial_has_its_full_length():
    assert Rungs(5, 5, 3).epochs_to_go({0: 0, 1: 2, 2: 5, 3: 7}, 1) == 5 + 3 + 5


@given(
    recorded=st.lists(st.integers(1, 8), max_size=20),
    reached=st.dictionaries(st.integers(0, 30), st.integers(0, 9), max_size=20),
    new=st.integers(0, 5),
    factor=st.sampled_from([1.1, 2, 3, 10]),
)
def test_the_epochs_to_go_are_bounded(recorded, reached, new, factor):
    """At least what leads to the next rung, at most the full length of all."""
    rungs = Rungs(1, 9, factor)
    for number, epoch in enumerate(recorded):
        rungs.replay(number, {epoch: 0.5})
    to_go = rungs.epochs_to_go(reached, new)
    behind = [*reached.values(), *[0] * new]
    ends = [*rungs.milestones, 9]
    assert to_go >= sum(min((end for end in ends if end > epoch), default=epoch) - epoch for epoch in behind)
    assert to_go <= sum(9 - epoch for epoch in behind) + 1e-9
