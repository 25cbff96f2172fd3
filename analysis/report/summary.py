"""The end of a run in a few lines: its verdict and what limits it; compare.py has everything behind it."""

from collections.abc import Sequence

from analysis.arms import name_of
from analysis.findings import Findings
from analysis.formatting import listed, percent
from analysis.report.document import Block, Heading, Items, Paragraph
from analysis.report.sections import head, images_line, no_verdict
from analysis.statistics.verdict import Verdict

__all__ = ["seeds_to_add", "summary"]

_MOST_LINES = 4
_MOST_SEEDS = 200  # beyond it, nobody is told to add them


def summary(all_found: Sequence[Findings]) -> list[Block]:
    """Return the verdict of each run first, or where there is none what the search came to."""
    blocks: list[Block] = []
    for found in all_found:
        if not found.is_confirmed:
            blocks += [Heading(f"Search on {found.run.dataset}"), *head(found)]
            continue
        lines = [line for verdict in found.main_verdicts for line in _lines(verdict)] or [no_verdict(found)]
        blocks += [Heading(f"Verdict on {found.run.dataset}"), Items((*lines, *_against_baselines(found)))]
        if accuracies := _accuracies(found):
            blocks.append(Paragraph(accuracies))
        if found.caveats:
            blocks.append(Items(tuple(f"Note: {caveat}" for caveat in found.caveats)))
    return blocks


def seeds_to_add(found: Findings) -> int | None:
    """Return how many paired seeds a decision would take, about, where there is none yet and so many can be run."""
    needed = [verdict.seeds_needed for verdict in found.main_verdicts if verdict.decision == "inconclusive"]
    wanted = max((seeds for seeds in needed if seeds is not None), default=None)
    done = max((len(verdict.pairs) for verdict in found.main_verdicts), default=0)
    return wanted if wanted is not None and done < wanted <= _MOST_SEEDS else None


def _lines(verdict: Verdict) -> list[str]:
    images = images_line(verdict)
    return [verdict.sentence, *(f"    {line}" for line in (images, *verdict.notes) if line)]


def _against_baselines(found: Findings) -> list[str]:
    """Return how the losses do against those without a margin, unless that is a long list, which compare.py has."""
    sentences = [v.sentence for v in found.verdicts if v.kind == "baseline" and v not in found.main_verdicts]
    return sentences if len(sentences) <= _MOST_LINES else []


def _accuracies(found: Findings) -> str:
    tested = [row for row in found.accuracies if row.role == "winner"]
    shown = [f"{name_of(row.arm)} {percent(row.mean)}" for row in sorted(tested, key=lambda row: -row.mean)]
    return f"Test accuracy, mean of the paired seeds: {listed(shown)}." if shown else ""
