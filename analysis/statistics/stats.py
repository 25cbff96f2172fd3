"""Statistics of paired comparisons: numbers in, frozen results out. It knows nothing of runs.

Differences come in whatever unit they are measured in (here: accuracies as fractions) and results have the same one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats
from scipy.special import betaln
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

__all__ = [
    "LEVEL",
    "MIN_SEEDS",
    "ExpectedMaximum",
    "Interval",
    "PairedDifference",
    "Superiority",
    "bca_interval",
    "expected_maximum",
    "holm",
    "maximum_weights",
    "paired_difference",
    "seeds_for_half_width",
    "seeds_for_power",
    "sign_flip_p",
    "smallest_p",
    "superiority",
    "t_interval",
]

LEVEL = 0.95  # of all intervals
MIN_SEEDS = 6  # the fewest with which the exact sign-flip test can come below 1 - LEVEL
EXACT_UP_TO = 20  # differences: 2^19 sums are enumerated in some 10 ms
MONTE_CARLO_FLIPS = 99_999
RESAMPLES = 9_999
MOST_SEEDS = 10_000  # beyond it, the answer to "how many seeds?" is no answer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An interval of values, both ends included."""

    low: float
    high: float

    def lies_within(self, bound: float) -> bool:
        """Return whether all of it is inside [-bound, bound]."""
        return -bound <= self.low and self.high <= bound

    def excludes(self, value: float) -> bool:
        """Return whether the value is outside."""
        return value < self.low or value > self.high


@dataclass(frozen=True)
class Superiority:
    """How often one side of a pair is the better one: a share with its interval, and the counts behind it."""

    share: float
    interval: Interval
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class PairedDifference:
    """What n paired differences say.

    Args:
        n: how many.
        mean: of them.
        sd: their standard deviation, None for a single one.
        t_interval: of the true mean, None for a single one.
        bca_interval: the same by bootstrap, None for a single one.
        p: two-sided, of the sign-flip test.
        smallest_p: the least that this test can give for n differences.
        superiority: how often they are above 0.
    """

    n: int
    mean: float
    sd: float | None
    t_interval: Interval | None
    bca_interval: Interval | None
    p: float
    smallest_p: float
    superiority: Superiority


def paired_difference(differences: ArrayLike, *, seed: int = 0) -> PairedDifference:
    """Return mean, spread, intervals, p and P(A > B) of paired differences A - B.

    Args:
        differences: (n,), n >= 1, finite.
        seed: of the bootstrap, and of the sign flips where they are too many to enumerate.

    Raises:
        ValueError: none, or one that is not finite.
    """
    values = _checked(differences)
    single = len(values) == 1
    return PairedDifference(
        n=len(values),
        mean=float(values.mean()),
        sd=None if single else float(values.std(ddof=1)),
        t_interval=None if single else t_interval(values),
        bca_interval=None if single else bca_interval(values, seed=seed),
        p=sign_flip_p(values, seed=seed),
        smallest_p=smallest_p(len(values)),
        superiority=superiority(values),
    )


def _checked(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"needs at least one finite number, got {values!r}")
    return array


