"""Confusion matrices of the winners on the test split."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.findings import Findings
from analysis.loading import Run
from analysis.plots.margins import BAR_PX, bar, class_labels, class_names, class_ticks
from analysis.plots.paired import nothing_tested
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, plain, slug
from analysis.plots.style import arm_name, new_figure

__all__ = ["build_confusion", "confusion_counts", "confusion_matrices"]

_MOST_NUMBERS = 12  # classes up to which each cell shows its number
_MOST_CLASSES = 200
_MOST_NARROW = 40  # classes that fit into a column


def build_confusion(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, confusion_matrices)


def confusion_counts(run: Run, arm: str) -> tuple[NDArray[np.int64] | None, int]:
    """Return the winner's counts summed over seeds, (C, C), rows true, and the number of seeds."""
    tables = [table for table in run.seed_runs_of("winner", arm)["confusion"] if isinstance(table, list)]
    return (np.sum(np.array(tables, dtype=np.int64), axis=0), len(tables)) if tables else (None, 0)


def confusion_matrices(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw a matrix a loss: shares of each true class; the colour tells the errors, the diagonal has numbers only."""
    run = named_run.run
    title = f"confusion on {named_run.label}"
    found = {arm: confusion_counts(run, arm) for arm in run.arms("winner")}
    drawn = {arm: (counts, seeds) for arm, (counts, seeds) in found.items() if counts is not None}
    if not drawn:
        yield f"{title.capitalize()}: {nothing_tested(run)}"
        return
    if run.num_classes > _MOST_CLASSES:
        yield f"{title.capitalize()}: a matrix of {run.num_classes} classes would not be readable."
        return
    highest = max(float(_errors(_shares(counts)).max()) for counts, _ in drawn.values())
    for arm, (counts, seeds) in drawn.items():
        names = class_names(run, len(counts))
        key = slug("confusion", named_run.slug, arm)
        figure = _figure(key, counts, names, highest)
        yield Picture(
            key,
            f"{arm_name(arm)}: {title}",
            _caption(counts, names, seeds),
            figure,
            wide=len(names) > _MOST_NARROW,
            arm=arm,
        )


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each row as shares of its sum; a class without images is a row of zeros."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _errors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(shares * (1 - np.eye(len(shares))))


def _figure(key: str, counts: NDArray[np.int64], names: list[str], highest: float) -> go.Figure:
    size, shares = len(names), _shares(counts)
    figure = new_figure(key, height=580 if size <= _MOST_NUMBERS else 800)
    labels = class_labels(names)
    wrong = {
        "zmax": max(100 * highest, 0.1),
        "colorscale": [[0, "#ffffff"], [0.35, "#c6dbef"], [1, "#0B4F8A"]],
        "colorbar": bar("errors: share of the true class (%)"),
    }
    right = {"zmax": 100, "colorscale": [[0, "#f7f3e8"], [1, "#ece3c8"]], "showscale": False}
    # Right answers would outshine every error, so they have colours of their own.
    diagonal = np.eye(size, dtype=bool)
    for name, mask, options in (("errors", ~diagonal, wrong), ("right", diagonal, right)):
        figure.add_trace(
            go.Heatmap(
                name=name,
                x=labels,
                y=labels,
                z=[
                    [round(100 * share, 3) if drawn else None for share, drawn in zip(*rows, strict=True)]
                    for rows in zip(shares.tolist(), mask.tolist(), strict=True)
                ],
                zmin=0,
                customdata=counts.tolist(),
                hovertemplate="true %{y}<br>predicted %{x}<br>%{customdata:,} images, %{z:.2f} % of the true class"
                "<extra></extra>",
                hoverongaps=False,
                **_numbers(shares, mask),
                **options,
            )
        )
    ticks = class_ticks(names)
    figure.update_layout(margin_t=BAR_PX)
    figure.update_xaxes(
        title_text="predicted class", type="category", showgrid=False, autotickangles=[0, -45, -90], **ticks
    )
    figure.update_yaxes(title_text="true class", type="category", showgrid=False, autorange="reversed", **ticks)
    return figure


def _numbers(shares: NDArray[np.float64], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return options that print the shares into the cells, where there is room for them."""
    if len(shares) > _MOST_NUMBERS:
        return {}
    texts = [
        [f"{100 * share:.1f}" if share and drawn else "" for share, drawn in zip(*rows, strict=True)]
        for rows in zip(shares.tolist(), mask.tolist(), strict=True)
    ]
    return {"text": texts, "texttemplate": "%{text}", "textfont": {"size": 10}, "xgap": 1, "ygap": 1}


def _caption(counts: NDArray[np.int64], names: list[str], seeds: int) -> str:
    shares = _shares(counts)
    errors = _errors(shares)
    of = f"{seeds} seeds together" if seeds > 1 else "one seed"
    text = f"Rows sum to 100 %; {of}, {counts.sum():,} answers."
    if not errors.any():
        return f"{text} No image was taken for another class."
    true, predicted = np.unravel_index(int(errors.argmax()), errors.shape)
    return (
        f"{text} The most frequent error takes {100 * errors[true, predicted]:.2f} % of {plain(names[true], 30)} for "
        f"{plain(names[predicted], 30)}."
    )
