"""Rows of differences with their intervals, and rows of accuracies."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from analysis.arms import Look
from analysis.formatting import interval_pp, p_value, points
from analysis.formatting import percent as percent_text
from analysis.plots.style import GREY, INK, arm_name, new_figure, percent, shown
from analysis.statistics.stats import MIN_SEEDS, PairedDifference

__all__ = ["Comparison", "described", "few_seeds", "forest", "row_name", "strip", "two_lines"]


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the same seeds.

    Args:
        first: the arm that a positive difference speaks for.
        second: the arm that is subtracted.
        pairs: common seeds, by index.
        differences: fractions, one a pair.
        result: what they say.
        untuned: whether both ran at the published defaults.
    """

    first: str
    second: str
    pairs: tuple[int, ...]
    differences: tuple[float, ...]
    result: PairedDifference
    untuned: bool = False

    @property
    def title(self) -> str:
        """Plain text."""
        return f"{'untuned ' if self.untuned else ''}{arm_name(self.first)} - {arm_name(self.second)}"


def described(comparison: Comparison) -> str:
    """Say what a comparison found, without a verdict."""
    result = comparison.result
    text = f"{comparison.title}: {points(result.mean)} pp"
    if result.t_interval is not None:
        interval = result.t_interval
        side = "excludes" if interval.excludes(0.0) else "includes"
        text += f", 95 % t interval {interval_pp(interval)}, which {side} 0"
    return f"{text}; n {result.n}."


def few_seeds(found: Sequence[Comparison]) -> str:
    """Warn where there are too few seeds for a test to find anything."""
    least = min(comparison.result.n for comparison in found)
    if least >= MIN_SEEDS:
        return ""
    return f" With fewer than {MIN_SEEDS} seeds (here {least}) no exact test can come below 0.05."


def forest(
    key: str,
    found: Sequence[Comparison],
    looks: Mapping[str, Look],
    *,
    dots: bool,
    names: Sequence[str] | None = None,
) -> go.Figure:
    """Return a forest plot: a row a comparison, with the mean, both intervals and, if asked, each seed.

    Args:
        key: of the picture.
        found: rows, from top to bottom.
        looks: of the arms.
        dots: whether to draw each seed's difference.
        names: of the rows, neutralised; made of the arms where None.
    """
    labels = list(names) if names is not None else [row_name(comparison) for comparison in found]
    figure = new_figure(key, height=130 + 62 * len(found))
    for place, comparison in enumerate(found):
        if dots:
            _add_dots(figure, place, comparison, legend=place == 0)
        _add_intervals(figure, place, comparison, looks[comparison.first].colour, labels[place], legend=place == 0)
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    low, high = _extent(found, dots)
    figure.update_xaxes(title_text="difference (percentage points)", range=[low, high])
    figure.update_yaxes(
        title_text="comparison",
        tickmode="array",
        tickvals=list(range(len(found))),
        ticktext=labels,
        range=[len(found) - 0.45, -0.55],
        showgrid=False,
    )
    return figure


def _extent(found: Sequence[Comparison], dots: bool) -> tuple[float, float]:
    """Return limits, in percentage points, that hold everything and 0, a little widened."""
    values = [0.0]
    for comparison in found:
        values += [100 * value for value in (comparison.differences if dots else (comparison.result.mean,))]
        for interval in (comparison.result.t_interval, comparison.result.bca_interval):
            values += [100 * interval.low, 100 * interval.high] if interval else []
    room = 0.05 * (max(values) - min(values)) or 0.1
    return min(values) - room, max(values) + room


def two_lines(arm: str) -> str:
    """Return the name of an arm for a narrow axis, neutralised."""
    return shown(arm).replace(" ", "<br>", 1)


def row_name(comparison: Comparison) -> str:
    """Return the name of a row on two short lines, neutralised."""
    first = f"{'untuned ' if comparison.untuned else ''}{shown(comparison.first)}"
    return f"{first}<br>- {shown(comparison.second)}"


