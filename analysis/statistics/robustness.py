"""How good a loss is when nobody tunes it well: random configurations, each run to its full length."""

from dataclasses import dataclass

import pandas as pd

from analysis.arms import compared_draws
from analysis.loading import Run
from analysis.statistics.generality import ahead_of_best, rank_correlation
from analysis.statistics.stats import (
    ExpectedMaximum,
    PairedDifference,
    expected_maximum,
    paired_difference,
    sign_flip_p,
)

__all__ = ["DrawDifference", "Draws", "Robustness", "RungForesight", "collapse_bound", "robustness"]

BEST_OF = (1, 2, 4, 8, 16, 32, 64)  # draws, of which a person who tunes takes the best


def collapse_bound(chance: float) -> float:
    """Return the accuracy up to which a run has collapsed: 1.5 times chance, or a tenth of the way up if that is less.

    0.15 with 10 classes, 0.55 with two.
    """
    return min(1.5 * chance, chance + 0.1 * (1 - chance))


@dataclass(frozen=True)
class Draws:
    """Final validation accuracies of an arm's random draws, fractions; a failed one counts at chance.

    Args:
        arm: a loss, or "gated".
        draws: how many.
        failed: of them, without a result.
        collapsed: of them, at most at the bound, failed ones included.
        median: of the accuracies, likewise the quartiles and the best.
        expected: of the best of k draws.
    """

    arm: str
    draws: int
    failed: int
    collapsed: int
    lower_quartile: float
    median: float
    upper_quartile: float
    best: float
    expected: ExpectedMaximum


@dataclass(frozen=True)
class DrawDifference:
    """Two arms on the same draws.

    Args:
        first: arm.
        second: arm.
        result: statistics of first - second by draw; its p is not corrected for the number of comparisons.
        median: of the differences.
        only_first_collapsed: draws.
        only_second_collapsed: draws.
        collapse_p: two-sided, of McNemar's exact test on these.
        best_of: numbers of draws, up to half of those that there are.
        ahead: for each, how often the best of so many draws of the first is ahead of that of the second.
    """

    first: str
    second: str
    result: PairedDifference
    median: float
    only_first_collapsed: int
    only_second_collapsed: int
    collapse_p: float
    best_of: tuple[int, ...]
    ahead: tuple[float, ...]


@dataclass(frozen=True)
class RungForesight:
    """How well the accuracy at a rung foretells the one at the end, over the random draws, none of which is stopped.

    Args:
        arm: a loss, or "gated".
        epoch: of the rung.
        draws: that have both.
        rank_correlation: Spearman's, None where there is none.
    """

    arm: str
    epoch: int
    draws: int
    rank_correlation: float | None


@dataclass(frozen=True)
class Robustness:
    """The random draws of a run.

    Args:
        bound: accuracy up to which a draw counts as collapsed.
        arms: one each.
        differences: one for each compared pair of arms.
        foresight: one for each arm and rung.
    """

    bound: float
    arms: tuple[Draws, ...]
    differences: tuple[DrawDifference, ...]
    foresight: tuple[RungForesight, ...]


def robustness(run: Run) -> Robustness | None:
    """Return what the random draws say, None where there are none."""
    accuracies = {arm: run.accuracies("robustness", arm) for arm in run.arms("robustness")}
    if not accuracies:
        return None
    bound = collapse_bound(run.chance)
    differences = [
        _difference(pair.first, pair.second, accuracies, bound)
        for pair in compared_draws(list(accuracies), run.reference)
    ]
    return Robustness(
        bound,
        tuple(_draws(run, arm, values, bound) for arm, values in accuracies.items()),
        tuple(difference for difference in differences if difference),
        tuple(_foresight(run, arm, epoch) for arm in accuracies for epoch in run.rung_epochs),
    )


def _draws(run: Run, arm: str, accuracies: "pd.Series[float]", bound: float) -> Draws:
    quartiles = accuracies.quantile([0.25, 0.5, 0.75])
    return Draws(
        arm=arm,
        draws=len(accuracies),
        failed=int(run.seed_runs_of("robustness", arm)["failed"].astype(bool).sum()),
        collapsed=int((accuracies <= bound).sum()),
        lower_quartile=float(quartiles[0.25]),
        median=float(quartiles[0.5]),
        upper_quartile=float(quartiles[0.75]),
        best=float(accuracies.max()),
        expected=expected_maximum(accuracies.to_numpy()),
    )


def _difference(
    first: str, second: str, accuracies: "dict[str, pd.Series[float]]", bound: float
) -> DrawDifference | None:
    both = pd.concat({"a": accuracies[first], "b": accuracies[second]}, axis=1, join="inner")
    if both.empty:
        return None
    difference = both["a"] - both["b"]
    fell_a, fell_b = both["a"] <= bound, both["b"] <= bound
    draws = tuple(k for k in BEST_OF if 2 * k <= len(both))  # of all of them there is one best, and no luck in it
    return DrawDifference(
        first,
        second,
        result=paired_difference(difference.to_numpy()),
        median=float(difference.median()),
        only_first_collapsed=int((fell_a & ~fell_b).sum()),
        only_second_collapsed=int((fell_b & ~fell_a).sum()),
        collapse_p=sign_flip_p((fell_a.astype(float) - fell_b.astype(float)).to_numpy()),
        best_of=draws,
        ahead=ahead_of_best(both["a"], both["b"], draws),
    )


def _foresight(run: Run, arm: str, epoch: int) -> RungForesight:
    rows = run.seed_runs_of("robustness", arm)
    seen = {
        pair: next((e.get("val_accuracy") for e in curve if e["epoch"] == epoch), None)
        for pair, curve in zip(rows["pair"], rows["curve"], strict=True)
    }
    # A draw that broke was the worst of every rung, as it is in the end.
    early = pd.Series(seen, dtype=float).fillna(0.0)
    final = rows.set_index("pair")["accuracy"].astype(float)
    return RungForesight(arm, epoch, len(early), rank_correlation(early.to_numpy(), final[early.index].to_numpy()))
