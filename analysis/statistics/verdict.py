"""Which loss is better, by how much and how surely: one verdict for each comparison of a confirmation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.arms import Kind, Pair, compared, name_of
from analysis.formatting import interval_pp, listed, p_value, percent, points
from analysis.loading import Run
from analysis.statistics.generality import ImagesToo, correlation, over_seeds_and_images
from analysis.statistics.stats import (
    LEVEL,
    MIN_SEEDS,
    PairedDifference,
    holm,
    paired_difference,
    seeds_for_half_width,
    seeds_for_power,
    smallest_p,
)

__all__ = ["Comparison", "Decision", "Verdict", "comparisons", "equivalence_bound", "judged", "verdicts"]

Decision = Literal["better", "worse", "equivalent", "inconclusive"]

# A difference that is smaller matters to nobody: a sixth of the errors that are left on MNIST, where they are few.
_EQUIVALENCE = {"mnist": 0.001, "fashion_mnist": 0.001}
_EQUIVALENCE_ELSEWHERE = 0.003  # CIFAR's; digits too, where a single test image is more than that


def equivalence_bound(dataset: str) -> float:
    """Return the difference of accuracies, a fraction, below which two losses count as equivalent on a data set."""
    return _EQUIVALENCE.get(dataset, _EQUIVALENCE_ELSEWHERE)


@dataclass(frozen=True)
class Verdict:
    """What the paired seeds say about two arms. Accuracies and differences are fractions, of the test split.

    Args:
        run: the run's folder.
        dataset: its data set.
        kind: see :class:`~analysis.arms.Pair`. Holm's correction is over all comparisons that ask the same question:
            those of a kind, and of the controls, those of the same loss.
        first: the arm that may be better, a loss.
        second: what it is held against, a loss or a control.
        first_accuracy: mean over the common seeds, None without any.
        second_accuracy: likewise.
        pairs: the common seeds, by index.
        differences: first - second, one a pair.
        result: their statistics, None without any.
        images_too: the same for other seeds and other test images, None without two seeds whose images are on record.
        correlation: of the two accuracies over the seeds, None where one never changes.
        p_holm: p, corrected for the number of comparisons.
        family: that number: of the comparisons that ask the same, on all data sets.
        bound: below it, differences do not matter.
        decision: see :func:`verdicts`.
        seeds_needed: about so many for a decision, where there is none yet; None also where it is over 10,000.
        sentence: all of this in a line.
        notes: what a reader must know beside it.
    """

    run: str
    dataset: str
    kind: Kind
    first: str
    second: str
    first_accuracy: float | None
    second_accuracy: float | None
    pairs: tuple[int, ...]
    differences: tuple[float, ...]
    result: PairedDifference | None
    images_too: ImagesToo | None
    correlation: float | None
    p_holm: float | None
    family: int
    bound: float
    decision: Decision
    seeds_needed: int | None
    sentence: str
    notes: tuple[str, ...]


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """Return the verdict of every comparison that the runs' paired seeds allow, run by run, the primary ones first.

    Three questions are asked: do losses beat the reference, as AdaLoss ArcFace (the primary one), do margins beat none,
    and, loss by loss, does it beat its controls. Holm's correction is over all comparisons and data sets that answer
    the same one: whoever also runs controls does not weaken the answer to the first, nor does a run that is planned
    with fewer than 6 seeds weaken those of others. The decision, in this order:

    - equivalent: the t interval lies within the bound, whether or not it holds 0;
    - better, worse: p_holm of the exact sign-flip test < 0.05, and the t interval excludes 0;
    - inconclusive: neither, or every run failed.

    The test is exact where, without a difference, a pair is as likely as its mirror image, as it is for two losses that
    behave alike. It asks whether they do: where a loss fails now and then and is ahead otherwise, look at the pairs.

    With fewer than 6 seeds everything is inconclusive: the exact test cannot reach 0.05, and a spread estimated from so
    few is no ground to call anything equivalent either.
    """
    return judged([comparison for run in runs for comparison in comparisons(run)])


@dataclass(frozen=True)
class _Match:
    """Two arms of a run and what they have in common."""

    run: Run
    kind: Kind
    first: str
    second: str
    seeds: pd.DataFrame  # of the common pairs, columns of both arms with suffixes _a and _b
    notes: tuple[str, ...]

    @property
    def question(self) -> tuple[str, str, bool]:
        """What it answers, with others: those of a kind, but each loss's controls are a question of their own.

        Where fewer seeds are planned than can show anything, as beside random draws, nothing is asked of them, and the
        comparisons that can come out are corrected as if these were not there: no error is made by what never does.
        """
        planned = (self.run.confirmation or {}).get("seeds") or 0
        return self.kind, self.first if self.kind == "control" else "", max(planned, len(self.seeds)) >= MIN_SEEDS

    @property
    def differences(self) -> "pd.Series[float]":
        return self.seeds["accuracy_a"] - self.seeds["accuracy_b"]

    @property
    def all_failed(self) -> bool:
        return bool((self.seeds["failed_a"].astype(bool) & self.seeds["failed_b"].astype(bool)).all())


def _matches(run: Run) -> list[_Match]:
    losses = [loss for loss in run.arms("winner") if loss in run.losses]
    return [_match(run, pair) for pair in compared(losses, run.reference, run.arms("control"))]


def _match(run: Run, pair: Pair) -> _Match:
    first, second = pair.first, pair.second
    arms = {"a": run.seed_runs_of("winner", first)}
    arms["b"] = run.seed_runs_of("control" if pair.kind == "control" else "winner", second)
    names = {"a": name_of(first), "b": name_of(second)}
    columns = ["pair", "seed", "accuracy", "failed"]
    both = arms["a"][columns].merge(arms["b"][columns], on="pair", suffixes=("_a", "_b"))
    seeds = both[both["seed_a"] == both["seed_b"]]
    notes = []
    if len(seeds) < len(both):
        notes.append(f"{len(both) - len(seeds)} pairs are left out: their two sides had different seeds")
    if any(len(arm) > len(seeds) for arm in arms.values()):
        have = listed(f"{names[side]} has {len(arm)} seeds" for side, arm in arms.items())
        notes.append(f"{have}; the {len(seeds)} that both have are compared")
    for side in ("a", "b"):
        if failed := int(seeds[f"failed_{side}"].astype(bool).sum()):
            notes.append(
                f"{failed} of {len(seeds)} runs of {names[side]} failed and count at chance, {percent(run.chance)}"
            )
    return _Match(run, pair.kind, first, second, seeds, tuple(notes))


@dataclass(frozen=True)
class Comparison:
    """Two arms of a run, and what their seeds say whatever else is compared: all of a verdict that takes time."""

    match: _Match
    result: PairedDifference | None
    images_too: ImagesToo | None
    correlation: float | None


def comparisons(run: Run) -> list[Comparison]:
    """Return every comparison of a run, the primary ones first; :func:`judged` makes verdicts of them."""
    return [
        Comparison(
            match,
            paired_difference(match.differences) if len(match.differences) else None,
            _images_too(match),
            correlation(match.seeds["accuracy_a"], match.seeds["accuracy_b"]),
        )
        for match in _matches(run)
    ]


def judged(compared: Sequence[Comparison]) -> list[Verdict]:
    """Return the verdicts of comparisons that are looked at together: p is corrected over those of a question."""
    adjusted: dict[int, tuple[float, int]] = {}
    for question in dict.fromkeys(comparison.match.question for comparison in compared):
        family = [(i, c.result.p) for i, c in enumerate(compared) if c.result and c.match.question == question]
        corrected = holm([p for _, p in family])
        adjusted |= {i: (p, len(family)) for (i, _), p in zip(family, corrected, strict=True)}
    return [_verdict(comparison, *adjusted.get(i, (None, 0))) for i, comparison in enumerate(compared)]


def _verdict(comparison: Comparison, p_holm: float | None, family: int) -> Verdict:
    match, result = comparison.match, comparison.result
    bound = equivalence_bound(match.run.dataset)
    decision: Decision = "inconclusive"
    needed = None
    if result and p_holm is not None and not match.all_failed:
        decision = _decision(result, p_holm, bound)
        needed = _seeds_needed(result, family, bound) if decision == "inconclusive" else None
    means = match.seeds[["accuracy_a", "accuracy_b"]].mean()
    return Verdict(
        run=str(match.run.folder),
        dataset=match.run.dataset,
        kind=match.kind,
        first=match.first,
        second=match.second,
        first_accuracy=float(means["accuracy_a"]) if result else None,
        second_accuracy=float(means["accuracy_b"]) if result else None,
        pairs=tuple(int(pair) for pair in match.seeds["pair"]),
        differences=tuple(float(difference) for difference in match.differences),
        result=result,
        images_too=comparison.images_too,
        correlation=comparison.correlation,
        p_holm=p_holm,
        family=family,
        bound=bound,
        decision=decision,
        seeds_needed=needed,
        sentence=_sentence(match, result, p_holm, bound, decision, needed),
        notes=(*match.notes, *_remarks(match, result, p_holm, family, bound, decision)),
    )


def _images_too(match: _Match) -> ImagesToo | None:
    second = "control" if match.kind == "control" else "winner"
    a, b = match.run.correct_images("winner", match.first), match.run.correct_images(second, match.second)
    pairs = [pair for pair in match.seeds["pair"] if pair in a.index and pair in b.index]
    if len(pairs) < 2:
        return None
    return over_seeds_and_images(a.loc[pairs].to_numpy(), b.loc[pairs].to_numpy())


def _decision(result: PairedDifference, p_holm: float, bound: float) -> Decision:
    if result.n < MIN_SEEDS or result.t_interval is None:
        return "inconclusive"
    if result.t_interval.lies_within(bound):
        return "equivalent"
    if p_holm < 1 - LEVEL and result.t_interval.excludes(0.0):
        return "better" if result.mean > 0 else "worse"
    return "inconclusive"


def _seeds_needed(result: PairedDifference, family: int, bound: float) -> int | None:
    """Return how many seeds would do if mean and spread stayed: for a difference at 80 % power, or for equivalence."""
    enough = MIN_SEEDS  # for the exact test among so many comparisons
    while family * smallest_p(enough) >= 1 - LEVEL:
        enough += 1
    if not result.sd:
        return enough
    found = seeds_for_power(result.mean, result.sd, level=1 - (1 - LEVEL) / family)
    ways = [max(found, enough)] if found else []
    if equal := seeds_for_half_width(result.sd, bound - abs(result.mean)):
        ways.append(max(equal, MIN_SEEDS))
    return max(min(ways), result.n + 1) if ways else None


def _sentence(
    match: _Match,
    result: PairedDifference | None,
    p_holm: float | None,
    bound: float,
    decision: Decision,
    needed: int | None,
) -> str:
    settings = match.run.info["settings"]
    budget = f"{settings['trials']} trials x {settings['max_epochs']} epochs"
    what = f"{name_of(match.first)} - {name_of(match.second)}"
    if result is None or p_holm is None:
        return f"{what}: no seed in common yet, {budget}: inconclusive"
    asked = (match.run.confirmation or {}).get("seeds", result.n)
    numbers = [
        f"{what} = {points(result.mean)} pp {interval_pp(result.t_interval)}".rstrip(),
        f"p_holm {p_value(p_holm)}",
        f"P(A>B) {result.superiority.share:.2f}",
        f"n {result.n}" + (f" of {asked}" if asked > result.n else ""),
        budget,
    ]
    shown = "inconclusive (every run failed)" if match.all_failed else _shown(result, bound, decision, needed)
    return f"{', '.join(numbers)}: {shown}"


def _shown(result: PairedDifference, bound: float, decision: Decision, needed: int | None) -> str:
    if decision == "equivalent":
        return f"equivalent (within +-{100 * bound:g} pp)"
    if decision != "inconclusive":
        return decision
    if needed is None:
        return "inconclusive (more than 10,000 seeds needed)"
    about = "at least" if result.n < 2 or not result.sd else "about"
    return f"inconclusive ({about} {needed:,} seeds needed)"


def _remarks(
    match: _Match,
    result: PairedDifference | None,
    p_holm: float | None,
    family: int,
    bound: float,
    decision: Decision,
) -> list[str]:
    """Return what the numbers alone might hide."""
    if result is None or p_holm is None:
        return []
    remarks = []
    significant = p_holm < 1 - LEVEL
    if result.n < MIN_SEEDS:
        remarks.append(
            f"{result.n} paired seeds can never show a difference: the exact test's least p is "
            f"{result.smallest_p:.3g}; take {MIN_SEEDS} or more"
        )
    elif family * result.smallest_p >= 1 - LEVEL:
        remarks.append(
            f"among {family} comparisons, {result.n} seeds cannot show a difference: p_holm is "
            f"{min(1.0, family * result.smallest_p):.3f} at best"
        )
    if result.sd == 0.0 and result.n > 1:
        remarks.append(
            f"all {result.n} pairs differ by the same {points(result.mean)} pp, so the interval has no width"
        )
    if decision == "equivalent" and significant:
        remarks.append(
            f"{name_of(match.first)} is {'ahead' if result.mean > 0 else 'behind'} (p_holm {p_value(p_holm)}), "
            f"by less than the {100 * bound:g} pp that matter"
        )
    if decision == "inconclusive" and result.n >= MIN_SEEDS and result.t_interval is not None:
        if significant:
            remarks.append("the sign-flip test sees a difference, but the t interval holds 0: a few seeds differ much")
        elif result.t_interval.excludes(0.0) and result.p < 1 - LEVEL:
            remarks.append(f"alone it would be a difference (p {p_value(result.p)}), among {family} it is not")
    return remarks