def _add_dots(figure: go.Figure, place: int, comparison: Comparison, *, legend: bool) -> None:
    """Add each seed's difference below the intervals; equal ones are stacked."""
    values = percent(comparison.differences)
    heights = [values[:i].count(value) for i, value in enumerate(values)]
    step = min(0.07, 0.26 / max(*heights, 1))
    figure.add_trace(
        go.Scatter(
            x=values,
            y=[place + 0.2 + step * height for height in heights],
            mode="markers",
            name="seed",
            legendgroup="seed",
            showlegend=legend,
            marker={"color": GREY, "size": 5, "opacity": 0.8},
            customdata=list(comparison.pairs),
            hovertemplate="seed %{customdata}: %{x:+.2f} pp<extra></extra>",
        )
    )


def _add_intervals(
    figure: go.Figure, place: int, comparison: Comparison, colour: str, label: str, *, legend: bool
) -> None:
    result = comparison.result
    for name, interval, offset, width in (
        ("95 % t", result.t_interval, -0.06, 3.5),
        ("95 % BCa", result.bca_interval, 0.07, 1.2),
    ):
        if interval is not None:
            figure.add_trace(
                go.Scatter(
                    x=percent([interval.low, interval.high]),
                    y=[place + offset] * 2,
                    mode="lines",
                    name=name,
                    legendgroup=name,
                    showlegend=legend,
                    line={"color": colour, "width": width},
                    hovertemplate=f"{label}<br>{name} interval: %{{x:+.2f}} pp<extra></extra>",
                )
            )
    figure.add_trace(
        go.Scatter(
            x=percent([result.mean]),
            y=[place - 0.06],
            mode="markers",
            name="mean",
            legendgroup="mean",
            showlegend=legend,
            marker={"color": colour, "symbol": "diamond", "size": 10, "line": {"color": "white", "width": 1}},
            customdata=[[result.n, p_value(result.p)]],
            hovertemplate=f"{label}<br>mean %{{x:+.2f}} pp, n %{{customdata[0]}}<br>"
            "sign-flip p %{customdata[1]}, not corrected<extra></extra>",
        )
    )


# --- A row an arm ----------------------------------------------------------------------------------------------------


def strip(
    key: str,
    values: dict[str, pd.Series],
    place_of: Callable[[Iterable[float]], list[float]],
    looks: Mapping[str, Look],
    *,
    chance: float | None = None,
    middle: Literal["mean", "median"] = "mean",
    noun: str = "seed",
) -> go.Figure:
    """Return one row of points an arm, with a bar in their middle; the x axis is the caller's.

    Args:
        key: of the picture.
        values: fractions by pair, by arm, from top to bottom.
        place_of: where fractions lie on the x axis.
        looks: of the arms.
        chance: accuracy of guessing, to draw a line at.
        middle: what the bar marks.
        noun: what a pair is.
    """
    figure = new_figure(key, height=100 + 46 * len(values))
    if chance is not None:
        figure.add_trace(
            go.Scatter(
                x=place_of([chance, chance]),
                y=[-0.5, len(values) - 0.5],
                mode="lines",
                name="chance",
                line={"color": GREY, "width": 1.5, "dash": "dot"},
                hovertemplate=f"chance, {percent_text(chance)}<extra></extra>",
            )
        )
    for row, (arm, series) in enumerate(values.items()):
        style = looks[arm]
        figure.add_trace(
            go.Scatter(
                x=place_of(series),
                y=[row + 0.28 * (((7 * i) % 5) / 4 - 0.5) for i in range(len(series))],
                mode="markers",
                name=shown(arm),
                marker={"color": style.colour, "symbol": style.symbol, "size": 7, "opacity": 0.75},
                customdata=list(zip(map(int, series.index), map(percent_text, series), strict=True)),
                hovertemplate=f"{noun} %{{customdata[0]}}: %{{customdata[1]}}",
            )
        )
        centre = float(series.agg(middle))
        figure.add_trace(
            go.Scatter(
                x=place_of([centre, centre]),
                y=[row - 0.32, row + 0.32],
                mode="lines",
                name=f"{shown(arm)}, {middle}",
                line={"color": style.colour, "width": 3},
                hovertemplate=f"{middle} {percent_text(centre)}<extra></extra>",
            )
        )
    figure.update_yaxes(
        title_text="arm",
        tickmode="array",
        tickvals=list(range(len(values))),
        ticktext=[two_lines(arm) for arm in values],
        range=[len(values) - 0.45, -0.55],
        showgrid=False,
    )
    figure.update_layout(showlegend=False)
    return figure
