"""How often intervals hold what they shall and tests err, by simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from analysis.statistics.stats import bca_interval, sign_flip_p, superiority, t_interval

pytestmark = pytest.mark.usefixtures("no_warning")


def within(rate, expected, repetitions):
    """Whether a rate is what is expected, but for what chance does in so many repetitions."""
    return abs(rate - expected) <= 4 * math.sqrt(expected * (1 - expected) / repetitions)


def test_students_interval_covers_what_it_says():
    samples = np.random.default_rng(1).normal(0.3, 1.0, (4_000, 10))
    rate = np.mean([not t_interval(sample).excludes(0.3) for sample in samples])
    print(f"t interval, normal, n = 10: covers {rate:.3f}")
    assert within(rate, 0.95, 4_000)


@pytest.mark.parametrize(("shape", "covers"), [("normal", 0.91), ("exponential", 0.88)])
def test_the_bca_interval_covers_less_than_it_says_and_as_documented(shape, covers, monkeypatch):
    monkeypatch.setattr("analysis.statistics.stats.RESAMPLES", 999)  # of 9,999: the ends move, the coverage hardly does
    draw = getattr(np.random.default_rng(2), shape)
    samples = draw(size=(1_500, 10)) - (1.0 if shape == "exponential" else 0.0)
    rate = np.mean([not bca_interval(sample).excludes(0.0) for sample in samples])
    print(f"BCa interval, {shape}, n = 10: covers {rate:.3f}")
    assert within(rate, covers, 1_500)
    assert f"{100 * covers:.0f} %" in bca_interval.__doc__


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("shape", ["normal", "laplace", "standard_cauchy"])
def test_the_sign_flip_test_errs_as_often_as_it_may(n, shape):
    """Exact for every symmetric distribution: the rate is the largest multiple of 2^(1 - n) up to 5 %."""
    samples = getattr(np.random.default_rng(3), shape)(size=(3_000, n))
    rate = np.mean([sign_flip_p(sample) < 0.05 for sample in samples])
    print(f"sign flips, {shape}, n = {n}: false positives {rate:.3f}")
    assert rate <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 3_000)
    assert within(rate, math.floor(0.05 * 2 ** (n - 1)) / 2 ** (n - 1), 3_000)


def test_wilsons_interval_covers_on_average_what_it_says():
    wins = np.arange(11)
    intervals = [superiority([1.0] * w + [-1.0] * (10 - w)).interval for w in wins]
    rates = []
    for chance in np.linspace(0.02, 0.98, 97):
        weights = scipy.stats.binom.pmf(wins, 10, chance)
        rates.append(sum(w for w, i in zip(weights, intervals, strict=True) if not i.excludes(chance)))
    print(f"Wilson's interval, n = 10: covers {np.mean(rates):.3f} on average, {min(rates):.3f} at worst")
    assert 0.94 <= np.mean(rates) <= 0.97
    assert min(rates) > 0.83
