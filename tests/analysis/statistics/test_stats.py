import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analysis.statistics.stats import (
    EXACT_UP_TO,
    MIN_SEEDS,
    MONTE_CARLO_FLIPS,
    Interval,
    bca_interval,
    expected_maximum,
    holm,
    paired_difference,
    seeds_for_half_width,
    seeds_for_power,
    sign_flip_p,
    smallest_p,
    superiority,
    t_interval,
)

# Additional hours of sleep by two drugs in ten patients, Student 1908: drug 2 - drug 1.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
# Heights of crossed and self-fertilised maize in 15 pairs, eighths of an inch: Darwin 1876, in Fisher 1935.
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]

# Differences as test sets give them: whole images of so many, in units of one image.
counts = st.lists(st.integers(-50, 50), min_size=1, max_size=12)


pytestmark = pytest.mark.usefixtures("no_warning")


# --- Published cases -------------------------------------------------------------------------------------------------


def test_student_and_his_sleeping_patients():
    """As R prints for t.test(extra ~ group, data = sleep, paired = TRUE)."""
    result = paired_difference(SLEEP)
    assert result.mean == pytest.approx(1.58)
    assert result.sd == pytest.approx(1.2299955)
    assert (result.t_interval.low, result.t_interval.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    # Nine differences are positive and one is 0: of 1,024 assignments 4 reach the observed sum.
    assert result.p == 4 / 1024
    assert (result.superiority.wins, result.superiority.ties, result.superiority.losses) == (9, 1, 0)


def test_fisher_and_darwins_maize():
    """863 of 32,768 assignments reach 314 in either direction: The Design of Experiments, section 21."""
    assert sum(MAIZE) == 314
    assert sign_flip_p(MAIZE) == pytest.approx(2 * 863 / 2**15, abs=1e-15)
    assert sign_flip_p(MAIZE) == pytest.approx(0.05267, abs=5e-6)
    assert t_interval(MAIZE).low / 8 == pytest.approx(0.0036, abs=5e-4)  # inches; Fisher: t just passes 5 %


def test_holm_as_textbooks_have_it():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7]) == [0.7]
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_newcombe_tabulates_it(wins, n, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    result = superiority([1.0] * wins + [-1.0] * (n - wins))
    assert result.share == wins / n
    assert (result.interval.low, result.interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_for_cohens_small_medium_and_large_effects(effect, seeds):
    """80 % power at 5 %, two-sided, paired: as power tables and G*Power have it."""
    assert seeds_for_power(effect, 1.0) == seeds
    assert seeds_for_power(-3 * effect, 3.0) == seeds


def test_the_bca_interval_is_efrons():
    """Against the formulas of Efron 1987, with more resamples than ours and none of its code."""
    values = np.array(SLEEP)
    means = np.random.default_rng(5).choice(values, (400_000, len(values))).mean(axis=1)
    normal = scipy.stats.norm
    bias = normal.ppf((means < values.mean()).mean() + (means == values.mean()).mean() / 2)
    left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
    deviation = left_out.mean() - left_out
    acceleration = (deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5)
    z = bias + normal.ppf([0.025, 0.975])
    expected = np.quantile(means, normal.cdf(bias + z / (1 - acceleration * z)))
    found = bca_interval(SLEEP)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03)
    assert found.low > t_interval(SLEEP).low
    assert found.high > values.mean() + (values.mean() - found.low), "it follows the long right tail"


# --- Sign flips ------------------------------------------------------------------------------------------------------


@given(counts)
@settings(max_examples=60)
def test_p_is_that_of_all_assignments(values):
    total = abs(sum(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in signs_of(len(values))]
    assert sign_flip_p([v / 10_000 for v in values]) == sum(s >= total for s in sums) / len(sums)


def signs_of(n):
    return itertools.product((1, -1), repeat=n)


@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_p_is_scipys(n):
    values = np.random.default_rng(n).normal(0.5, 1, n)
    expected = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(expected.pvalue, abs=1e-12)


@given(counts)
def test_p_is_never_below_what_so_many_differences_can_give(values):
    assert smallest_p(len(values)) <= sign_flip_p(values) <= 1.0


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (5, 0.0625), (6, 0.03125), (10, 0.001953125)])
def test_agreement_of_all_gives_the_least_p(n, p):
    assert smallest_p(n) == p
    assert sign_flip_p(np.arange(1, n + 1)) == p
    assert (p < 0.05) == (n >= MIN_SEEDS)


