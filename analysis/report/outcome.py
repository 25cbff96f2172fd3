"""What a study came to, in words that follow from its verdicts by rule: they cannot say what the records do not."""

from collections.abc import Iterator, Mapping, Sequence

from analysis.arms import name_of
from analysis.cards import plain_verdict
from analysis.formatting import interval_pp, listed, p_value, points
from analysis.report.study import DataSet, missing_data
from analysis.statistics.claims import CLAIMED
from analysis.statistics.robustness import DrawDifference
from analysis.statistics.stats import LEVEL
from analysis.statistics.unplanned import ArmDifference
from analysis.statistics.verdict import Verdict
from tune.records.roles import ADAPTIVE, GATED

__all__ = ["contributions", "draws_say", "gap_says", "headline", "holds", "open_questions", "plan_says"]

_SAME = ("equivalent", "worse")  # of AdaLoss, held against something simpler: that does as well, or better
_SIMPLER = (GATED, "mean_margin", "yoked_replay")  # the controls that the plan wants beaten


def headline(data_sets: Sequence[DataSet]) -> list[str]:
    """Return whether AdaLoss beats ArcFace, and where it does, whether its gate alone does the work."""
    decided = {data.title: data.primary.decision for data in data_sets if data.primary}
    answer = _answer(decided) if decided else "There is no verdict on AdaLoss and ArcFace yet."
    lines = [f"{answer}{_so_far(data_sets)}"]
    alone = [data for data in data_sets if _is_better(data.primary) and _decision(data, GATED) in _SAME]
    if alone:
        states = ", ".join(
            f"{says} on {listed(titles)}"
            for decision, says in (("equivalent", "equivalent to AdaLoss"), ("worse", "better than AdaLoss"))
            if (titles := [data.title for data in alone if _decision(data, GATED) == decision])
        )
        lines.append(f"The competence gate alone does the work: without any feedback, gated ArcFace is {states}.")
    return lines + _untuned_headline(data_sets)


def _untuned_headline(data_sets: Sequence[DataSet]) -> list[str]:
    """Return where AdaLoss is the safer one with settings drawn at random, and what its gate has to do with that."""
    safer = [data for data in data_sets if (main := data.draws(*CLAIMED)) and _fewer_collapse(main)]
    by_gate = {state: [data.title for data in safer if _gate_on_draws(data) == state] for state in _GATE_ON_DRAWS}
    return [
        f"With settings drawn at random, AdaLoss collapses less often than ArcFace on {listed(titles)}, "
        f"{_GATE_ON_DRAWS[state].format('')}."
        for state, titles in by_gate.items()
        if titles
    ]


def _answer(decided: Mapping[str, str]) -> str:
    better, behind, unsure = (
        [title for title, decision in decided.items() if decision in wanted]
        for wanted in (("better",), _SAME, ("inconclusive",))
    )
    if not better:
        if not behind:
            return f"AdaLoss is not shown to beat ArcFace: undecided on {listed(unsure)}."
        worse = [title for title in behind if decided[title] == "worse"]
        equal = [title for title in behind if decided[title] == "equivalent"]
        parts = [f"worse on {listed(worse)}"] if worse else []
        parts += [f"equivalent on {listed(equal)}"] if equal else []
        parts += [f"undecided on {listed(unsure)}"] if unsure else []
        verb = "is not shown to beat" if unsure else "does not beat"
        return f"AdaLoss {verb} ArcFace, both tuned under the same budget: {', '.join(parts)}."
    parts = [f"not on {listed(behind)}"] if behind else []
    parts += [f"undecided on {listed(unsure)}"] if unsure else []
    elsewhere = f" ({', '.join(parts)})" if parts else ""
    return f"AdaLoss beats ArcFace on {listed(better)}{elsewhere}, both tuned under the same budget."


def _so_far(data_sets: Sequence[DataSet]) -> str:
    missing = missing_data(data_sets)
    return f" {listed(missing)} is not there yet." if missing else ""


