"""The pictures of a study's results: five, each with all data sets, made of the pages' own pictures."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.findings import Findings
from analysis.plots.confusion import confusion_matrices
from analysis.plots.curves import comparison_curves
from analysis.plots.embeddings import angle_histograms
from analysis.plots.margins import margin_trajectories
from analysis.plots.picture import NamedRun, Picture, named
from analysis.plots.style import INK, accuracy_axis, errors, new_figure, safe, shown, tint
from analysis.statistics.claims import CLAIMED, PUBLISHED

__all__ = ["WIDTH_PX", "fingerprint", "result_pictures"]

WIDTH_PX = 700
_MOST_POINTS = 240  # of a line of single steps


def result_pictures(runs: Sequence[tuple[str, Findings]]) -> list[Picture]:
    """Return the pictures that can be drawn: accuracies, margins, learning curves, angles and confusion.

    Args:
        runs: the title of each data set and what is compared on it.
    """
    named_runs = [(title, run) for (title, _), run in zip(runs, named([found for _, found in runs]), strict=True)]
    makers: tuple[Callable[[list[tuple[str, NamedRun]]], Picture | None], ...]
    makers = (_accuracies, _margins, _curves, _angles, _confusion)
    return [picture for make in makers if (picture := make(named_runs))]


def fingerprint(figure: go.Figure) -> str:
    """Return a hash of what a figure shows, whatever it looks like: the numbers and texts of its traces."""
    shown_parts = ("type", "name", "x", "y", "z", "text")
    traces = [
        {key: value for key, value in trace.to_plotly_json().items() if key in shown_parts} for trace in figure.data
    ]
    return hashlib.sha256(json.dumps(traces, default=list, sort_keys=True).encode()).hexdigest()


# --- Accuracies ------------------------------------------------------------------------------------------------------


def _accuracies(runs: list[tuple[str, NamedRun]]) -> Picture | None:
    """Draw the test accuracy of each seed, tuned and at the published defaults, and what was published."""
    arms = [("winner", loss) for loss in _losses(runs, "winner")] + [("untuned", a) for a in _losses(runs, "untuned")]
    if not arms:
        return None
    figure = new_figure("results-accuracy", height=96 + 36 * len(arms), columns=len(runs))
    drawn: set[str] = set()
    for column, (title, run) in enumerate(runs, start=1):
        ends = []
        for row, (role, arm) in enumerate(arms):
            for trace in _arm_traces(run, role, arm, row):
                trace.showlegend = trace.name not in drawn
                drawn.add(trace.name)
                ends += list(trace.x)
                figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(accuracy_axis(f"{safe(title)}: test accuracy (%)", ends, None), row=1, col=column)
        figure.update_yaxes(range=[len(arms) - 0.4, -0.6], showticklabels=False, showgrid=False, row=1, col=column)
    names = [f"{shown(arm)}{', defaults' if role == 'untuned' else ''}" for role, arm in arms]
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(arms))), ticktext=names, showticklabels=True, row=1, col=1
    )
    caption = (
        "Test accuracy on a scale of errors: a point a seed, bars are means; crosses are the published accuracies of "
        "single untuned runs."
    )
    return Picture("results-accuracy", "Test accuracy", caption, figure)


def _losses(runs: list[tuple[str, NamedRun]], role: str) -> list[str]:
    return list(dict.fromkeys(arm for _, run in runs for arm in run.run.arms(role)))


def _arm_traces(run: NamedRun, role: str, arm: str, row: int) -> Iterator[go.Scatter]:
    """Yield the seeds, their mean, and what was published of untuned runs; x has errors, see accuracy_axis."""
    values = run.run.accuracies(role, arm)
    if values.empty:
        return
    look, images = run.look(arm), None
    heights = [row + 0.3 * (((7 * i) % 5) / 4 - 0.5) for i in range(len(values))]
    marker = {"color": look.colour, "symbol": look.symbol, "size": 6, "opacity": 0.8}
    yield go.Scatter(x=errors(values, images), y=heights, mode="markers", name="seed", marker=marker)
    mean = errors([float(values.mean())], images)
    line = {"color": look.colour, "width": 3}
    yield go.Scatter(x=mean * 2, y=[row - 0.32, row + 0.32], mode="lines", name="mean", line=line)
    published = PUBLISHED.get(run.run.dataset, {}).get(arm)
    if published is not None and (role == "untuned" or arm not in run.run.arms("untuned")):
        yield go.Scatter(
            x=errors([published], images),
            y=[row],
            mode="markers",
            name="published",
            marker={"color": INK, "symbol": "x", "size": 9},
        )


# --- What the pages draw, side by side -------------------------------------------------------------------------------


def _put(figure: go.Figure, part: go.Figure, rows: Sequence[int], *, row: int, column: int, legend: set[str]) -> None:
    """Draw rows of a page's picture into a panel each, from `row` down; names that are in the legend stay out of it."""
    for offset, source in enumerate(rows):
        suffix = "" if source == 1 else str(source)
        for trace in part.data:
            if (trace.yaxis or "y") == f"y{suffix}":
                copy = go.Figure(trace).data[0]
                copy.update(xaxis=None, yaxis=None)
                wanted = trace.showlegend is not False and trace.name and trace.name not in legend
                copy.showlegend = bool(wanted)
                if wanted:
                    legend.add(trace.name)
                figure.add_trace(copy, row=row + offset, col=column)
        for axis, update in (("xaxis", figure.update_xaxes), ("yaxis", figure.update_yaxes)):
            options = part.layout[f"{axis}{suffix}"].to_plotly_json()
            kept = {key: value for key, value in options.items() if key not in {"anchor", "domain", "matches"}}
            update(kept, row=row + offset, col=column)


