"""Margins: what the feedback makes of them, beside the accuracy."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.arms import BASELINES
from analysis.findings import Findings
from analysis.loading import Run
from analysis.plots.bands import SeedCurves, add_band, curves_of_role, curves_of_trial
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, plain, slug
from analysis.plots.style import GREY, arm_name, new_figure, safe, shown

__all__ = [
    "BAR_PX",
    "bar",
    "build_margins",
    "class_labels",
    "class_margins",
    "class_names",
    "class_ticks",
    "margin_trajectories",
]

BAR_PX = 58  # height of a colour bar with its title


def build_margins(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, margin_trajectories, class_margins)


def _curves(run: Run, loss: str) -> SeedCurves | None:
    """Return the curves with the most seeds: the winner's, else the candidate's, else the best trial's."""
    for role in ("winner", "candidate"):
        curves = curves_of_role(run, role, loss)
        if curves is not None and curves.has("margin_rad"):
            return curves
    curves = curves_of_trial(run, loss)
    return curves if curves is not None and curves.has("margin_rad") else None


def _moves(curves: SeedCurves) -> bool:
    """Return whether the margin changes in training; a fixed one may differ by rounding."""
    return bool((curves.epochs.groupby("run")["margin_rad"].agg(np.ptp) > 1e-6).any())


