"""Robustness: how good a loss is when nobody tunes it well."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from statsmodels.stats.proportion import proportion_confint

from analysis.findings import Findings
from analysis.loading import Run
from analysis.plots.bands import validation_images
from analysis.plots.forest import strip, two_lines
from analysis.plots.paired import failures
from analysis.plots.picture import NamedRun, Picture, Sheet, collect
from analysis.plots.style import accuracy_axis, arm_name, errors, new_figure, percent, shown, tint
from analysis.statistics.robustness import collapse_bound
from analysis.statistics.stats import ExpectedMaximum, expected_maximum

__all__ = ["build_robustness", "collapse_shares", "draw_accuracies", "expected_maxima"]


def build_robustness(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, draw_accuracies, collapse_shares, expected_maxima)


def _draws(run: Run) -> dict[str, pd.Series]:
    return {arm: run.accuracies("robustness", arm) for arm in run.arms("robustness")}


def _why_not(run: Run) -> str:
    if run.confirmation is None:
        return "the run has no confirmation."
    if not run.confirmation.get("robustness"):
        return "the confirmation was not asked for random draws."
    return "no random draw has come to its end yet."


def draw_accuracies(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the accuracies of random configurations, a row an arm."""
    run, key = named_run.run, f"draws-{named_run.slug}"
    title = f"Accuracies of random configurations on {named_run.label}"
    draws = _draws(run)
    if not draws:
        yield f"{title}: {_why_not(run)}"
        return
    medians = "; ".join(f"{arm_name(arm)} {100 * float(values.median()):.2f} %" for arm, values in draws.items())
    images = validation_images(run)

    def place_of(accuracies: Iterable[float]) -> list[float]:
        return errors(accuracies, images)

    figure = strip(key, draws, place_of, named_run.looks, chance=run.chance, middle="median", noun="draw")
    drawn = [error for trace in figure.data for error in trace.x]
    figure.update_xaxes(accuracy_axis("validation accuracy (%)", drawn, images))
    yield Picture(
        key,
        title,
        f"One point a draw, on a scale of the errors; bars are medians: {medians}. Dotted: chance, "
        f"{100 * run.chance:.1f} %."
        f"{failures(run, 'robustness', list(draws))}",
        figure,
    )


def collapse_shares(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the share of draws that ended near chance, with its interval."""
    run, key = named_run.run, f"collapsed-{named_run.slug}"
    draws = _draws(run)
    if not draws:
        return  # said once on this page
    bound = collapse_bound(run.chance)
    figure = new_figure(key, height=110 + 46 * len(draws))
    parts = []
    for place, (arm, values) in enumerate(draws.items()):
        hits, n = int((values <= bound).sum()), len(values)
        low, high = proportion_confint(hits, n, method="wilson")
        style = named_run.look(arm)
        figure.add_trace(
            go.Scatter(
                x=percent([hits / n]),
                y=[place],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": percent([max(high - hits / n, 0.0)]),
                    "arrayminus": percent([max(hits / n - low, 0.0)]),
                    "thickness": 2,
                    "width": 5,
                },
                mode="markers",
                name=shown(arm),
                marker={
                    "color": style.colour,
                    "symbol": style.symbol,
                    "size": 10,
                    "line": {"width": 2, "color": style.colour},
                },
                hovertemplate=f"{hits} of {n} draws: %{{x:.0f}} %, interval {100 * low:.0f} to {100 * high:.0f} %",
            )
        )
        parts.append(f"{arm_name(arm)} {hits} of {n}")
    figure.update_xaxes(title_text="draws that collapsed (%)", range=[-3, 103])
    figure.update_yaxes(
        title_text="arm",
        tickmode="array",
        tickvals=list(range(len(draws))),
        ticktext=[two_lines(arm) for arm in draws],
        range=[len(draws) - 0.45, -0.55],
        showgrid=False,
    )
    figure.update_layout(showlegend=False)
    yield Picture(
        key,
        f"Draws that collapsed on {named_run.label}",
        f"Draws that end at {100 * bound:.1f} % or below, chance being {100 * run.chance:.1f} %: {'; '.join(parts)}. "
        "Bars: 95 % Wilson intervals.",
        figure,
    )


def expected_maxima(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the expected best of k draws against k."""
    run, key = named_run.run, f"expected-maximum-{named_run.slug}"
    draws = {arm: values for arm, values in _draws(run).items() if len(values) > 1}
    if not draws:
        if _draws(run):
            yield f"Expected best of k draws on {named_run.label}: needs two draws of a loss."
        return
    figure = new_figure(key, height=400)
    singles, lasts = [], []
    for arm, values in draws.items():
        found = expected_maximum(values.to_numpy(), draws=range(1, len(values) + 1))
        style = named_run.look(arm)
        _add_interval(figure, arm, style.colour, found)
        figure.add_trace(
            go.Scatter(
                x=list(found.draws),
                y=percent(found.values),
                mode="lines",
                name=shown(arm),
                legendgroup=arm,
                line={"color": style.colour, "width": 2.4, "dash": style.dash},
                hovertemplate="best of %{x}: %{y:.2f} % expected",
            )
        )
        singles.append(f"{arm_name(arm)} {100 * found.values[0]:.2f} %")
        lasts.append(f"{arm_name(arm)} {100 * found.values[-1]:.2f} %")
    most = max(len(values) for values in draws.values())
    figure.update_xaxes(title_text="random draws tried (k)", type="log", **_draw_ticks(most))
    figure.update_yaxes(title_text="expected best val. accuracy (%)")
    banded = any(trace.fill == "toself" for trace in figure.data)
    bands = " Bands: 95 % bootstrap, point by point, as far as so few draws allow." if banded else ""
    yield Picture(
        key,
        f"Expected best of k random configurations on {named_run.label}",
        f"One draw gives on average: {'; '.join(singles)}. The best of all: {'; '.join(lasts)}.{bands}",
        figure,
    )


def _add_interval(figure: go.Figure, arm: str, colour: str, found: ExpectedMaximum) -> None:
    """Add the band, as far as there is an honest one; a single k has no width to draw."""
    banded = [(k, band) for k, band in zip(found.draws, found.bands, strict=True) if band is not None]
    if len(banded) < 2:
        return
    counts = [k for k, _ in banded]
    figure.add_trace(
        go.Scatter(
            x=[*counts, *reversed(counts)],
            y=percent([*(band.high for _, band in banded), *(band.low for _, band in reversed(banded))]),
            mode="lines",
            fill="toself",
            fillcolor=tint(colour, 0.12),
            line={"width": 0, "color": colour},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=arm,
            name=f"{shown(arm)}, interval",
        )
    )


def _draw_ticks(most: int) -> dict[str, object]:
    ticks = [2**e for e in range(most.bit_length()) if 2**e <= most]
    return {"tickmode": "array", "tickvals": ticks, "range": [-0.03, float(np.log10(most)) + 0.03]}
