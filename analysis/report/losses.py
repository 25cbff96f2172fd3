"""The parts of a report that look at losses one by one: their ranks, their worst classes, their calibration."""

from collections.abc import Sequence

from analysis.arms import Group, name_of
from analysis.findings import Accuracy
from analysis.formatting import p_value, percent, points
from analysis.report.document import Block, Paragraph, Table
from analysis.statistics.classes import ClassesAndCalibration
from analysis.statistics.ranks import Ranking

__all__ = ["SETTINGS", "accuracy_cells", "classes_blocks", "ranking_blocks"]

SETTINGS = {"winner": "tuned", "untuned": "defaults", "control": "control"}
_GROUPS: dict[Group, str] = {"baseline": "no margin", "peer": "peer", "ours": "ours", "control": "control"}


def accuracy_cells(row: Accuracy) -> tuple[str, ...]:
    """Return mean, deviation, lowest, highest, seeds and failed runs of an arm as a table shows them."""
    return (
        percent(row.mean),
        "-" if row.sd is None else f"{100 * row.sd:.2f}",
        percent(row.lowest),
        percent(row.highest),
        str(row.seeds),
        str(row.failed),
    )


def ranking_blocks(ranking: Ranking | None) -> list[Block]:
    """Return the losses by mean rank, nothing without a ranking."""
    if ranking is None:
        return []
    n = len(ranking.pairs)
    text = (
        f"Ranks by test accuracy over the {n} seed{'s' if n != 1 else ''} that all {len(ranking.ranks)} have, 1 the "
        "best, ties shared"
    )
    if ranking.p is not None:
        text += f"; that all are alike: p {p_value(ranking.p)} (Friedman's test by permutation)"
    text += (
        f". Against {name_of(ranking.reference)}: p_holm as in the verdict, over the seeds that the two have. A rank "
        "is no verdict."
    )
    columns = ("loss", "group", "mean rank", "seeds won", "accuracy", "pp", "p_holm", "verdict")
    rows = tuple(
        (
            name_of(rank.loss),
            _GROUPS[rank.group],
            f"{rank.mean_rank:.2f}",
            f"{100 * rank.won:.0f} %",
            percent(rank.accuracy),
            "-" if rank.difference is None else points(rank.difference),
            "-" if rank.p_holm is None else p_value(rank.p_holm),
            rank.decision or ("reference" if rank.loss == ranking.reference else "-"),
        )
        for rank in ranking.ranks
    )
    return [Paragraph(text), Table(columns, rows, left=2)]


def classes_blocks(found: Sequence[ClassesAndCalibration]) -> list[Block]:
    """Return each arm's worst class and calibration."""
    if not found:
        return []
    text = (
        "Worst class: the one with the lowest mean over the seeds; of a seed: the mean of each seed's own worst. ECE: "
        "expected calibration error in 15 equal bins of confidence (arXiv:1706.04599), of logits without a margin, "
        "whose scale was tuned for accuracy alone."
    )
    columns = ("arm", "settings", "worst class", "its mean", "of a seed", "best - worst, pp", "ECE, pp", "confidence")
    rows = tuple(
        (
            name_of(row.arm),
            SETTINGS[row.role],
            row.worst_class,
            percent(row.worst_mean),
            percent(row.worst_of_seed),
            f"{100 * row.gap:.2f}",
            "-" if row.ece is None else f"{100 * row.ece:.2f}",
            "-" if row.confidence is None else percent(row.confidence),
        )
        for row in found
    )
    return [Paragraph(text), Table(columns, rows, left=3)]
