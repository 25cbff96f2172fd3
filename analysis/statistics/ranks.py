"""How several losses rank among each other over the seeds that all of them have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from analysis.arms import Group, group_of
from analysis.loading import Run
from analysis.statistics.verdict import Decision, Verdict

__all__ = ["FEWEST_LOSSES", "Rank", "Ranking", "friedman_p", "ranking", "ranks_by_seed"]

FEWEST_LOSSES = 3  # of two, the verdict says all
PERMUTATIONS = 9_999

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """A loss among the others.

    Args:
        loss: its name.
        group: see :func:`analysis.arms.group_of`.
        mean_rank: over the seeds, 1 the best; losses that are level share the mean of their places.
        won: share of the seeds in which it is the best; a seed with several best ones counts in parts.
        accuracy: mean test accuracy, a fraction.
        difference: mean of loss - reference by seed, a fraction; None for the reference.
        p_holm: of the sign-flip test against the reference, corrected as in the verdict, over the seeds of that
            comparison; None where there is none.
        decision: of that comparison.
    """

    loss: str
    group: Group
    mean_rank: float
    won: float
    accuracy: float
    difference: float | None
    p_holm: float | None
    decision: Decision | None


@dataclass(frozen=True)
class Ranking:
    """How losses rank.

    Args:
        pairs: the seeds that all of them have, by index.
        reference: what they are held against; it may be none of them.
        p: of Friedman's test, that all losses are alike; None for a single seed.
        ranks: the best mean rank first.
    """

    pairs: tuple[int, ...]
    reference: str
    p: float | None
    ranks: tuple[Rank, ...]


def ranking(run: Run, verdicts: Sequence[Verdict]) -> Ranking | None:
    """Rank the losses of a run by test accuracy, seed by seed; a failed run counts at chance.

    Args:
        run: the records.
        verdicts: of this run; they have the comparisons with the reference.

    Returns:
        None where fewer than three losses have a seed in common.
    """
    losses = [loss for loss in run.losses if loss in run.arms("winner")]
    found = {loss: _by_seed(run, loss) for loss in losses}
    common = pd.DataFrame({loss: values for loss, values in found.items() if len(values)}).dropna()  # (pairs, losses)
    if common.shape[1] < FEWEST_LOSSES or common.empty:
        return None
    ranks = ranks_by_seed(common)
    best = ranks == ranks.min(axis=1, keepdims=True)
    won = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    against = {v.first: v for v in verdicts if v.second == run.reference and v.kind != "control"}
    rows = [
        _rank(loss, float(ranks[:, place].mean()), float(won[place]), common, run.reference, against.get(loss))
        for place, loss in enumerate(common.columns)
    ]
    return Ranking(
        pairs=tuple(int(pair) for pair, _ in common.index),
        reference=run.reference,
        p=friedman_p(common) if len(common) > 1 else None,
        ranks=tuple(sorted(rows, key=lambda row: row.mean_rank)),
    )


def _by_seed(run: Run, loss: str) -> "pd.Series[float]":
    runs = run.seed_runs_of("winner", loss)
    return runs.set_index(["pair", "seed"])["accuracy"].astype(float)


def _rank(
    loss: str, mean_rank: float, won: float, common: pd.DataFrame, reference: str, verdict: Verdict | None
) -> Rank:
    is_other = loss != reference and reference in common
    return Rank(
        loss=loss,
        group=group_of(loss),
        mean_rank=mean_rank,
        won=won,
        accuracy=float(common[loss].mean()),
        difference=float((common[loss] - common[reference]).mean()) if is_other else None,
        p_holm=verdict.p_holm if verdict else None,
        decision=verdict.decision if verdict else None,
    )


def ranks_by_seed(accuracies: ArrayLike) -> Floats:
    """Return the rank of each loss in each seed, 1 the best, ties at the mean of their places.

    Args:
        accuracies: (n, k), a row a seed, a column a loss.

    Returns:
        (n, k).
    """
    values = np.asarray(accuracies, dtype=np.float64).round(12)  # a difference by rounding alone is a tie
    return np.asarray(rankdata(-values, axis=1), dtype=np.float64)


def friedman_p(accuracies: ArrayLike, *, seed: int = 0) -> float:
    """Return the p of Friedman's test that k losses are alike, by permuting the ranks within each seed.

    T = sum_j (R_j - n (k + 1) / 2)^2,  R_j the sum of loss j's ranks over the n seeds
    p = (1 + share of 9,999 random permutations with a T at least as large) / (1 + 9,999)

    T orders as Friedman's chi squared does, with ties too, whose correction is the same for all permutations; the usual
    chi squared distribution is that of many seeds.

    Args:
        accuracies: (n, k), n >= 2.
        seed: of the permutations.

    Reference:
        Friedman, "The use of ranks to avoid the assumption of normality", JASA 32, 1937; for comparing learners,
        Demsar, JMLR 7, 2006.
    """
    ranks = ranks_by_seed(accuracies)
    n, k = ranks.shape

    def statistic(sums: Floats) -> Floats:
        return np.asarray(((sums - n * (k + 1) / 2) ** 2).sum(axis=-1))

    observed = statistic(ranks.sum(axis=0))
    rng = np.random.default_rng(seed)
    sums = np.zeros((PERMUTATIONS, k))
    for row in ranks:
        sums += rng.permuted(np.broadcast_to(row, (PERMUTATIONS, k)), axis=1)
    hits = int((statistic(sums) >= observed - 1e-9).sum())
    return (1 + hits) / (1 + PERMUTATIONS)
