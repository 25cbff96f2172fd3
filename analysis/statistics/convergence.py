"""How fast losses learn: epochs and seconds to fixed validation accuracies, paired by seed."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.arms import compared_speeds
from analysis.loading import Run
from analysis.statistics.robustness import collapse_bound
from analysis.statistics.stats import Interval, t_interval

__all__ = ["Arrival", "Lead", "Speed", "convergence"]

# Validation accuracies on the way to what a small network reaches.
_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "mnist": (0.98, 0.99, 0.995),
    "fashion_mnist": (0.85, 0.90, 0.92),
    "cifar10": (0.7, 0.8, 0.85, 0.9),
    "cifar100": (0.3, 0.4, 0.5, 0.6),
    "digits": (0.9, 0.95, 0.98),
}
_SHARES_ELSEWHERE = (0.9, 0.95, 0.99)  # of the final accuracy of the loss that ends lowest


@dataclass(frozen=True)
class Arrival:
    """When a loss first has a validation accuracy.

    Args:
        threshold: that accuracy, a fraction.
        loss: its name.
        seeds: how many were run.
        reached: how many of them ever have it.
        epochs: median over all seeds, never counting as longer than any; None where the median is never.
        seconds: likewise; None too where times are not on record.
    """

    threshold: float
    loss: str
    seeds: int
    reached: int
    epochs: float | None
    seconds: float | None


@dataclass(frozen=True)
class Lead:
    """How much longer a loss takes than another on the same seeds: first - second, below 0 where it is faster.

    Args:
        threshold: to which both get.
        first: loss.
        second: loss.
        pairs: seeds on which both get there; the only ones that can be compared.
        only_first: seeds on which only the first does.
        only_second: seeds on which only the second does.
        epochs: mean difference, None without such seeds.
        epochs_interval: t interval, None below two.
        seconds: mean difference, None without such seeds or without times.
        seconds_interval: likewise.
    """

    threshold: float
    first: str
    second: str
    pairs: int
    only_first: int
    only_second: int
    epochs: float | None
    epochs_interval: Interval | None
    seconds: float | None
    seconds_interval: Interval | None


@dataclass(frozen=True)
class Speed:
    """Arrivals and leads of a run.

    Args:
        derived: whether the thresholds were set by these results, for want of fixed ones that any loss reaches.
        arrivals: one for each threshold and loss.
        leads: one for each threshold and compared pair of losses.
    """

    derived: bool
    arrivals: tuple[Arrival, ...]
    leads: tuple[Lead, ...]


def convergence(run: Run) -> Speed | None:
    """Return how fast the chosen configurations learn, None where they were not run with a validation split.

    From the candidate runs of the winners: winners themselves train on all data and have no validation accuracy by
    epoch. Epochs are those of equally long schedules, so they compare losses, not schedules.
    """
    curves = {loss: _curves(run, loss) for loss in run.losses}
    curves = {loss: by_seed for loss, by_seed in curves.items() if by_seed}
    if not curves:
        return None
    thresholds = _THRESHOLDS.get(run.dataset, ())
    arrivals = [_arrival(threshold, loss, curves[loss]) for threshold in thresholds for loss in curves]
    derived = not any(arrival.reached for arrival in arrivals)
    if derived:
        thresholds = _derived(curves, run)
        arrivals = [_arrival(threshold, loss, curves[loss]) for threshold in thresholds for loss in curves]
    leads = [
        _lead(threshold, pair.first, pair.second, curves)
        for threshold, pair in itertools.product(thresholds, compared_speeds(list(curves), run.reference))
    ]
    return Speed(derived, tuple(arrivals), tuple(leads)) if arrivals else None


_Curve = Sequence[Mapping[str, Any]]


def _curves(run: Run, loss: str) -> dict[int, _Curve]:
    """Return the curves of the winner's candidate runs by seed; a failed run has the epochs that it came to."""
    runs = run.seed_runs_of("candidate", loss)
    return dict(zip(map(int, runs["seed"]), runs["curve"], strict=True))


def _derived(curves: Mapping[str, Mapping[int, _Curve]], run: Run) -> tuple[float, ...]:
    """Return shares of the lowest final accuracy among losses that learn at all."""
    finals = []
    for by_seed in curves.values():
        last = [curve[-1].get("val_accuracy") if curve else None for curve in by_seed.values()]
        finals.append(float(np.mean([run.chance if accuracy is None else accuracy for accuracy in last])))
    learning = [final for final in finals if final > collapse_bound(run.chance)]
    return tuple(share * min(learning) for share in _SHARES_ELSEWHERE) if learning else ()


def _first_time(curve: _Curve, threshold: float) -> tuple[float, float]:
    """Return (epochs, seconds) until the accuracy is reached: inf where never, NaN seconds where not on record."""
    seconds = 0.0
    for epoch in sorted(curve, key=lambda record: int(record["epoch"])):
        taken = epoch.get("seconds")
        seconds += math.nan if taken is None else taken
        if (epoch.get("val_accuracy") or 0.0) >= threshold:
            return float(epoch["epoch"]), seconds
    return math.inf, math.inf


def _arrival(threshold: float, loss: str, by_seed: Mapping[int, _Curve]) -> Arrival:
    times = np.array([_first_time(curve, threshold) for curve in by_seed.values()])  # (seeds, 2)
    reached = int(np.isfinite(times[:, 0]).sum())
    epochs, seconds = (_finite(float(np.median(column))) for column in times.T)
    return Arrival(threshold, loss, len(by_seed), reached, epochs, seconds)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lead(threshold: float, first: str, second: str, curves: Mapping[str, Mapping[int, _Curve]]) -> Lead:
    common = sorted(curves[first].keys() & curves[second].keys())
    a, b = (
        np.array([_first_time(curves[loss][seed], threshold) for seed in common]).reshape(-1, 2)
        for loss in (first, second)
    )
    in_a, in_b = np.isfinite(a[:, 0]), np.isfinite(b[:, 0])
    differences = a[in_a & in_b] - b[in_a & in_b]  # (pairs, 2)
    epochs, epochs_interval = _mean_and_interval(differences[:, 0])
    seconds, seconds_interval = _mean_and_interval(differences[:, 1])
    return Lead(
        threshold,
        first,
        second,
        pairs=len(differences),
        only_first=int((in_a & ~in_b).sum()),
        only_second=int((in_b & ~in_a).sum()),
        epochs=epochs,
        epochs_interval=epochs_interval,
        seconds=seconds,
        seconds_interval=seconds_interval,
    )


def _mean_and_interval(values: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float | None, Interval | None]:
    if not len(values) or not np.isfinite(values).all():
        return None, None
    return float(values.mean()), t_interval(values) if len(values) > 1 else None
