"""Differences of arms that no plan has, against SciPy on the very pairs."""

import numpy as np
import pytest
from scipy import stats

from analysis.loading import load_run
from analysis.statistics.generality import over_seeds_and_images
from analysis.statistics.unplanned import arm_difference

FIRST, SECOND = ("control", "linear_ramp"), ("control", "final_margin")


@pytest.mark.parametrize(("shift", "effect"), [(0.01, 1), (-0.01, -1), (0.0, 0)])
def test_it_is_the_paired_difference_of_the_common_seeds(new_run, shift, effect):
    rng, run = np.random.default_rng(1), new_run("run", ("arcface", "adaloss"))
    first, second = rng.normal(0.9 + shift, 0.002, 10), rng.normal(0.9, 0.002, 8)
    run.seed_runs(*FIRST, first)
    run.seed_runs(*SECOND, second)
    found = arm_difference(load_run(run.folder), FIRST, SECOND)
    expected = stats.ttest_rel(first[:8], second)
    interval = expected.confidence_interval(0.95)
    assert (found.result.n, found.effect) == (8, effect)
    assert found.result.mean == pytest.approx(first[:8].mean() - second.mean())
    assert (found.result.t_interval.low, found.result.t_interval.high) == pytest.approx((interval.low, interval.high))
    assert found.images_too is None  # no images are on record


def test_images_count_where_they_are_on_record(example_findings):
    (found,) = example_findings({"dataset": "mnist"})
    difference = arm_difference(found.run, ("untuned", "adaloss"), ("untuned", "arcface"))
    sides = [found.run.correct_images("untuned", arm).to_numpy() for arm in ("adaloss", "arcface")]
    assert difference.images_too == over_seeds_and_images(*sides)
    assert difference.images_too.mean == pytest.approx(difference.result.mean)


def test_without_a_common_seed_there_is_nothing(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_run(*FIRST, 0)
    run.seed_run(*SECOND, 1)
    loaded = load_run(run.folder)
    assert arm_difference(loaded, FIRST, SECOND) is None
    assert arm_difference(loaded, FIRST, ("winner", "softmax")) is None
    single = arm_difference(loaded, FIRST, FIRST)
    assert (single.result.n, single.effect) == (1, 0)