def _curves(runs: list[tuple[str, NamedRun]]) -> Picture | None:
    """Draw the validation accuracy by epoch, whole and enlarged at the end, a column a data set."""
    parts = [(title, _first(comparison_curves(run))) for title, run in runs]
    drawn = [(title, part) for title, part in parts if part]
    if not drawn:
        return None
    figure, legend = new_figure("results-curves", height=470, rows=2, columns=len(drawn), gap=0.16), set[str]()
    for column, (title, part) in enumerate(drawn, start=1):
        _put(figure, part.figure, (1, 2), row=1, column=column, legend=legend)
        figure.update_xaxes(title_text=f"{safe(title)}: epoch", row=1, col=column)
        figure.update_xaxes(title_text=f"{safe(title)}: last epochs", row=2, col=column)
    figure.update_yaxes(title_text="")
    figure.update_yaxes(title_text="val. accuracy (%)", col=1)
    caption = "Validation accuracy of the chosen configurations by epoch; bands: from the lowest to the highest seed."
    return Picture("results-curves", "Learning curves", caption, figure)


def _first(parts: Iterator[Picture | str], arm: str = "") -> Picture | None:
    return next((part for part in parts if isinstance(part, Picture) and arm in ("", part.arm)), None)


def _margins(runs: list[tuple[str, NamedRun]]) -> Picture | None:
    """Draw the margins that move, a row a loss and a column a data set, step by step where steps are on record."""
    parts = [[part for part in margin_trajectories(run) if isinstance(part, Picture)] for _, run in runs]
    losses = list(dict.fromkeys(part.arm for found in parts for part in found))
    if not losses:
        return None
    height, gap = 90 + 190 * len(losses), 0.32 / max(len(losses), 1)
    figure = new_figure("results-margins", height=height, rows=len(losses), columns=len(runs), gap=gap)
    legend: set[str] = set()
    for column, ((title, run), found) in enumerate(zip(runs, parts, strict=True), start=1):
        for part in found:
            row = losses.index(part.arm) + 1
            for trace in _steps(run, part.arm):
                figure.add_trace(trace, row=row, col=column)
            _put(figure, part.figure, (1,), row=row, column=column, legend=legend)
            figure.update_xaxes(title_text=f"{safe(title)}: epoch", showticklabels=True, row=row, col=column)
            figure.update_yaxes(title_text=f"{shown(part.arm)} (rad)" if column == 1 else "", row=row, col=column)
    caption = (
        "Margins over the paired seeds. Thick: applied, mean by epoch; thin: single seeds by step, where steps "
        "are on record; dotted: before the competence gate; dashed: the tuned ArcFace."
    )
    return Picture("results-margins", "Margins", caption, figure)


