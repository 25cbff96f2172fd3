"""Learning curves of the best configuration of each loss, one by one and side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go

from analysis.findings import Findings
from analysis.loading import Run
from analysis.plots.bands import SeedCurves, add_band, curves_of_role, curves_of_trial
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, named, slug
from analysis.plots.style import GREY, INK, arm_name, log_ticks, new_figure, percent, shown
from analysis.plots.tables import speed_table
from analysis.trials import TrialDetail

__all__ = ["build_curves", "comparison_curves", "loss_curves", "trial_curve"]


def build_curves(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    table = speed_table(named(all_found))
    return replace(collect(all_found, loss_curves, comparison_curves), tables=(table,) if table else ())


def validated_curves(run: Run, loss: str) -> SeedCurves | None:
    """Return the curves of a loss's winner as a candidate, which are judged on validation; else the best trial's."""
    curves = curves_of_role(run, "candidate", loss)
    if curves is not None and curves.has("val_accuracy"):
        return curves
    return curves_of_trial(run, loss)


def loss_curves(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw accuracy and loss by epoch, a picture for each loss."""
    run = named_run.run
    for loss in run.losses:
        curves = validated_curves(run, loss) or curves_of_role(run, "winner", loss)
        title = f"{arm_name(loss)} on {named_run.label}: accuracy and loss by epoch"
        if curves is None:
            yield f"{title}: no epoch has been recorded yet."
            continue
        panels = [what for what in ("accuracy", "loss") if curves.has(f"train_{what}") or curves.has(f"val_{what}")]
        if "accuracy" not in panels:
            yield f"{title}: no accuracy has been measured."
            continue
        key = slug("curves", named_run.slug, loss)
        figure = new_figure(key, height=130 + 195 * len(panels), rows=len(panels), shared=True)
        _add_pair(figure, curves, named_run.look(loss).colour, "accuracy", row=1)
        tested = _add_test(figure, run, loss)
        figure.update_yaxes(title_text="accuracy (%)", row=1)
        if "loss" in panels:
            _add_pair(figure, curves, named_run.look(loss).colour, "loss", row=2)
            _scale_losses(figure)
        figure.update_xaxes(title_text="epoch", row=len(panels))
        yield Picture(key, title, " ".join(filter(None, [_what(curves), _gap(curves), tested])), figure, arm=loss)


def _scale_losses(figure: go.Figure) -> None:
    """Make the axis of losses logarithmic, unless one of them is 0."""
    values = np.concatenate([np.array(trace.y, dtype=float) for trace in figure.data if trace.yaxis == "y2"])
    figure.update_yaxes(title_text="loss (nats)", row=2)
    if values.min() > 0:
        ticks = log_ticks(float(values.min()), float(values.max()), least=3)
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks], row=2)


def _add_pair(figure: go.Figure, curves: SeedCurves, own_colour: str, what: str, *, row: int) -> None:
    """Add training and validation; accuracies in percent."""
    in_percent = what == "accuracy"
    sides = (("train", "training", GREY, "dash", 1.6), ("val", "validation", own_colour, "solid", 2.4))
    for prefix, name, colour, dash, width in sides:
        if curves.has(f"{prefix}_{what}"):
            add_band(
                figure,
                curves,
                f"{prefix}_{what}",
                name=name,
                colour=colour,
                unit=" %" if in_percent else " nats",
                dash=dash,
                width=width,
                row=row,
                legend=row == 1,
                in_percent=in_percent,
            )


def _what(curves: SeedCurves) -> str:
    losses = "The training loss includes margin and smoothing, the validation loss does not."
    if curves.source == "trial":
        return f"The best trial of the search, a single run. {losses}"
    failed = f" Not drawn, since they failed: {curves.failed}." if curves.failed else ""
    seeds = f"{curves.seeds} seeds (line: mean, band: lowest to highest)" if curves.seeds > 1 else "one seed"
    return f"The chosen configuration on {seeds}.{failed} {losses}"


def _gap(curves: SeedCurves) -> str:
    """Say how far training and validation lie apart at the end."""
    if not (curves.has("val_accuracy") and curves.has("train_accuracy")):
        return ""
    train, val = curves.range("train_accuracy")["mean"], curves.range("val_accuracy")["mean"]
    last = min(train.index.max(), val.index.max())
    difference = 100 * (train[last] - val[last])
    side = "above" if difference >= 0 else "below"
    return f"After epoch {last} training lies {abs(difference):.2f} pp {side} validation."


