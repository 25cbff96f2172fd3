"""All that the records of a run say, gathered: what the search found, and what the confirmation showed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.arms import Pair, compared
from analysis.folders import check_each_once
from analysis.loading import Run, load_run
from analysis.statistics.budget import Spent, caveats, spending
from analysis.statistics.claims import Claim, adaptivity, claims
from analysis.statistics.classes import ClassesAndCalibration, classes_and_calibration
from analysis.statistics.convergence import Speed, convergence
from analysis.statistics.ranks import Ranking, ranking
from analysis.statistics.robustness import Robustness, robustness
from analysis.statistics.verdict import Comparison, Verdict, comparisons, judged
from tune.records.roles import CONTROLS_OF

__all__ = ["Accuracy", "Findings", "findings", "load_findings", "search_summary", "together"]


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies of an arm over its paired seeds, fractions; failed runs at chance.

    Args:
        role: winner, untuned or control.
        arm: a loss or a control.
        seeds: how many runs.
        failed: of them.
        mean: of the accuracies.
        sd: their standard deviation, None for a single one.
        lowest: of them.
        highest: of them.
        validation: mean validation accuracy with which the configuration was chosen, None where it was not.
    """

    role: str
    arm: str
    seeds: int
    failed: int
    mean: float
    sd: float | None
    lowest: float
    highest: float
    validation: float | None


@dataclass(frozen=True)
class Findings:
    """What a run shows; everything but the search is empty before its confirmation has results.

    Args:
        run: the records.
        search: of each loss, what its search came to.
        accuracies: of each arm on the paired seeds.
        verdicts: of each comparison.
        ranking: of the losses among each other, None where fewer than three have a seed in common.
        classes: of each arm, its worst class and its calibration, as far as they are on record.
        adaptivity: what the controls say.
        speed: of learning.
        claims: the published claim, checked.
        robustness: of random configurations.
        spent: on each loss.
        caveats: what limits all of this.
        comparisons: what the verdicts were made of.
    """

    run: Run
    search: tuple[dict[str, Any], ...]
    accuracies: tuple[Accuracy, ...]
    verdicts: tuple[Verdict, ...]
    ranking: Ranking | None
    classes: tuple[ClassesAndCalibration, ...]
    adaptivity: str | None
    speed: Speed | None
    claims: tuple[Claim, ...]
    robustness: Robustness | None
    spent: tuple[Spent, ...]
    caveats: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def is_confirmed(self) -> bool:
        """Whether any paired seed, or random draw, has a result."""
        return bool(self.accuracies or self.robustness)

    @property
    def main_pairs(self) -> tuple[Pair, ...]:
        """What the run asks: its primary comparisons, or where its losses allow none, those with the baselines."""
        pairs = compared(self.run.losses, self.run.reference)
        return tuple(pair for pair in pairs if pair.kind == "primary") or tuple(pairs)

    @property
    def main_verdicts(self) -> tuple[Verdict, ...]:
        """The answers to that, as far as there are any."""
        return tuple(v for v in self.verdicts if Pair(v.kind, v.first, v.second) in self.main_pairs)


def load_findings(folders: Sequence[Path], reference: str | None = None) -> list[Findings]:
    """Read runs and return what they show.

    Args:
        folders: of the runs.
        reference: the loss that the others are held against in all of them; None for each run's own.

    Raises:
        RecordError: a folder holds no run, or a damaged one, or is given twice, or its run does not have the reference.
    """
    check_each_once(folders)
    return findings([load_run(folder).against(reference) for folder in folders])


def findings(runs: Sequence[Run], earlier: Sequence[Findings] = ()) -> list[Findings]:
    """Return what each run shows; p values are corrected over all of them.

    Args:
        runs: to look at.
        earlier: what the same runs showed when they were shorter; what rests on the paired seeds alone is taken from
            there where no seed has come since.
    """
    return together([_of_run(run, next((e for e in earlier if _has_same_seeds(run, e.run)), None)) for run in runs])