def _steps(run: NamedRun, loss: str) -> Iterator[go.Scatter]:
    """Yield the applied margin of each seed by training step, thinned; nothing where it was not traced."""
    epochs = run.run.seed_epochs
    if "margin_steps_rad" not in epochs:
        return
    for run_id in run.run.seed_runs_of("winner", loss)["run_id"]:
        own = epochs[(epochs["run_id"] == run_id) & epochs["margin_steps_rad"].notna()].sort_values("epoch")
        if own.empty:
            continue
        by_epoch = list(zip(own["epoch"], own["margin_steps_rad"], strict=True))
        # An epoch's mean is drawn at its number, so its steps lie around that.
        x = np.concatenate([epoch - 0.5 + (np.arange(len(steps)) + 0.5) / len(steps) for epoch, steps in by_epoch])
        y = np.concatenate([np.asarray(steps, dtype=float) for _, steps in by_epoch])
        chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
        yield go.Scatter(
            x=[round(float(value), 4) for value in x[chosen]],
            y=[round(float(value), 5) for value in y[chosen]],
            mode="lines",
            name="a seed, by step",
            showlegend=False,
            line={"color": tint(run.look(loss).colour, 0.35), "width": 0.8},
        )


def _angles(runs: list[tuple[str, NamedRun]]) -> Picture | None:
    """Draw the angles before and after training, two rows a data set, a column a loss of the claim."""
    grid = _grid(runs, angle_histograms)
    if not grid:
        return None
    gap = 0.1 if len(grid) > 1 else 0.12
    figure = new_figure("results-angles", height=60 + 320 * len(grid), rows=2 * len(grid), columns=2, gap=gap)
    legend: set[str] = set()
    for place, (title, parts) in enumerate(grid):
        for column, part in parts.items():
            _put(figure, part.figure, (1, 2), row=2 * place + 1, column=column, legend=legend)
            name = f"{safe(title)}, {shown(part.arm)}"
            figure.update_xaxes(title_text="", showticklabels=False, row=2 * place + 1, col=column)
            figure.update_xaxes(title_text=f"{name}: angle (rad)", showticklabels=True, row=2 * place + 2, col=column)
        figure.update_yaxes(title_text="", col=2)
    caption = (
        "Angles of test images to the centre of their own class (in colour) and to the nearest other one (grey), "
        "before and after training, all seeds together."
    )
    return Picture("results-angles", "Angles", caption, figure)


def _grid(
    runs: list[tuple[str, NamedRun]], make: Callable[[NamedRun], Iterator[Picture | str]]
) -> list[tuple[str, dict[int, Picture]]]:
    """Return the pictures of the two losses of the claim, ArcFace in column 1, for each data set that has any."""
    grid = []
    for title, run in runs:
        found = {part.arm: part for part in make(run) if isinstance(part, Picture)}
        columns = {column: found[arm] for column, arm in enumerate(reversed(CLAIMED), start=1) if arm in found}
        if columns:
            grid.append((title, columns))
    return grid


def _confusion(runs: list[tuple[str, NamedRun]]) -> Picture | None:
    """Draw the confusion matrices, a row a data set, a column a loss of the claim."""
    grid = _grid(runs, confusion_matrices)
    if not grid:
        return None
    figure = new_figure("results-confusion", height=50 + 370 * len(grid), rows=len(grid), columns=2, gap=0.14)
    for row, (title, parts) in enumerate(grid, start=1):
        for column, part in parts.items():
            _put(figure, part.figure, (1,), row=row, column=column, legend={""})
            figure.update_xaxes(
                title_text=f"{safe(title)}, {shown(part.arm)}: predicted", tickfont={"size": 10}, row=row, col=column
            )
            title_text = "true class" if column == 1 else ""
            figure.update_yaxes(title_text=title_text, tickfont={"size": 10}, row=row, col=column)
    figure.update_traces(showscale=False, showlegend=False, textfont={"size": 9})
    caption = (
        "Predicted class of the test images in % of the true class, all seeds together; the bluer, the more errors."
    )
    return Picture("results-confusion", "Confusion", caption, figure)