def test_differences_of_accuracies_tie_despite_rounding():
    """0.9103 - 0.9 and 0.12 - 0.1097 differ in the last digits; as whole images they do not."""
    images = [(9103, 9000), (1200, 1097), (3103, 3000), (9200, 9303), (703, 600), (9153, 9050)]
    differences = [a / 10_000 - b / 10_000 for a, b in images]
    assert len(set(map(abs, differences))) > 1
    assert sign_flip_p(differences) == sign_flip_p([a - b for a, b in images])


def test_many_differences_are_flipped_at_random_and_reproducibly():
    values = np.random.default_rng(3).normal(0.3, 1.0, EXACT_UP_TO)
    more = np.append(values, 0.0)  # a difference of 0 changes nothing but the method
    exact, drawn = sign_flip_p(values), sign_flip_p(more)
    assert drawn == sign_flip_p(more) != sign_flip_p(more, seed=1)
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / MONTE_CARLO_FLIPS))
    assert sign_flip_p([1.0] * 60) == smallest_p(60) == 1 / (1 + MONTE_CARLO_FLIPS)
    assert sign_flip_p([0.0] * 60) == 1.0


# --- Properties of all -----------------------------------------------------------------------------------------------


def flat(result):
    """Everything about a difference as numbers, for comparison."""
    intervals = [i for i in (result.t_interval, result.bca_interval) if i]
    return [result.mean, result.sd or 0.0, *(end for i in intervals for end in (i.low, i.high))]


@given(counts)
@settings(max_examples=40, deadline=None)
def test_swapping_the_sides_mirrors_everything(values):
    there, back = paired_difference(values), paired_difference([-v for v in values])
    assert back.mean == -there.mean
    assert (back.p, back.sd) == (there.p, there.sd)
    for name in ("t_interval", "bca_interval"):
        a, b = getattr(there, name), getattr(back, name)
        if a:
            assert (b.low, b.high) == pytest.approx((-a.high, -a.low), abs=1e-9)
    a, b = there.superiority, back.superiority
    assert (b.wins, b.ties, b.losses) == (a.losses, a.ties, a.wins)
    assert b.share == pytest.approx(1 - a.share)
    assert (b.interval.low, b.interval.high) == pytest.approx((1 - a.interval.high, 1 - a.interval.low))


@given(counts, st.sampled_from([1e-4, 0.01, 3.0, 1e5]))
@settings(max_examples=40, deadline=None)
def test_the_unit_does_not_matter(values, unit):
    plain, scaled = paired_difference(values), paired_difference([unit * v for v in values])
    assert flat(scaled) == pytest.approx([unit * v for v in flat(plain)], abs=1e-9 * unit)
    assert scaled.p == plain.p
    assert scaled.superiority == plain.superiority


@given(counts, st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_pairs_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    a, b = paired_difference(values), paired_difference(shuffled)
    assert (b.p, b.superiority) == (a.p, a.superiority)
    assert (b.mean, b.sd or 0.0) == pytest.approx((a.mean, a.sd or 0.0))
    if a.t_interval:
        assert (b.t_interval.low, b.t_interval.high) == pytest.approx((a.t_interval.low, a.t_interval.high))


@given(st.lists(st.floats(-1, 1, allow_subnormal=True), min_size=1, max_size=14))
@example([0.0, 5e-324])
@example([1e-200, 2e-200, 3e-200])
@example([0.1 + 0.2, 0.3])
@settings(max_examples=60, deadline=None)
def test_everything_is_finite_and_in_order(values):
    result = paired_difference(values)
    assert all(map(math.isfinite, flat(result)))
    assert 0 < result.p <= 1
    for interval in (result.t_interval, result.bca_interval):
        if interval:
            slack = 1e-12
            assert interval.low - slack <= result.mean <= interval.high + slack
    share = result.superiority
    assert 0 <= share.interval.low <= share.share <= share.interval.high <= 1
    assert share.wins + share.ties + share.losses == len(values)


def test_a_single_difference_has_no_spread():
    result = paired_difference([0.3])
    assert (result.n, result.mean, result.p) == (1, 0.3, 1.0)
    assert (result.sd, result.t_interval, result.bca_interval) == (None, None, None)


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_equal_differences_have_an_interval_without_width(n, value):
    result = paired_difference([value] * n)
    assert (result.sd, result.t_interval, result.bca_interval) == (0.0, Interval(value, value), Interval(value, value))
    assert result.p == (1.0 if value == 0 else smallest_p(n))


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf], [[1.0, 2.0]]], ids=repr)
def test_what_is_no_list_of_numbers_is_refused(values):
    with pytest.raises(ValueError, match="finite number"):
        paired_difference(values)
    with pytest.raises(ValueError, match="finite number"):
        expected_maximum(values)