def margin_trajectories(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw margin, applied and raw, above the accuracy; a picture for each loss whose margin moves."""
    run = named_run.run
    found = {loss: _curves(run, loss) for loss in run.losses}
    curves = {loss: curve for loss, curve in found.items() if curve is not None}
    moving = {loss: curve for loss, curve in curves.items() if _moves(curve)}
    if not moving:
        yield f"Margins on {named_run.label}: no loss with a margin that moves has recorded an epoch."
    for loss, curve in moving.items():
        key = slug("margins", named_run.slug, loss)
        rows = 2 if curve.has("train_accuracy") or curve.has("val_accuracy") else 1
        figure = new_figure(key, height=110 + 205 * rows, rows=rows, shared=True)
        colour, tops = named_run.look(loss).colour, []
        add_band(figure, curve, "margin_rad", name="applied margin", colour=colour, unit=" rad", width=2.4)
        if curve.has("margin_raw_rad"):
            add_band(
                figure, curve, "margin_raw_rad", name="raw margin", colour=colour, unit=" rad", dash="dot", width=1.6
            )
            tops.append(curve.range("margin_raw_rad")["max"].max())
        if run.reference in curves and run.reference not in {*moving, *BASELINES}:
            tops.append(_add_fixed(figure, named_run, curves[run.reference], curve.last_epoch()))
        _add_accuracies(figure, curve, colour)
        tops.append(curve.range("margin_rad")["max"].max())
        figure.update_yaxes(title_text="margin (rad)", range=[0, 1.08 * max(*tops, 0.01)], row=1)
        if rows == 2:
            figure.update_yaxes(title_text="accuracy (%)", row=2)
        figure.update_xaxes(title_text="epoch", row=rows)
        yield Picture(
            key, f"{arm_name(loss)} on {named_run.label}: margin and accuracy", _caption(curve), figure, arm=loss
        )


def _add_fixed(figure: go.Figure, named_run: NamedRun, curves: SeedCurves, last: int) -> float:
    """Add the reference's tuned margin, which is fixed, as a line to compare with; return it."""
    margin = float(curves.epochs["margin_rad"].dropna().iloc[0])
    style = named_run.look(named_run.run.reference)
    figure.add_trace(
        go.Scatter(
            x=[1, last] if last > 1 else [1],
            y=[round(margin, 6)] * (2 if last > 1 else 1),
            mode="lines" if last > 1 else "markers",
            line={"color": style.colour, "dash": "dash", "width": 1.4},
            marker={"color": style.colour},
            name=f"{shown(named_run.run.reference)}, fixed",
            hovertemplate="%{y:.4~g} rad",
        ),
        row=1,
        col=1,
    )
    return margin


def _add_accuracies(figure: go.Figure, curve: SeedCurves, colour: str) -> None:
    for field, name, dash, shade in (
        ("train_accuracy", "training accuracy", "dash", GREY),
        ("val_accuracy", "validation accuracy", "solid", colour),
    ):
        if curve.has(field):
            add_band(
                figure, curve, field, name=name, colour=shade, unit=" %", dash=dash, width=1.8, row=2, in_percent=True
            )


def _caption(curve: SeedCurves) -> str:
    applied = curve.range("margin_rad")["mean"]
    source = {
        "winner": f"Winner on {_seeds(curve)}, trained on training and validation images",
        "candidate": f"Winner on {_seeds(curve)}",
        "trial": "The best trial of the search, a single run",
    }[curve.source]
    band = " (lines: means, bands: lowest to highest)" if curve.seeds > 1 else ""
    is_gated = curve.has("margin_raw_rad") and curve.has("competence")
    gate = " The applied margin is the raw one times the competence." if is_gated else ""
    return (
        f"{source}{band}: the applied margin goes from {applied.iloc[0]:.3f} rad in epoch {applied.index[0]} to "
        f"{applied.iloc[-1]:.3f} rad in epoch {applied.index[-1]}, mean {applied.mean():.3f} rad.{gate}"
    )


def _seeds(curve: SeedCurves) -> str:
    return f"{curve.seeds} seeds" if curve.seeds > 1 else "one seed"


# --- Per class -------------------------------------------------------------------------------------------------------


def class_margins(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the applied margin of each class by epoch, as a map; for losses with one margin a class."""
    run = named_run.run
    for loss in run.losses:
        curves = _curves(run, loss)
        if curves is None or not curves.has("margin_per_class_rad"):
            continue
        title = f"{arm_name(loss)} on {named_run.label}: margin of each class"
        margins = _by_class(curves)
        if margins is None:
            yield f"{title}: the records disagree on the number of classes."
            continue
        key = slug("class-margins", named_run.slug, loss)
        names = class_names(run, margins.shape[0])
        figure = new_figure(key, height=120 + max(240, min(22 * len(names), 900)))
        epochs = [int(epoch) for epoch in margins.columns]
        figure.add_trace(
            go.Heatmap(
                x=epochs,
                y=class_labels(names),
                z=np.round(margins.to_numpy(), 4).tolist(),
                colorscale="Cividis",
                colorbar=bar("margin (rad)"),
                hovertemplate="%{y}, epoch %{x}: %{z:.3f} rad<extra></extra>",
            )
        )
        figure.update_layout(margin_t=BAR_PX)
        figure.update_xaxes(title_text="epoch", showgrid=False)
        figure.update_yaxes(
            title_text="class", type="category", showgrid=False, autorange="reversed", **class_ticks(names)
        )
        last = margins.iloc[:, -1]
        mean = f", mean of {curves.seeds} seeds" if curves.seeds > 1 else ""
        yield Picture(
            key,
            title,
            f"Applied margin{mean}. In the last epoch the smallest is {last.min():.3f} rad "
            f"({plain(names[int(last.argmin())], 30)}) and the largest {last.max():.3f} rad "
            f"({plain(names[int(last.argmax())], 30)}).",
            figure,
            arm=loss,
        )


def _by_class(curves: SeedCurves) -> pd.DataFrame | None:
    """Return the margins, classes by epochs, means over seeds; None where the lists have different lengths."""
    known = curves.epochs.dropna(subset=["margin_per_class_rad"])
    lengths = {len(values) for values in known["margin_per_class_rad"]}
    if len(lengths) != 1 or lengths == {0}:
        return None
    counts = known.groupby("epoch")["run"].nunique()
    whole = counts.index[counts == counts.max()]
    means = {
        epoch: np.mean([np.asarray(values, dtype=float) for values in group["margin_per_class_rad"]], axis=0)
        for epoch, group in known[known["epoch"].isin(whole)].groupby("epoch")
    }
    return pd.DataFrame(means)


def class_names(run: Run, count: int) -> list[str]:
    """Return the names of the classes, numbers where the run does not name so many."""
    names = run.info["dataset"].get("classes") or []
    return [str(name) for name in names] if len(names) == count else [str(number) for number in range(count)]


def class_labels(names: list[str]) -> list[str]:
    """Return names for an axis of categories, neutralised; plotly takes no two of them for the same."""
    labels = [safe(name) for name in names]
    return [label if labels.index(label) == i else f"{label} ({i})" for i, label in enumerate(labels)]


def class_ticks(names: list[str]) -> dict[str, object]:
    """Return axis options that name the classes, every so many of them where they are many."""
    step = max(1, -(-len(names) // 25))
    chosen = list(range(0, len(names), step))
    return {
        "tickmode": "array",
        "tickvals": chosen,
        "ticktext": [safe(names[i], 14) for i in chosen],
        "tickfont": {"size": 11},
    }


def bar(title: str) -> dict[str, object]:
    """Return a colour bar for the top margin of BAR_PX, where it fits narrow columns."""
    return {
        "title": {"text": title, "side": "bottom", "font": {"size": 12}},
        "orientation": "h",
        "x": 0.5,
        "xanchor": "center",
        "yref": "container",
        "y": 0.995,
        "yanchor": "top",
        "len": 0.9,
        "thickness": 10,
        "tickfont": {"size": 11},
        "outlinewidth": 0,
    }