def t_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Return Student's interval of the mean, mean +- t_{(1 + level) / 2, n - 1} sd / sqrt(n); n >= 2.

    Exact for normal differences. Where all are equal it has no width: what it cannot know is not in it.

    Reference:
        Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    values = _checked(differences)
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs two differences")
    half = float(scipy_stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def bca_interval(differences: ArrayLike, level: float = LEVEL, *, seed: int = 0) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of the mean; n >= 2.

    It assumes no shape of the distribution, but is too narrow for few differences: at n = 10 the nominal 95 % covers
    the mean in about 91 % of cases where they are normal and 88 % where they are exponential (5,000 simulations each;
    Student's: 95 % and 90 %), at n = 6 in 88 % and 81 %. So it stands beside Student's interval, and no verdict rests
    on it.

    Reference:
        Efron, "Better bootstrap confidence intervals", JASA 82, 1987.
    """
    values = _checked(differences)
    if len(values) < 2:
        raise ValueError("an interval needs two differences")
    center = float(values.mean())
    width = float(np.ptp(values))
    if width == 0.0:
        return Interval(center, center)
    # In units of their range, so that no power of tiny differences vanishes.
    found = scipy_stats.bootstrap(
        ((values - center) / width,),
        _rounded_mean,
        confidence_level=level,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(center + width * float(found.low), center + width * float(found.high))


def _rounded_mean(values: Floats, axis: int) -> Floats:
    """Return means without the last digits, so that equal ones are equal: the bias correction counts ties half."""
    return np.asarray(values.mean(axis=axis).round(12))


def sign_flip_p(differences: ArrayLike, *, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test of a mean of 0.

    p = share of all 2^n assignments s in {-1, 1}^n with |sum s_i d_i| >= |sum d_i|

    Exact under the hypothesis that each difference is as likely as its negative, whatever its size. All assignments
    are enumerated up to n = 20. For more, 99,999 random ones stand for them, and p = (1 + hits) / (1 + 99,999): the
    observed assignment is one of them, so p is valid and never 0. Sums that differ by rounding alone are ties, and
    count.

    Reference:
        Fisher, "The Design of Experiments", 1935, section 21; for the +1, Phipson and Smyth, arXiv:1603.05766.
    """
    values = _checked(differences)
    sizes = np.abs(values)
    limit = abs(float(values.sum())) - 1e-9 * float(sizes.sum())
    if len(values) > EXACT_UP_TO:
        rng = np.random.default_rng(seed)
        hits = sum(
            int((np.abs(rng.choice((-1.0, 1.0), (count, len(values))) @ sizes) >= limit).sum())
            for count in _chunks(MONTE_CARLO_FLIPS, 1_000_000 // len(values) + 1)
        )
        return (1 + hits) / (1 + MONTE_CARLO_FLIPS)
    sums = sizes[:1]  # the first sign fixed: the other half is the mirror image
    for size in sizes[1:]:
        sums = np.concatenate((sums + size, sums - size))
    return float((np.abs(sums) >= limit).mean())


def _chunks(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def smallest_p(n: int) -> float:
    """Return the least p that the two-sided sign-flip test can give for n differences, 2^(1 - n).

    n = 5: 0.0625, so five seeds can never reach 0.05; n = 6: 0.031; n = 10: 0.002.
    """
    return min(1.0, 2.0 ** (1 - n)) if n <= EXACT_UP_TO else 1 / (1 + MONTE_CARLO_FLIPS)


def superiority(differences: ArrayLike, level: float = LEVEL) -> Superiority:
    """Return P(A > B), the share of pairs in which A is ahead, ties counted half, with its Wilson interval.

    Wilson's interval is short, stays inside [0, 1], says something even where all pairs agree (10 of 10: [0.72, 1]),
    and covers on average what it should at small n, where Clopper-Pearson's covers more and the bootstrap that
    Bouthillier et al. use has no width. With ties it is somewhat wide.

    Reference:
        Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", arXiv:2103.03098, section 4, for
        the quantity; Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", 2001, for the interval.
    """
    values = _checked(differences)
    # A difference of accuracies that is nothing but rounding is a tie.
    tie = np.abs(values) <= 1e-12
    wins, ties = int(((values > 0) & ~tie).sum()), int(tie.sum())
    count = wins + ties / 2
    low, high = proportion_confint(count, len(values), alpha=1 - level, method="wilson")
    share = count / len(values)
    interval = Interval(max(0.0, min(share, float(low))), min(1.0, max(share, float(high))))  # but for rounding, it is
    return Superiority(share, interval, wins, ties, len(values) - wins - ties)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in the same order.

    p_(i) -> max over j <= i of min(1, (m - j + 1) p_(j)),  p_(1) <= ... <= p_(m)

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.
    """
    # statsmodels' multipletests does the same, and collects all garbage of the process at every call: 50 ms and more.
    ordered = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    adjusted[ordered] = np.maximum.accumulate(np.asarray(p_values)[ordered] * np.arange(len(p_values), 0, -1))
    return [float(p) for p in adjusted.clip(max=1.0)]


def seeds_for_half_width(sd: float, half_width: float, level: float = LEVEL) -> int | None:
    """Return the fewest seeds whose t interval is mean +- half_width at most, None for more than 10,000.

    Args:
        sd: of the paired differences.
        half_width: wanted, in the same unit, > 0.
        level: of the interval.
    """

    def suffices(n: int) -> bool:
        return bool(scipy_stats.t.ppf((1 + level) / 2, n - 1) * sd / math.sqrt(n) <= half_width)

    if half_width <= 0:
        return None
    normal = float(scipy_stats.norm.ppf((1 + level) / 2))
    return _fewest(suffices, (normal * sd / half_width) ** 2)


def seeds_for_power(mean: float, sd: float, power: float = 0.8, level: float = LEVEL) -> int | None:
    """Return the fewest seeds with which a two-sided paired t test finds a true difference, None for over 10,000.

    Args:
        mean: the true difference.
        sd: of the paired differences, in the same unit.
        power: wanted share of cases in which it is found.
        level: 1 - the share of cases in which a difference is found where there is none.

    Reference:
        Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2.
    """
    if mean == 0.0:
        return None
    effect = min(abs(mean) / sd, 10.0) if sd > 0 else 10.0  # beyond 10 no more than three seeds are needed

    def suffices(n: int) -> bool:
        return bool(TTestPower().power(effect, n, 1 - level) >= power)

    normal = scipy_stats.norm.ppf((1 + level) / 2) + scipy_stats.norm.ppf(power)
    return _fewest(suffices, float(normal / effect) ** 2)


def _fewest(suffices: Callable[[int], bool], if_sd_were_known: float) -> int | None:
    """Return the least n that suffices, from 2 to MOST_SEEDS; it is a little above what a known sd would need.

    No bisection: far from the answer, SciPy's noncentral t distribution is NaN here and there.
    """
    if if_sd_were_known > MOST_SEEDS:
        return None
    n = max(2, math.floor(if_sd_were_known))
    while n <= MOST_SEEDS and not suffices(n):
        n += 1
    return n if n <= MOST_SEEDS else None


@dataclass(frozen=True)
class ExpectedMaximum:
    """How good the best of k draws is on average.

    Args:
        draws: k, ascending.
        values: expected maximum for each.
        bands: interval for each, None where there is no honest one (k above a quarter of the draws).
    """

    draws: tuple[int, ...]
    values: tuple[float, ...]
    bands: tuple[Interval | None, ...]


def expected_maximum(
    values: ArrayLike, draws: Sequence[int] | None = None, level: float = LEVEL, *, seed: int = 0
) -> ExpectedMaximum:
    """Return the expected maximum of k of n independent draws, and an interval.

    E max_k = sum_{i=k}^{n} C(i-1, k-1) / C(n, k) x_(i),  x_(1) <= ... <= x_(n)

    the mean over all ways to pick k of the n, hence unbiased; the estimator of Dodge et al. picks with replacement and
    is too low. The band is the percentile bootstrap of that mean over the draws, point by point. The nearer k is to n,
    the more all rests on the few largest draws, which resampling cannot replace: nominal 95 % covered 87-94 % for
    k <= n / 4, 75-79 % for k = n / 2 (8 to 64 draws from a beta distribution). There is no band for k > n / 4.

    It needs independent draws: a sampler that learns from earlier ones is not described by it.

    Args:
        values: (n,), results of independent draws.
        draws: k, each in 1..n; 1, 2, 4, 8, ... and n by default.
        level: of the interval.
        seed: of the bootstrap.

    Reference:
        Dodge et al., "Show Your Work", arXiv:1909.03004, for the curve; Tang et al., "Showing Your Work Doesn't Always
        Work", arXiv:2004.13705, for the unbiased estimator.
    """
    ordered = np.sort(_checked(values))
    n = len(ordered)
    counts = tuple(draws) if draws is not None else tuple(sorted({n, *(2**e for e in range(n.bit_length()))}))
    if not all(1 <= k <= n for k in counts):
        raise ValueError(f"the best of {counts} draws cannot be told from {n}")
    weights = np.array([maximum_weights(n, k) for k in counts])  # (K, n)
    resampled = np.sort(np.random.default_rng(seed).choice(ordered, (RESAMPLES // 5, n)), axis=1)  # (B, n)
    low, high = np.quantile(resampled @ weights.T, [(1 - level) / 2, (1 + level) / 2], axis=0)  # (K,) each
    bands = [Interval(float(a), float(b)) if 4 * k <= n else None for k, a, b in zip(counts, low, high, strict=True)]
    return ExpectedMaximum(counts, tuple((weights @ ordered).tolist()), tuple(bands))


def maximum_weights(n: int, k: int) -> Floats:
    """Return C(i-1, k-1) / C(n, k) for i = 1..n: the share of all picks of k in which the i-th is the largest."""

    def log_choose(m: Floats, j: int) -> Floats:
        return np.asarray(-np.log(m + 1) - betaln(m - j + 1, j + 1))

    chosen = np.arange(k, n + 1, dtype=np.float64)
    weights = np.zeros(n)
    weights[k - 1 :] = np.exp(log_choose(chosen - 1, k - 1) - log_choose(np.array([float(n)]), k))
    return weights