def _is_better(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.decision == "better"


def _decision(data: DataSet, second: str) -> str:
    verdict = data.verdict(ADAPTIVE, second)
    return verdict.decision if verdict else "not run"


# --- What holds, and what does not -----------------------------------------------------------------------------------


def holds(data: DataSet) -> list[str]:
    """Return each decided comparison of losses on a data set, and how far it holds for other test images."""
    decided = [verdict for verdict in _of_losses(data) if verdict.decision != "inconclusive"]
    return [f"{plain_verdict(verdict)}{_beyond_images(verdict)}" for verdict in decided]


def open_questions(data: DataSet) -> list[str]:
    """Return each comparison of losses on a data set that is not decided, and how many seeds that would take."""
    undecided = [verdict for verdict in _of_losses(data) if verdict.decision == "inconclusive"]
    return [f"{plain_verdict(verdict)} ({_needed(verdict)})" for verdict in undecided]


def _needed(verdict: Verdict) -> str:
    if verdict.seeds_needed is None:
        return "more than 10,000 seeds would be needed"
    return f"about {verdict.seeds_needed:,} seeds would be needed"


def _of_losses(data: DataSet) -> list[Verdict]:
    return [verdict for verdict in data.main.verdicts if verdict.kind != "control" and verdict.result]


def _beyond_images(verdict: Verdict) -> str:
    """Say where a decision is one for these test images alone."""
    if verdict.images_too is None:
        return ""
    interval = verdict.images_too.interval
    shown = interval_pp(interval)
    if verdict.decision == "equivalent":
        return "" if interval.lies_within(verdict.bound) else f" (for other test images too {shown}: not shown)"
    return "" if interval.excludes(0.0) else f" (for other test images too {shown}: not shown)"


# --- The published gap -----------------------------------------------------------------------------------------------


_GAP = {
    "reproduced": "reproduced",
    "smaller": "only in part reproduced",
    "larger": "exceeded",
    "reversed": "reversed",
    "not reproduced": "not reproduced",
    "uncertain": "not settled, as its interval holds 0 too",
}


def gap_says(data: DataSet) -> str:
    """Return what became of the published gap on a data set, "" where nothing is published or was run."""
    claims = [claim for claim in data.main.claims if claim.published_gap is not None]
    if not claims:
        return ""
    states = [
        f"{_GAP[claim.outcome]} {'after tuning' if claim.settings == 'winner' else 'at the published defaults'} "
        f"({points(claim.result.mean)} pp {interval_pp(claim.result.t_interval)})"
        for claim in claims
    ]
    return f"On {data.title} the published gap of {points(claims[0].published_gap or 0.0)} pp is {listed(states)}."


# --- The plan --------------------------------------------------------------------------------------------------------


def plan_says(data_sets: Sequence[DataSet]) -> str:
    """Return what the plan makes of the results: support, refutation, or neither."""
    missing = missing_data(data_sets)
    if missing:
        return f"The plan decides on all data sets together, and {listed(missing)} is not there yet."
    claimed = [data for data in data_sets if data.primary]
    decisions = [data.primary.decision for data in claimed if data.primary]
    if len(claimed) < len(data_sets):
        return "The plan decides on all data sets together, and one of them has no verdict."
    if all(decision in _SAME for decision in decisions):
        return "By the plan this refutes the claim: AdaLoss is worse or equivalent on every data set."
    unmet = [] if all(decision == "better" for decision in decisions) else ["than ArcFace on every data set"]
    rivals = [arm for arm in ("softmax", *_SIMPLER) if not any(_decision(data, arm) == "better" for data in data_sets)]
    if rivals:
        unmet.append(f"on any data set than {listed(map(name_of, rivals))}")
    if not unmet:
        return "By the plan this supports the claim: every condition that it names is met."
    return f"By the plan the result is partial: AdaLoss is not shown to be better {', nor '.join(unmet)}."


# --- Gate, start and rates -------------------------------------------------------------------------------------------


def contributions(data: DataSet) -> Iterator[str]:
    """Yield what gate, update rates and start are worth on a data set, as far as their controls were run."""
    for what, second in (("The gate", "gate_off"), ("The update rates", GATED)):
        if verdict := data.verdict(ADAPTIVE, second):
            yield f"{what}: {plain_verdict(verdict)}."
    if data.start:
        yield (
            "The start: a margin that rises evenly from 0, against one that is from the first step on what that one is "
            f"at its end, {_effect(data.start)}."
        )
    if data.gate_for_arcface:
        effect = _effect(data.gate_for_arcface)
        yield f"The gate without feedback, at AdaLoss's settings, against the tuned ArcFace: {effect}."
    if data.main.adaptivity:
        yield data.main.adaptivity


def _effect(difference: ArmDifference) -> str:
    word = {1: "gains", -1: "costs", 0: "shows no effect"}[difference.effect]
    result = difference.result
    numbers = f"{points(result.mean)} pp {interval_pp(result.t_interval)}".rstrip()
    return f"{word} ({numbers}, n {result.n}, in no family of tests)"


# --- Random draws ----------------------------------------------------------------------------------------------------


def draws_say(data: DataSet) -> Iterator[str]:
    """Yield what the random draws say: how many collapse, who is ahead draw by draw, and what the gate does."""
    if data.drawn is None or data.drawn.robustness is None:
        return
    robust = data.drawn.robustness
    shares = listed(f"{arm.collapsed} of {arm.draws} ({name_of(arm.arm)})" for arm in robust.arms)
    images = data.drawn.run.info["dataset"]
    on = f", on {images['train_images']:,} training images" if images["partial"] else ""
    yield f"Random draws that collapse{on}: {shares}."
    if main := data.draws(*CLAIMED):
        yield f"AdaLoss against ArcFace by draw: {_by_draw(main)}; p is of single tests, not corrected."
        yield _who_collapses(data, main)


def _by_draw(difference: DrawDifference) -> str:
    result = difference.result
    return (
        f"median {points(difference.median)} pp, mean {points(result.mean)} pp {interval_pp(result.t_interval)}, "
        f"p {p_value(result.p)}; only AdaLoss collapses in {difference.only_first_collapsed}, only ArcFace in "
        f"{difference.only_second_collapsed}, p {p_value(difference.collapse_p)}"
    )


_GATE_ON_DRAWS = {
    "alone": "and so does gated ArcFace{}: the gate alone does it",
    "not alone": "and less often than gated ArcFace{}: the gate alone does not do it",
    "open": "whether the gate alone does it is open{}",
    "not run": "whether the gate alone does it was not run{}",
}


def _who_collapses(data: DataSet, main: DrawDifference) -> str:
    """Return who collapses less, and whether the gate alone does that."""
    if main.collapse_p >= 1 - LEVEL:
        return "That one of them collapses less often is not shown."
    if not _fewer_collapse(main):
        return "AdaLoss collapses more often than ArcFace."
    of_gated, to_gated = data.draws(GATED, CLAIMED[1]), data.draws(ADAPTIVE, GATED)
    numbers = ""
    if of_gated and to_gated:
        numbers = f" (p {p_value(of_gated.collapse_p)}; between the two p {p_value(to_gated.collapse_p)})"
    return f"AdaLoss collapses less often than ArcFace, {_GATE_ON_DRAWS[_gate_on_draws(data)].format(numbers)}."


def _gate_on_draws(data: DataSet) -> str:
    """Return whether the gate alone makes AdaLoss collapse less often than ArcFace, where it does."""
    of_gated, to_gated = data.draws(GATED, CLAIMED[1]), data.draws(ADAPTIVE, GATED)
    if of_gated is None or to_gated is None:
        return "not run"
    if _fewer_collapse(to_gated):
        return "not alone"
    return "alone" if _fewer_collapse(of_gated) and to_gated.collapse_p >= 1 - LEVEL else "open"


def _fewer_collapse(difference: DrawDifference) -> bool:
    """Return whether the first of two collapses less often, by McNemar's exact test."""
    fewer = difference.only_first_collapsed < difference.only_second_collapsed
    return fewer and difference.collapse_p < 1 - LEVEL
