"""Test accuracies of paired seeds, and the intervals of their differences."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.arms import Kind, Look
from analysis.findings import Findings
from analysis.formatting import listed
from analysis.loading import Run
from analysis.plots.forest import Comparison, described, few_seeds, forest
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, named
from analysis.plots.style import arm_name, new_figure, percent, shown
from analysis.plots.tables import verdict_table
from analysis.statistics.claims import CLAIMED, PUBLISHED
from analysis.statistics.stats import paired_difference

__all__ = [
    "build_paired",
    "comparisons",
    "failures",
    "nothing_tested",
    "pair_lines",
    "paired_differences",
    "untuned_comparison",
]


def build_paired(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    sheet = collect(all_found, pair_lines, paired_differences)
    table = verdict_table(named(all_found), "primary", "baseline")
    return replace(sheet, tables=(table,) if table else ())


def comparisons(found: Findings, *kinds: Kind) -> list[Comparison]:
    """Return the comparisons of the verdict, of some kinds, as far as there are common seeds."""
    return [
        Comparison(v.first, v.second, v.pairs, v.differences, v.result)
        for v in found.verdicts
        if v.kind in kinds and v.result is not None
    ]


def untuned_comparison(run: Run) -> list[Comparison]:
    """Return AdaLoss against ArcFace at the published defaults, as a list of one or none."""
    sides = [run.seed_runs_of("untuned", arm)[["pair", "seed", "accuracy"]] for arm in CLAIMED]
    both = sides[0].merge(sides[1], on=["pair", "seed"], suffixes=("_a", "_b"))
    if both.empty:
        return []
    differences = tuple(float(value) for value in both["accuracy_a"] - both["accuracy_b"])
    pairs = tuple(int(pair) for pair in both["pair"])
    return [Comparison(*CLAIMED, pairs, differences, paired_difference(differences), untuned=True)]


# --- Accuracies ------------------------------------------------------------------------------------------------------


def pair_lines(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the test accuracies of each loss, a line for each seed; one picture tuned, one untuned."""
    run = named_run.run
    for role, name in (("winner", "tuned"), ("untuned", "untuned, at published defaults")):
        arms = run.arms(role)
        title = f"Test accuracies on {named_run.label}, {name}"
        if not arms:
            left_out = role == "untuned" and not _runs_untuned(run)
            yield f"{title}: {'not run; --controls asks for it.' if left_out else nothing_tested(run)}"
            continue
        key = f"pairs-{named_run.slug}-{role}"
        figure = new_figure(key, height=400)
        table = pd.DataFrame({arm: run.accuracies(role, arm) for arm in arms})
        _add_seed_lines(figure, table)
        for place, arm in enumerate(arms):
            _add_arm(figure, place, arm, named_run.look(arm), table[arm].dropna())
        figure.update_xaxes(
            title_text="loss",
            tickmode="array",
            tickvals=list(range(len(arms))),
            ticktext=[shown(arm) for arm in arms],
            range=[-0.5, len(arms) - 0.5],
            showgrid=False,
        )
        figure.update_yaxes(title_text="test accuracy (%)")
        figure.update_layout(showlegend=False)
        means = "; ".join(f"{arm_name(arm)} {100 * table[arm].mean():.2f} %" for arm in arms)
        failed = failures(run, role, arms)
        lines = "A line joins the results of one seed; bars are means" if len(arms) > 1 else "The bar is the mean"
        yield Picture(key, title, f"{lines}: {means}.{failed}", figure)


def _runs_untuned(run: Run) -> bool:
    """Return whether the confirmation runs the published defaults, or there is none."""
    return run.confirmation is None or bool(run.confirmation.get("controls")) or run.dataset in PUBLISHED


def nothing_tested(run: Run) -> str:
    """Say why there is no test accuracy."""
    if run.confirmation is None:
        return "the run has no confirmation, so the test split was not read."
    return "no seed of the confirmation has come to its end yet."


def failures(run: Run, role: str, arms: Sequence[str]) -> str:
    """Return a sentence on runs that failed, or nothing."""
    counts = {arm: int(run.seed_runs_of(role, arm)["failed"].sum()) for arm in arms}
    failed = [f"{arm_name(arm)} {count}" for arm, count in counts.items() if count]
    return f" Failed runs, counted at chance: {listed(failed)}." if failed else ""


def _add_seed_lines(figure: go.Figure, table: pd.DataFrame) -> None:
    if len(table.columns) < 2:
        return
    x: list[float | None] = []
    y: list[float | None] = []
    for _, row in table.iterrows():
        x += [*range(len(row)), None]
        y += [*(None if np.isnan(value) else round(100 * value, 4) for value in row), None]
    line = {"color": "rgba(0,0,0,0.22)", "width": 1}
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="seeds"))


def _add_arm(figure: go.Figure, place: int, arm: str, style: Look, values: pd.Series) -> None:
    mean = round(100 * float(values.mean()), 4)
    figure.add_trace(
        go.Scatter(
            x=[place] * len(values),
            y=percent(values),
            mode="markers",
            name=shown(arm),
            marker={"color": style.colour, "symbol": style.symbol, "size": 8, "opacity": 0.85},
            customdata=[int(pair) for pair in values.index],
            hovertemplate="seed %{customdata}: %{y:.2f} %",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[place - 0.18, place + 0.18],
            y=[mean, mean],
            mode="lines",
            name=f"{shown(arm)}, mean of {len(values)}",
            line={"color": style.colour, "width": 3},
            hovertemplate="mean %{y:.2f} %",
        )
    )


# --- Differences -----------------------------------------------------------------------------------------------------


def paired_differences(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the differences of each seed, their mean and its intervals."""
    run, key = named_run.run, f"differences-{named_run.slug}"
    title = f"Differences of paired seeds on {named_run.label}"
    found = comparisons(named_run.found, "primary", "baseline") + untuned_comparison(run)
    if not found:
        reason = nothing_tested(run) if not run.arms("winner") else "no two losses have a seed in common yet."
        yield f"{title}: {reason}"
        return
    figure = forest(key, found, named_run.looks, dots=True)
    yield Picture(key, title, f"{described(found[0])}{few_seeds(found)}", figure)