def _has_same_seeds(run: Run, before: Run) -> bool:
    """Return whether two states of a run have the very same runs of the confirmation, and the same to make of them."""
    return (
        run.seed_runs is before.seed_runs
        and run.folder == before.folder
        and run.info is before.info
        and run.winners == before.winners
        and run.asked_reference == before.asked_reference
    )


def together(all_found: Sequence[Findings]) -> list[Findings]:
    """Return what runs show when these are looked at together, and no others: p is corrected over them alone."""
    verdicts = iter(judged([comparison for found in all_found for comparison in found.comparisons]))
    return [_with_verdicts(found, [next(verdicts) for _ in found.comparisons]) for found in all_found]


def _with_verdicts(found: Findings, own: list[Verdict]) -> Findings:
    return replace(found, verdicts=tuple(own), ranking=ranking(found.run, own), adaptivity=adaptivity(own))


def _of_run(run: Run, before: Findings | None) -> Findings:
    tested = [(role, arm) for role in _TESTED for arm in _arms(run, role)]
    return Findings(
        run=run,
        search=tuple(search_summary(run, loss) for loss in run.losses),
        accuracies=tuple(_accuracy(run, role, arm) for role, arm in tested),
        verdicts=(),
        ranking=None,
        classes=tuple(row for role, arm in tested if (row := classes_and_calibration(run, role, arm))),
        adaptivity=None,
        speed=convergence(run),
        claims=tuple(claims(run)),
        robustness=robustness(run),
        spent=tuple(spending(run)),
        caveats=tuple(caveats(run)),
        comparisons=tuple(comparisons(run)) if before is None else before.comparisons,
    )


_TESTED = ("winner", "untuned", "control")


def _arms(run: Run, role: str) -> list[str]:
    arms = run.arms(role)
    if role == "control":
        arms = [arm for controls in CONTROLS_OF.values() for arm in controls if arm in arms]
    return [arm for arm in arms if len(run.seed_runs_of(role, arm))]


def _accuracy(run: Run, role: str, arm: str) -> Accuracy:
    runs, values = run.seed_runs_of(role, arm), run.accuracies(role, arm)
    chosen = run.accuracies("candidate", arm) if role == "winner" else values.iloc[:0]
    return Accuracy(
        role=role,
        arm=arm,
        seeds=len(values),
        failed=int(runs["failed"].astype(bool).sum()),
        mean=float(values.mean()),
        sd=float(values.std()) if len(values) > 1 else None,
        lowest=float(values.min()),
        highest=float(values.max()),
        validation=float(chosen.mean()) if len(chosen) else None,
    )


def search_summary(run: Run, loss: str) -> dict[str, Any]:
    """Return what the search of a loss came to: counts, cost, the first error and the best trial."""
    trials = run.trials[run.trials["loss"] == loss]
    counts = trials["state"].value_counts()
    # A trial that was stopped early has seen less of its schedule: it is the best only where none was finished.
    judged = trials[(trials["state"] == "finished") & trials["val_accuracy"].notna()]
    if judged.empty:
        judged = trials[(trials["state"] == "stopped") & trials["val_accuracy"].notna()]
    best = None if judged.empty else judged.sort_values(["val_accuracy", "trial_id"], ascending=[False, True]).iloc[0]
    errors = [error.strip().splitlines() for error in trials["error"].dropna()]
    return {
        "loss": loss,
        "dimensions": run.info["search_spaces"][loss]["dimensions"],
        "trials": len(trials),
        **{state: int(counts.get(state, 0)) for state in ("finished", "stopped", "failed", "unfinished")},
        "epochs": int(trials["epochs"].sum()),
        "seconds": float(trials["seconds"].sum()),
        "first_error": errors[0][-1] if errors and errors[0] else None,
        "best": None
        if best is None
        else {
            "trial_id": best["trial_id"],
            "val_accuracy": float(best["val_accuracy"]),
            "epochs": int(best["epochs"]),
            "config": best["config"],
        },
    }