def _add_test(figure: go.Figure, run: Run, loss: str) -> str:
    """Add the test accuracy, which was read once, at the last epoch; return what to say of it."""
    winners = run.seed_runs_of("winner", loss)
    good = winners[~winners["failed"].astype(bool)]
    if good.empty:
        return ""
    values = good["accuracy"].astype(float)
    mean, low, high = percent([values.mean(), values.min(), values.max()])
    seeds = f"{len(good)} seeds" if len(good) > 1 else "one seed"
    figure.add_trace(
        go.Scatter(
            x=[int(good["epochs"].max())],
            y=[mean],
            error_y={"type": "data", "array": [high - mean], "arrayminus": [mean - low], "thickness": 1.4, "width": 5},
            mode="markers",
            marker={"color": INK, "symbol": "diamond", "size": 8},
            name="test",
            hovertemplate=f"test, {seeds}: %{{y:.2f}} %<br>lowest {low:.2f}, highest {high:.2f}",
        ),
        row=1,
        col=1,
    )
    return f"Test, retrained on training and validation images: {mean:.2f} %, {seeds}."


def comparison_curves(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the validation accuracy of all losses by epoch, whole and enlarged at the end."""
    run, key = named_run.run, f"curves-{named_run.slug}-all"
    found = {loss: validated_curves(run, loss) for loss in run.losses}
    curves = {loss: curve for loss, curve in found.items() if curve is not None and curve.has("val_accuracy")}
    title = f"All losses on {named_run.label}: validation accuracy by epoch"
    if len(curves) < 2:
        yield f"{title}: needs the curves of two losses, and there are {len(curves)}."
        return
    figure = new_figure(key, height=560, rows=2, heights=[0.5, 0.5], gap=0.14)
    for loss, curve in curves.items():
        for row in (1, 2):
            add_band(
                figure,
                curve,
                "val_accuracy",
                name=shown(loss),
                colour=named_run.look(loss).colour,
                unit=" %",
                row=row,
                legend=row == 1,
                group=loss,
                in_percent=True,
            )
    tables = [curve.range("val_accuracy") for curve in curves.values()]
    last = max(int(table.index.max()) for table in tables)
    begin = max(1, last - max(2, last // 3))
    late = [table[table.index >= begin] for table in tables]
    shown_late = [table for table in late if not table.empty]
    low, high = min(t["min"].min() for t in shown_late), max(t["max"].max() for t in shown_late)
    room = max(high - low, 0.002)
    figure.update_yaxes(title_text="val. accuracy (%)")
    figure.update_yaxes(range=[100 * (low - 0.06 * room), 100 * (high + 0.06 * room)], row=2)
    figure.update_xaxes(title_text="epoch", row=1)
    figure.update_xaxes(title_text="epoch, the last third enlarged", range=[begin - 0.2, last + 0.2], row=2)
    finals = "; ".join(
        f"{arm_name(loss)} {100 * table['mean'].iloc[-1]:.2f} % ({_source(curve)})"
        for (loss, curve), table in zip(curves.items(), tables, strict=True)
    )
    band = " Bands: lowest to highest seed." if any(curve.seeds > 1 for curve in curves.values()) else ""
    yield Picture(key, title, f"After the last epoch: {finals}.{band}", figure)


def _source(curves: SeedCurves) -> str:
    if curves.source == "trial":
        return "best trial, one run"
    return f"{curves.seeds} seeds" if curves.seeds > 1 else "one seed"


def trial_curve(named_run: NamedRun, detail: TrialDetail) -> go.Figure | None:
    """Return accuracy and margin of one trial by epoch; None before its first epoch."""
    if not detail.curve:
        return None
    x = [epoch for epoch, _, _ in detail.curve]
    colour = named_run.look(detail.row.loss).colour
    figure = new_figure(slug("trial", named_run.slug, detail.row.trial_id), height=260)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[None if accuracy is None else round(100 * accuracy, 4) for _, accuracy, _ in detail.curve],
            mode="lines+markers",
            name="val. accuracy",
            line={"color": colour, "width": 2.4},
            marker={"color": colour, "size": 5},
            hovertemplate="epoch %{x}: %{y:.2f} %<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="epoch")
    figure.update_layout(yaxis={"title": {"text": "val. accuracy (%)"}}, showlegend=False)
    margins = [margin for _, _, margin in detail.curve]
    if any(margin is not None for margin in margins):
        figure.add_trace(
            go.Scatter(
                x=x,
                y=margins,
                mode="lines",
                name="margin",
                line={"color": GREY, "width": 1.8, "dash": "dot"},
                yaxis="y2",
                hovertemplate="epoch %{x}: margin %{y:.3f} rad<extra></extra>",
            )
        )
        second = {"title": {"text": "margin (rad)"}, "overlaying": "y", "side": "right", "showgrid": False}
        figure.update_layout(
            yaxis2={**second, "automargin": True, "rangemode": "tozero", "tickmode": "auto"}, showlegend=True
        )
    return figure
