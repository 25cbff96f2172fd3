"""Overview: the verdict, what limits it, the differences that it rests on, and where the numbers come from."""

from collections.abc import Sequence

from analysis.cards import Card, card_of
from analysis.findings import Findings
from analysis.plots.forest import Comparison, described, few_seeds, forest, row_name
from analysis.plots.paired import nothing_tested
from analysis.plots.picture import NamedRun, Picture, Sheet, named
from analysis.plots.style import safe
from analysis.plots.tables import accuracy_table, budget_table, provenance_table
from analysis.statistics.verdict import Verdict

__all__ = ["build_overview", "card", "differences", "overview_of", "statements"]


def build_overview(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return overview_of(named(all_found))


def overview_of(runs: list[NamedRun]) -> Sheet:
    """Return the page of runs that have their names already."""
    picture = differences(runs)
    missing = "Differences of test accuracy: no two losses have been tested on the same seed yet."
    return Sheet(
        lines=tuple(line for run in runs for line in statements(run)),
        pictures=(picture,) if picture else (),
        tables=(accuracy_table(runs), budget_table(runs), provenance_table(runs)),
        notes=() if picture else (missing,),
        cards=tuple(card(run) for run in runs),
    )


def card(run: NamedRun) -> Card:
    """Return a run at a glance; its full statements are in it."""
    title = f"{run.label}, a part of the training images" if run.run.info["dataset"]["partial"] else run.label
    return card_of(run.found, run.slug, title, tuple(_said(run)), _waiting(run))


def statements(run: NamedRun) -> list[str]:
    """Return what a run says: verdicts against other losses, adaptivity, the published claim, and what limits it."""
    return [f"{run.prefix}{line}" for line in _said(run)]


def _waiting(run: NamedRun) -> str:
    return nothing_tested(run.run) if not run.run.arms("winner") else "no two losses have a seed in common."


def _said(run: NamedRun) -> list[str]:
    found = run.found
    losses = [verdict for verdict in found.verdicts if verdict.kind != "control"]
    lines = [verdict.sentence for verdict in losses]
    if not any(verdict.result for verdict in losses):
        lines = [f"no verdict yet: {_waiting(run)} Accuracies of the search are the best of many single runs."]
    if found.adaptivity:
        lines.append(found.adaptivity)
    lines += [f"the published claim, {claim.sentence}" for claim in found.claims if claim.published_gap is not None]
    notes = dict.fromkeys(note for verdict in losses for note in verdict.notes)  # each once, in order
    return lines + [f"note: {note}" for note in (*notes, *found.caveats)]


def differences(runs: list[NamedRun]) -> Picture | None:
    """Draw the differences between losses on every data set; None where nothing was tested in pairs."""
    rows: list[tuple[str, Comparison]] = []
    for run in runs:
        prefix = f"{safe(run.label, 24)}:<br>" if run.prefix else ""
        compared = [_comparison(verdict) for verdict in run.found.verdicts if verdict.kind != "control"]
        rows += [(f"{prefix}{row_name(comparison)}", comparison) for comparison in compared if comparison]
    if not rows:
        return None
    drawn = [comparison for _, comparison in rows]
    figure = forest("overview-differences", drawn, runs[0].looks, dots=False, names=[name for name, _ in rows])
    return Picture(
        "overview-differences",
        "Differences of test accuracy, paired by seed",
        f"Right of 0 the first of a pair is better. {described(drawn[0])}{few_seeds(drawn)}",
        figure,
    )


def _comparison(verdict: Verdict) -> Comparison | None:
    if verdict.result is None:
        return None
    return Comparison(verdict.first, verdict.second, verdict.pairs, verdict.differences, verdict.result)
