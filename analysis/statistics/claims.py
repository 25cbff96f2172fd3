"""What the study set out to check: the published claim, and whether adaptivity is what helps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.arms import name_of
from analysis.formatting import interval_pp, listed, percent, points
from analysis.loading import Run
from analysis.statistics.stats import PairedDifference, paired_difference
from analysis.statistics.verdict import Verdict
from tune.records.roles import CONTROLS, PERMUTED

__all__ = ["CLAIMED", "PUBLISHED", "Claim", "Outcome", "adaptivity", "claims"]

CLAIMED = ("adaloss", "arcface")  # the first is said to be better, whatever a run's reference
# Test accuracies of the study behind the claim: single runs, settings not named, test set watched after every epoch.
PUBLISHED = {
    "mnist": {"arcface": 0.9786, "adaloss": 0.9911},
    "cifar10": {"arcface": 0.6235, "adaloss": 0.6813},
}

Outcome = Literal["reproduced", "smaller", "larger", "reversed", "not reproduced", "uncertain", "nothing published"]
_MEANING = {
    "reproduced": "the published gap lies in the interval and 0 does not: reproduced",
    "smaller": "AdaLoss is ahead, but by less than published: only in part reproduced",
    "larger": "AdaLoss is ahead by more than published",
    "reversed": "ArcFace is ahead: the published gap is reversed",
    "not reproduced": "the interval holds 0 and not the published gap: not reproduced",
    "uncertain": "the interval holds both 0 and the published gap: too few seeds to tell",
    "nothing published": "nothing is published on this data set",
}


@dataclass(frozen=True)
class Claim:
    """AdaLoss - ArcFace against what was published.

    Args:
        settings: untuned (the published defaults), or winner (after tuning).
        adaloss: mean test accuracy over the common seeds, a fraction.
        arcface: likewise.
        result: statistics of the paired differences.
        published_gap: AdaLoss - ArcFace as published, None where nothing was.
        outcome: how the two compare, by the t interval; "uncertain" without one.
        both_above: whether both accuracies lie above their published ones, None where nothing was published.
        sentence: all of this in words.
    """

    settings: Literal["untuned", "winner"]
    adaloss: float
    arcface: float
    result: PairedDifference
    published_gap: float | None
    outcome: Outcome
    both_above: bool | None
    sentence: str


def claims(run: Run) -> list[Claim]:
    """Return the check of the published claim at the published defaults and after tuning, as far as they were run.

    The study names no settings, so its defaults are ArcFace's own (scale 64, margin 0.5 rad, arXiv:1801.07698) and an
    AdaLoss that starts from them.
    """
    found = []
    for settings in ("untuned", "winner"):
        arms = {loss: run.accuracies(settings, loss) for loss in CLAIMED}
        both = pd.concat(arms, axis=1, join="inner")
        if len(both):
            found.append(_claim("untuned" if settings == "untuned" else "winner", both, PUBLISHED.get(run.dataset)))
    return found


def _claim(settings: Literal["untuned", "winner"], both: pd.DataFrame, published: dict[str, float] | None) -> Claim:
    result = paired_difference((both["adaloss"] - both["arcface"]).to_numpy())
    ours = {loss: float(both[loss].mean()) for loss in CLAIMED}
    gap = published["adaloss"] - published["arcface"] if published else None
    outcome = _outcome(result, gap)
    where = "after tuning" if settings == "winner" else "at the published defaults"
    numbers = f"{points(result.mean)} pp {interval_pp(result.t_interval)}".rstrip()
    parts = [
        f"{where}: AdaLoss {percent(ours['adaloss'])}, ArcFace {percent(ours['arcface'])}, "
        f"difference {numbers}, n {result.n}"
    ]
    above = None
    if published:
        if result.t_interval is None:
            parts.append("a single seed has no interval: nothing can be said about the gap")
        else:
            parts.append(_MEANING[outcome])
        below = [f"{name_of(loss)} ({percent(published[loss])})" for loss in ours if ours[loss] <= published[loss]]
        above = not below
        parts.append(
            f"not above the published accuracy: {listed(below)}"
            if below
            else "both accuracies lie above the published ones"
        )
    return Claim(settings, ours["adaloss"], ours["arcface"], result, gap, outcome, above, "; ".join(parts))


def _outcome(result: PairedDifference, gap: float | None) -> Outcome:
    if gap is None:
        return "nothing published"
    if result.t_interval is None:
        return "uncertain"
    low, high = result.t_interval.low, result.t_interval.high
    if high < 0:
        return "reversed"
    if low > gap:
        return "larger"
    if high < gap:
        return "smaller" if low > 0 else "not reproduced"
    return "reproduced" if low > 0 else "uncertain"


_ABLATION = "gate_off"  # still adaptive: it shows what the gate is worth, not what adaptivity is


def adaptivity(verdicts: Sequence[Verdict]) -> str | None:
    """Return what a run's controls say: does AdaLoss beat them, or is adaptivity not what helps?

    Args:
        verdicts: of one run; None is returned where no control is among them.
    """
    against = {verdict.second: verdict for verdict in verdicts if verdict.kind == "control"}
    permuted = against.pop(PERMUTED, None)
    rivals = [arm for arm in CONTROLS if arm in against and arm != _ABLATION]
    sentences = []
    if rivals:
        primary = next((v for v in verdicts if (v.first, v.second) == CLAIMED), None)
        if primary and primary.decision != "better":
            sentences.append("AdaLoss is not shown to be better than the tuned ArcFace: there is no gain to explain.")
        unbeaten = [arm for arm in rivals if against[arm].decision != "better"]
        if unbeaten:
            named = listed(f"{name_of(arm)} ({_state(against[arm])})" for arm in unbeaten)
            sentences.append(f"AdaLoss does not beat {named}: adaptivity is not shown to be what helps.")
        else:
            sentences.append(f"AdaLoss beats {listed(map(name_of, rivals))}: adaptivity itself helps.")
        missing = [arm for arm in CONTROLS if arm not in against and arm != _ABLATION]
        if missing:
            sentences.append(f"Not run: {listed(map(name_of, missing))}.")
    if gate := against.get(_ABLATION):
        says = {
            "better": "AdaLoss is better with its competence gate than without it.",
            "worse": "AdaLoss is worse with its competence gate than without it.",
            "equivalent": "With or without its competence gate, AdaLoss is the same.",
            "inconclusive": "Whether the competence gate helps AdaLoss is open.",
        }
        sentences.append(says[gate.decision])
    if permuted:
        if permuted.decision == "better":
            found = f"beats {name_of(PERMUTED)}: which class has which margin matters"
        else:
            found = f"does not beat {name_of(PERMUTED)} ({_state(permuted)}): adapting by class is not shown to help"
        sentences.append(f"{name_of(permuted.first)} {found}.")
    return " ".join(sentences) or None


def _state(verdict: Verdict) -> str:
    return {"worse": "which is better", "equivalent": "equivalent"}.get(verdict.decision, "open")
