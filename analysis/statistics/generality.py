"""Beyond the seeds and test images at hand: numbers in, frozen results out. It knows nothing of runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from analysis.statistics.stats import LEVEL, Interval, maximum_weights

__all__ = ["ImagesToo", "ahead_of_best", "correlation", "over_seeds_and_images", "rank_correlation"]


@dataclass(frozen=True)
class ImagesToo:
    """A mean difference of accuracies whose interval is for other seeds and other test images of the same kind.

    Args:
        images: of the test split.
        mean: difference over the pairs of which the images are on record.
        interval: of the true one.
        seeds_sd: standard deviation of what a seed adds to the difference, 0 where none is seen.
        images_sd: of what an image adds, likewise.
    """

    images: int
    mean: float
    interval: Interval
    seeds_sd: float
    images_sd: float


def over_seeds_and_images(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> ImagesToo:
    """Return the interval of a difference of accuracies with seeds and test images both drawn at random.

    d_si = first_si - second_si = mean + seed_s + image_i + rest_si
    var(mean of d) = (MS_seeds + MS_images - MS_rest) / (n N), at least MS_seeds / (n N)

    with the mean squares of the two-way layout, and Student's interval with Satterthwaite's degrees of freedom. The
    interval over seeds alone is for these test images; a difference may hold on them and not on others.

    Args:
        first: (n, N) truth values, n >= 2 seeds, N >= 2 images: whether the first arm was right.
        second: (n, N), likewise of the second arm, on the same seeds and images.
        level: of the interval.

    Raises:
        ValueError: shapes differ, or there are fewer than two seeds or images.

    Reference:
        Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
    """
    shape = np.shape(first)
    if shape != np.shape(second) or len(shape) != 2 or min(shape) < 2:
        raise ValueError(f"needs two tables of two seeds and two images or more, got {shape} and {np.shape(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n, count = shape
    mean = float(differences.mean())
    by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_image + mean
    squares = np.array(
        [
            count * ((by_seed - mean) ** 2).sum() / (n - 1),
            n * ((by_image - mean) ** 2).sum() / (count - 1),
            (rest**2).sum() / ((n - 1) * (count - 1)),
        ]
    )
    freedoms = np.array([n - 1, count - 1, (n - 1) * (count - 1)])
    seeds, images, both = squares.tolist()
    if images > both:
        variance, used = seeds + images - both, slice(None)
    else:  # images add nothing that is seen
        variance, used = seeds, slice(1)
    half = 0.0
    if variance > 0:
        freedom = variance**2 / float((squares[used] ** 2 / freedoms[used]).sum())
        half = float(scipy_stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance / (n * count))
    return ImagesToo(
        images=count,
        mean=mean,
        interval=Interval(mean - half, mean + half),
        seeds_sd=math.sqrt(max(0.0, seeds - both) / count),
        images_sd=math.sqrt(max(0.0, images - both) / n),
    )


def correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Pearson's correlation of two accuracies over paired seeds, None where one of them never changes.

    Pairing by seed pays as far as it is above 0: the variance of a difference of equally spread accuracies is
    2 (1 - r) times that of one.

    Args:
        first: (n,), n >= 2.
        second: (n,), likewise.
    """
    a, b = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if len(a) < 2 or np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Spearman's rank correlation, None for fewer than three pairs or where one side never changes.

    Args:
        first: (n,).
        second: (n,), likewise.
    """
    if np.size(first) < 3:
        return None
    return correlation(scipy_stats.rankdata(first), scipy_stats.rankdata(second))


def ahead_of_best(first: ArrayLike, second: ArrayLike, draws: Sequence[int]) -> tuple[float, ...]:
    """Return how often the best of k random draws of one loss is ahead of the best of k of another, ties half.

    P_k = sum_ij w_ki w_kj ([a_(i) > b_(j)] + [a_(i) = b_(j)] / 2),  w_ki = C(i-1, k-1) / C(n, k)

    over all ways to pick k draws of each, independently. Whoever tunes by k random trials and tests the best of each
    loss without noise would call the first one better so often.

    Args:
        first: (n,), results of independent draws.
        second: (m,), likewise.
        draws: k, each in 1..min(n, m).

    Raises:
        ValueError: so many cannot be picked.
    """
    a, b = np.sort(np.asarray(first, dtype=np.float64)), np.sort(np.asarray(second, dtype=np.float64))
    if not all(1 <= k <= min(len(a), len(b)) for k in draws):
        raise ValueError(f"the best of {tuple(draws)} draws cannot be told from {len(a)} and {len(b)}")
    ahead: NDArray[np.float64] = (a[:, None] > b).astype(np.float64) + (a[:, None] == b) / 2
    return tuple(float(maximum_weights(len(a), k) @ ahead @ maximum_weights(len(b), k)) for k in draws)
