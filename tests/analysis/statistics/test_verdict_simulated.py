"""How often verdicts err, and how often they see what is there, by simulation."""

import math

import numpy as np
import pytest

from analysis.statistics.stats import Interval
from analysis.statistics.verdict import verdicts
from tests.analysis.conftest import run_of

pytestmark = pytest.mark.usefixtures("no_warning", "without_bootstrap")


@pytest.fixture
def without_bootstrap(monkeypatch):
    """No verdict rests on the bootstrap interval, which takes long: here it is no interval at all."""
    nowhere = Interval(math.nan, math.nan)
    monkeypatch.setattr("analysis.statistics.stats.bca_interval", lambda *_, **__: nowhere)


def simulated(rng, *, n, effect_pp, sd_pp, dataset="cifar10", losses=("arcface", "adaloss")):
    """A run of 10,000 test images: every seed moves all losses, and each for itself; AdaLoss is ahead by the effect."""
    shared = rng.normal(0.9, 0.003, n)
    arms = {}
    for loss in losses:
        level = shared + (effect_pp / 100 if loss == "adaloss" else 0.0)
        arms[loss] = np.round((level + rng.normal(0, sd_pp / 100 / math.sqrt(2), n)) * 10_000) / 10_000
    return run_of(dataset, **arms)


def rates(repetitions, **settings):
    rng = np.random.default_rng(0)
    found = [verdicts([simulated(rng, **settings)])[0].decision for _ in range(repetitions)]
    shares = {decision: found.count(decision) / repetitions for decision in sorted(set(found))}
    print(f"{settings}, {repetitions} repetitions: {shares}")
    return shares


@pytest.mark.parametrize("dataset", ["cifar10", pytest.param("mnist", marks=pytest.mark.slow)])
def test_without_a_difference_at_most_one_verdict_in_twenty_sees_one(dataset):
    """A rate of 8 % would be taken for one of 5 % in one of 150 such simulations."""
    found = rates(500, n=10, effect_pp=0.0, sd_pp=0.5, dataset=dataset)
    assert found.get("better", 0) + found.get("worse", 0) <= 0.05


def test_a_difference_of_two_deviations_is_seen_in_nine_of_ten():
    assert rates(100, n=10, effect_pp=1.0, sd_pp=0.5)["better"] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("data_sets", [2, 4])
def test_over_several_data_sets_too_at_most_one_study_in_twenty_errs(data_sets):
    """In the primary comparisons, and likewise in those against softmax, of which there are twice as many."""
    rng = np.random.default_rng(1)
    names = ("arcface", "adaloss", "softmax")
    wrong = {"primary": 0, "baseline": 0}
    repetitions = 100
    for _ in range(repetitions):
        runs = [
            simulated(rng, n=10, effect_pp=0.0, sd_pp=0.5, dataset=f"set-{i}", losses=names) for i in range(data_sets)
        ]
        seen = {v.kind for v in verdicts(runs) if v.decision in {"better", "worse"}}
        for kind in seen:
            wrong[kind] += 1
    print(f"{data_sets} data sets, no difference, a false verdict in: {wrong} of {repetitions}")
    limit = 0.05 * repetitions + 3 * math.sqrt(0.05 * 0.95 * repetitions)
    assert max(wrong.values()) <= limit


def test_a_difference_on_one_of_several_data_sets_is_seen_there():
    rng = np.random.default_rng(2)
    seen, false, repetitions = 0, 0, 100
    for _ in range(repetitions):
        runs = [simulated(rng, n=10, effect_pp=1.0 if i == 0 else 0.0, sd_pp=0.5, dataset=f"set-{i}") for i in range(3)]
        first, *others = verdicts(runs)
        seen += first.decision == "better"
        false += any(v.decision in {"better", "worse"} for v in others)
    print(f"1 pp on one of three data sets: seen in {seen}, a false one elsewhere in {false}, of {repetitions}")
    assert seen >= 0.9 * repetitions
    assert false <= 0.05 * repetitions + 4 * math.sqrt(0.05 * 0.95 * repetitions)
