"""Intervals for other images, and luck in tuning: against cases by hand, other programs, all picks, and simulation."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as formula_api
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.anova import anova_lm

from analysis.statistics.generality import ahead_of_best, correlation, over_seeds_and_images, rank_correlation
from analysis.statistics.stats import t_interval

NONE = np.zeros


def test_a_case_by_hand():
    first = [[1, 1, 0], [1, 0, 0]]
    found = over_seeds_and_images(first, NONE((2, 3)))
    # Mean squares 1/6, 1/2 and 1/6: the variance of the mean is (1/6 + 1/2 - 1/6) / 6, with 3/2 degrees of freedom.
    half = scipy.stats.t.ppf(0.975, 1.5) * math.sqrt(1 / 12)
    assert (found.images, found.mean) == (3, 0.5)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert found.seeds_sd == pytest.approx(0, abs=1e-7)
    assert found.images_sd == pytest.approx(math.sqrt(1 / 6))


def test_mean_squares_are_those_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2, (5, 7)).astype(float)
    table[:, :4] += rng.integers(0, 2, (5, 1))
    rows = pd.DataFrame(
        [(s, i, table[s, i]) for s, i in itertools.product(range(5), range(7))], columns=["seed", "image", "d"]
    )
    squares = anova_lm(formula_api.ols("d ~ C(seed) + C(image)", rows).fit())["mean_sq"]
    found = over_seeds_and_images(table, NONE((5, 7)))
    seeds, images, rest = (squares[name] for name in ("C(seed)", "C(image)", "Residual"))
    assert images > rest
    assert found.seeds_sd == pytest.approx(math.sqrt(max(0, seeds - rest) / 7))
    assert found.images_sd == pytest.approx(math.sqrt((images - rest) / 5))
    variance = (seeds + images - rest) / 35
    freedom = (35 * variance) ** 2 / (seeds**2 / 4 + images**2 / 6 + rest**2 / 24)
    assert found.interval.high - found.mean == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * math.sqrt(variance))


def test_where_images_add_nothing_it_is_the_interval_over_seeds():
    table = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 0]])  # images differ less than chance would have them
    found = over_seeds_and_images(table, NONE(table.shape))
    assert found.images_sd == 0
    by_seed = t_interval(table.mean(axis=1))
    assert (found.interval.low, found.interval.high) == pytest.approx((by_seed.low, by_seed.high))


def test_arms_that_never_differ_have_no_width():
    table = np.ones((3, 5), dtype=bool)
    found = over_seeds_and_images(table, table)
    assert (found.mean, found.interval.low, found.interval.high) == (0, 0, 0)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((1, 9), (1, 9)), ((9, 1), (9, 1)), ((4,), (4,))])
def test_what_is_no_pair_of_tables_is_refused(shapes):
    with pytest.raises(ValueError, match="two seeds and two images"):
        over_seeds_and_images(*map(NONE, shapes))


def drawn(rng, seeds, images):
    """Two arms of which the first is right on 5 of 100 images more; where, differs from image to image."""
    hard = rng.normal(1.0, 1.0, images)
    effect = rng.normal(0, 0.6, images)
    luck = rng.normal(0, 0.05, (seeds, 1))
    first = hard + effect + luck + 0.3 + rng.normal(size=(seeds, images)) > 0
    second = hard - effect + luck + rng.normal(size=(seeds, images)) > 0
    return first, second


def test_it_holds_what_it_shall_for_other_images_where_that_over_seeds_does_not():
    rng = np.random.default_rng(5)
    truth = np.subtract(*(arm.mean() for arm in drawn(rng, 40, 100_000)))
    cases = [drawn(rng, 10, 400) for _ in range(600)]
    both = np.mean([not over_seeds_and_images(*case).interval.excludes(truth) for case in cases])
    seeds = np.mean(
        [not t_interval(np.subtract(*(arm.mean(axis=1) for arm in case))).excludes(truth) for case in cases]
    )
    print(f"covers {both:.3f} over seeds and images, {seeds:.3f} over seeds")
    assert 0.92 < both <= 1
    assert seeds < 0.75


# --- Correlations ----------------------------------------------------------------------------------------------------


def test_correlation_says_what_pairing_saves():
    first, second = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])
    assert correlation(first, second) == pytest.approx(0.6)
    assert np.var(first - second, ddof=1) == pytest.approx(2 * (1 - 0.6) * np.var(first, ddof=1))
    assert correlation(first, -first) == pytest.approx(-1)
    assert correlation(first, np.ones(4)) is None
    assert correlation([1.0], [2.0]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
@settings(deadline=None)
def test_rank_correlation_is_that_of_scipy(pairs):
    first, second = map(np.array, zip(*pairs, strict=True))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert rank_correlation(first, second) is None
    else:
        assert rank_correlation(first, second) == pytest.approx(scipy.stats.spearmanr(first, second).statistic)


def test_two_pairs_have_no_rank_correlation():
    assert rank_correlation([1.0, 2.0], [3.0, 4.0]) is None


# --- The best of k ---------------------------------------------------------------------------------------------------


def test_who_is_ahead_by_hand():
    assert ahead_of_best([0.5, 0.9], [0.6, 0.8], [1, 2]) == pytest.approx((0.5, 1.0))
    assert ahead_of_best([0.5, 0.5], [0.5, 0.1], [1, 2]) == pytest.approx((0.75, 0.5))


accuracies = st.lists(st.integers(0, 4), min_size=2, max_size=5)


@given(accuracies, accuracies)
@settings(deadline=None)
def test_who_is_ahead_over_all_picks(first, second):
    counts = range(1, min(len(first), len(second)) + 1)
    expected = []
    for k in counts:
        picks = itertools.product(itertools.combinations(first, k), itertools.combinations(second, k))
        expected.append(np.mean([0.5 * (1 + np.sign(max(a) - max(b))) for a, b in picks]))
    assert ahead_of_best(first, second, list(counts)) == pytest.approx(expected)


def test_who_is_ahead_is_not_biased():
    rng = np.random.default_rng(3)
    found = np.mean([ahead_of_best(rng.uniform(size=12), rng.uniform(0.1, 0.9, 12), [4]) for _ in range(2_000)])
    many = rng.uniform(size=(200_000, 4)).max(axis=1) > rng.uniform(0.1, 0.9, (200_000, 4)).max(axis=1)
    assert found == pytest.approx(many.mean(), abs=0.015)


def test_more_than_there_are_cannot_be_picked():
    with pytest.raises(ValueError, match="from 2 and 3"):
        ahead_of_best([1, 2], [1, 2, 3], [3])
