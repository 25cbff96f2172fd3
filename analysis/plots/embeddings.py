"""Embeddings: angles of test images to their class and to the nearest other, before and after training."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.findings import Findings
from analysis.loading import Run
from analysis.plots.paired import nothing_tested
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, slug
from analysis.plots.style import GREY, arm_name, new_figure, points, tint

__all__ = ["angle_counts", "angle_histograms", "build_embeddings"]

WHEN = {"before": "before training", "after": "after training"}
Counts = NDArray[np.int64]  # (bins,), equal bins over [0, pi] rad


def build_embeddings(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, angle_histograms)


def angle_counts(run: Run, arm: str) -> tuple[dict[str, dict[str, Counts]], int]:
    """Return the winner's histograms summed over seeds, by when and to whom, and the number of seeds."""
    tables = [table for table in run.seed_runs_of("winner", arm)["angle_histograms"] if isinstance(table, dict)]
    summed = {
        when: {to: np.sum([table[when][to] for table in tables], axis=0) for to in ("own", "nearest_other")}
        for when in WHEN
    }
    return summed if tables else {}, len(tables)


def angle_histograms(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the histograms of each winner, before above after, on the same axis for all losses."""
    run = named_run.run
    title = f"angles of test embeddings on {named_run.label}"
    found = {arm: angle_counts(run, arm) for arm in run.arms("winner")}
    drawn = {arm: counts for arm, counts in found.items() if counts[1]}
    if not drawn:
        yield f"{title.capitalize()}: {nothing_tested(run)}"
        return
    limits = _limits([table for tables, _ in drawn.values() for table in tables.values()])
    for arm, (tables, seeds) in drawn.items():
        key, colour = slug("angles", named_run.slug, arm), named_run.look(arm).colour
        yield Picture(
            key, f"{arm_name(arm)}: {title}", _caption(tables, seeds), _figure(key, colour, tables, limits), arm=arm
        )


def _limits(tables: list[dict[str, Counts]]) -> list[float]:
    """Return the range of angles in which there is anything, in radians, a little widened."""
    filled = np.flatnonzero(np.sum([counts for table in tables for counts in table.values()], axis=0))
    if not len(filled):
        return [0.0, math.pi]
    width = math.pi / len(tables[0]["own"])
    return [max((filled[0] - 1) * width, 0.0), min((filled[-1] + 2) * width, math.pi)]


def _figure(key: str, colour: str, tables: dict[str, dict[str, Counts]], limits: list[float]) -> go.Figure:
    figure = new_figure(key, height=480, rows=2, shared=True, gap=0.08)
    looks = {
        "own": ("own class", colour, 0.45),
        "nearest_other": ("nearest other", GREY, 0.3),
    }
    for row, when in enumerate(WHEN, start=1):
        for to, (name, shade, opacity) in looks.items():
            counts = tables[when][to]
            if not counts.sum():
                continue
            edges = np.linspace(0, math.pi, len(counts) + 1)  # rad
            share = 100 * counts / counts.sum()
            figure.add_trace(
                go.Scatter(
                    x=points((edges[:-1] + edges[1:]) / 2),
                    y=points(share),
                    mode="lines",
                    line={"color": shade, "width": 1.6, "shape": "hvh"},
                    fill="tozeroy",
                    fillcolor=tint(shade, opacity),
                    name=name,
                    legendgroup=to,
                    showlegend=row == 1,
                    hovertemplate="around %{x:.2f} rad: %{y:.2f} % of the images",
                ),
                row=row,
                col=1,
            )
        figure.update_yaxes(title_text=f"images (%)<br>{WHEN[when]}", rangemode="tozero", row=row, col=1)
    figure.update_xaxes(range=limits)
    figure.update_xaxes(title_text="angle to the class centre (rad)", row=2)
    return figure


def _caption(tables: dict[str, dict[str, Counts]], seeds: int) -> str:
    parts = [
        f"{WHEN[when]} {_median(table['own']):.2f} and {_median(table['nearest_other']):.2f} rad"
        for when, table in tables.items()
    ]
    after = [counts / max(counts.sum(), 1) for counts in tables["after"].values()]
    overlap = 100 * float(np.minimum(*after).sum())
    of = f", {seeds} seeds together" if seeds > 1 else ""
    return (
        f"Median angle to the own and to the nearest other class: {', '.join(parts)}{of}. "
        f"After training the histograms overlap by {overlap:.1f} %."
    )


def _median(counts: Counts) -> float:
    """Return the median angle in radians, as precise as the bins."""
    if not counts.sum():
        return math.nan
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return (place + 0.5) * math.pi / len(counts)