@pytest.mark.parametrize("interval", [t_interval, bca_interval])
def test_one_difference_has_no_interval(interval):
    with pytest.raises(ValueError, match="two differences"):
        interval([0.1])


def test_intervals_know_what_is_in_them():
    assert Interval(-0.3, 0.3).lies_within(0.3)
    assert not Interval(-0.31, 0.1).lies_within(0.3)
    assert not Interval(0.1, 0.31).lies_within(0.3)
    assert Interval(0.1, 0.2).excludes(0.0)
    assert Interval(-0.2, -0.1).excludes(0.0)
    assert not Interval(0.0, 0.2).excludes(0.0)


# --- Holm, shares, seeds ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p - 1e-12 <= q <= min(1.0, len(p_values) * p) + 1e-12
    in_order = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=8, deadline=None)
def test_holm_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_ties_count_half():
    result = superiority([0.1, 0.0, -0.1, 0.2, 1e-17])
    assert (result.wins, result.ties, result.losses, result.share) == (2, 2, 1, 0.6)


def test_ten_of_ten_leave_a_doubt():
    result = superiority([0.1] * 10)
    assert result.share == result.interval.high == 1.0
    assert result.interval.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)


@given(st.floats(0.01, 10), st.floats(0.05, 10))
@settings(max_examples=30, deadline=None)
def test_so_many_seeds_suffice_and_one_fewer_does_not(sd, half_width):
    n = seeds_for_half_width(sd, half_width)

    def half(count):
        return scipy.stats.t.ppf(0.975, count - 1) * sd / math.sqrt(count)

    if n is None:
        assert half(10_000) > half_width
    else:
        assert half(n) <= half_width
        assert n == 2 or half(n - 1) > half_width


@pytest.mark.parametrize(("mean", "sd"), [(1.0, 0.5), (0.4, 0.6)])
def test_the_power_is_what_was_asked_for(mean, sd):
    n = seeds_for_power(mean, sd)
    samples = np.random.default_rng(0).normal(mean, sd, (20_000, n))
    found = (scipy.stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05).mean()
    assert found >= 0.8 - 4 * math.sqrt(0.16 / 20_000)


def test_what_no_number_of_seeds_shows_has_none():
    assert seeds_for_power(0.0, 1.0) is None
    assert seeds_for_power(1e-6, 1.0) is None
    assert seeds_for_half_width(1.0, 0.0) is None
    assert seeds_for_half_width(1.0, 1e-9) is None
    assert seeds_for_power(0.5, 0.0) == 3
    assert seeds_for_half_width(0.0, 0.1) == 2


# --- Expected maximum ------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
@settings(max_examples=25, deadline=None)
def test_the_expected_maximum_is_the_mean_over_all_picks(values):
    result = expected_maximum(values, range(1, len(values) + 1))
    for k, value in zip(result.draws, result.values, strict=True):
        picks = [max(pick) for pick in itertools.combinations(values, k)]
        assert value == pytest.approx(sum(picks) / len(picks), abs=1e-12)


def test_the_expected_maximum_begins_at_the_mean_and_ends_at_the_best():
    values = np.random.default_rng(0).uniform(size=100)
    result = expected_maximum(values)
    assert result.draws == (1, 2, 4, 8, 16, 32, 64, 100)
    assert result.values[0] == pytest.approx(values.mean())
    assert result.values[-1] == pytest.approx(values.max())
    assert list(result.values) == sorted(result.values)
    assert [band is not None for band in result.bands] == [True] * 5 + [False] * 3
    for value, band in zip(result.values[:5], result.bands, strict=False):
        assert band.low <= value <= band.high
    assert expected_maximum(values) == result


def test_the_expected_maximum_is_not_biased():
    """The maximum of k uniform draws is k / (k + 1) on average; picking with replacement would fall short."""
    rng, k = np.random.default_rng(0), 4
    found = [expected_maximum(rng.uniform(size=8), [k]).values[0] for _ in range(400)]
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(k / (k + 1), abs=4 * error)


@pytest.mark.parametrize("draws", [[0], [4], [-1, 2]])
def test_the_best_of_more_than_there_are_is_refused(draws):
    with pytest.raises(ValueError, match="cannot be told from 3"):
        expected_maximum([0.1, 0.2, 0.3], draws)
