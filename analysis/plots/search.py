"""The search: best accuracy against epochs spent, and ASHA's rungs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.arms import Look
from analysis.findings import Findings
from analysis.formatting import listed
from analysis.formatting import percent as percent_text
from analysis.loading import Run
from analysis.plots.bands import validation_images
from analysis.plots.picture import NamedRun, Picture, Sheet, collect
from analysis.plots.style import GREY, INK, accuracy_axis, arm_name, errors, new_figure, safe, shown, tint

__all__ = ["best_so_far", "build_search", "rungs", "survival"]

_MOST_LINES = 60  # learning curves drawn for a loss; the ends of all trials are drawn


def build_search(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, best_so_far, survival, rungs)


def _epochs_of(run: Run, loss: str) -> pd.DataFrame:
    """Return a loss's epochs in the order in which they were trained, with `spent`, the epochs up to each."""
    if run.epochs.empty:
        return pd.DataFrame(columns=["trial_id", "epoch", "val_accuracy", "spent"])
    epochs = run.epochs[run.epochs["loss"] == loss]
    if "time" in epochs:
        epochs = epochs.sort_values("time", kind="stable")
    return epochs.assign(spent=range(1, len(epochs) + 1))


def _ends_of(run: Run, loss: str, epochs: pd.DataFrame) -> pd.DataFrame:
    """Return a loss's trials that have an epoch, each with its last: state, epoch, val_accuracy, spent."""
    last = epochs.sort_values("epoch", kind="stable").groupby("trial_id", sort=False).tail(1)
    trials = run.trials.loc[run.trials["loss"] == loss, ["trial_id", "state"]]
    return last[["trial_id", "epoch", "val_accuracy", "spent"]].merge(trials, on="trial_id")


# --- Best so far -----------------------------------------------------------------------------------------------------


_TRIALS = ", trials"  # ends the names of traces of finished trials


def best_so_far(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the best validation accuracy against the epochs that the search of a loss had trained by then."""
    run, key = named_run.run, f"best-so-far-{named_run.slug}"
    figure = new_figure(key, height=400)
    summary = []
    for loss in run.losses:
        epochs = _epochs_of(run, loss)
        known = epochs.dropna(subset=["val_accuracy"])
        if known.empty:
            continue
        ends = _ends_of(run, loss, epochs).dropna(subset=["val_accuracy"])
        finished = ends[ends["state"] == "finished"].sort_values("spent")
        _add_best(figure, loss, named_run.look(loss), known, finished, len(epochs), validation_images(run))
        if not finished.empty:
            best = percent_text(finished["val_accuracy"].max())
            summary.append(f"{arm_name(loss)} {best} after {len(epochs):,} epochs")
    if not figure.data:
        yield f"Best so far on {named_run.label}: no epoch has been recorded yet."
        return
    # What came before the first finished trial is below the picture, where there is one.
    ended = [error for trace in figure.data if trace.name.endswith(_TRIALS) for error in trace.y]
    drawn = [error for trace in figure.data for error in trace.y]
    drawn = [error for error in drawn if error <= max(ended or drawn)]
    figure.update_yaxes(accuracy_axis("validation accuracy (%)", drawn, validation_images(run)))
    figure.update_xaxes(title_text="epochs trained by the search of this loss", rangemode="tozero")
    reached = f"Reached: {'; '.join(summary)}." if summary else "No trial has finished yet."
    yield Picture(
        key,
        f"Best so far on {named_run.label}",
        "Solid: the best trial of full length so far, points are such trials; dotted: the best of any epoch. "
        f"{reached} The best of many trials is too good by selection.",
        figure,
    )


def _add_best(
    figure: go.Figure,
    loss: str,
    style: Look,
    known: pd.DataFrame,
    finished: pd.DataFrame,
    spent: int,
    images: int | None,
) -> None:
    dotted = {"color": style.colour, "width": 1.2, "dash": "dot"}
    trace = _steps(known, spent, images, name=f"{shown(loss)}, any epoch", line=dotted, opacity=0.8)
    figure.add_trace(trace.update(legendgroup=loss, showlegend=finished.empty))
    if finished.empty:
        return
    solid = {"color": style.colour, "width": 2.4}
    figure.add_trace(_steps(finished, spent, images, name=shown(loss), line=solid).update(legendgroup=loss))
    figure.add_trace(
        go.Scatter(
            x=finished["spent"].tolist(),
            y=errors(finished["val_accuracy"], images),
            mode="markers",
            name=f"{shown(loss)}{_TRIALS}",
            legendgroup=loss,
            showlegend=False,
            marker={"color": style.colour, "symbol": style.symbol, "size": 6, "opacity": 0.55},
            customdata=[
                f"{safe(trial)}: {percent_text(accuracy)}"
                for trial, accuracy in zip(finished["trial_id"], finished["val_accuracy"], strict=True)
            ],
            hovertemplate="%{customdata}, ended at epoch %{x} of the search<extra></extra>",
        )
    )


def _steps(values: pd.DataFrame, spent: int, images: int | None, **options: Any) -> go.Scatter:
    """Return the best so far as a staircase of its rises that goes on to the epochs spent."""
    accuracies = values["val_accuracy"]
    rises = values[accuracies > accuracies.cummax().shift(fill_value=-1.0)]
    best = [*rises["val_accuracy"], rises["val_accuracy"].iloc[-1]]
    return go.Scatter(
        x=[*rises["spent"].tolist(), spent],
        y=errors(best, images),
        mode="lines",
        line_shape="hv",
        customdata=[percent_text(accuracy) for accuracy in best],
        hovertemplate="%{customdata} after %{x} epochs",
        **options,
    )


# --- Rungs -----------------------------------------------------------------------------------------------------------

_ENDS = {
    "finished": ("finished", "circle"),
    "stopped": ("stopped", "circle-open"),
    "failed": ("failed", "x-thin-open"),
    "unfinished": ("running or interrupted", "triangle-right-open"),
}


def rungs(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw each loss's learning curves up to where ASHA, or a failure, ended them."""
    run, key = named_run.run, f"rungs-{named_run.slug}"
    losses = [loss for loss in run.losses if not _epochs_of(run, loss).empty]
    if not losses:
        yield f"Rungs on {named_run.label}: no epoch has been recorded yet."
        return
    figure = new_figure(key, height=90 + 200 * len(losses), rows=len(losses), shared=True, gap=0.12 / len(losses))
    seen: set[str] = set()
    for row, loss in enumerate(losses, start=1):
        epochs = _epochs_of(run, loss).sort_values("epoch", kind="stable")
        # A trial that broke lies where it was last measured, or at chance.
        measured = epochs.groupby("trial_id", sort=False)["val_accuracy"].ffill().fillna(run.chance)
        epochs = epochs.assign(val_accuracy=measured.astype(float))
        ends = _ends_of(run, loss, epochs)
        images = validation_images(run)
        curves = _add_curves(figure, row, loss, named_run.look(loss).colour, epochs, ends, images)
        lowest = max(_add_ends(figure, row, ends, images, seen))  # curves begin below the picture
        drawn = [error for error in curves if error is not None and error <= lowest]
        axis = accuracy_axis(f"{shown(loss)}<br>val. accuracy (%)", drawn, images)
        figure.update_yaxes(axis, row=row)
    marks = run.rung_epochs
    for mark in marks:
        figure.add_vline(x=mark, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[0.5, run.info["settings"]["max_epochs"] + 0.5])
    figure.update_xaxes(title_text="epoch of the trial", row=len(losses))
    yield Picture(key, f"Who was stopped where on {named_run.label}", _rung_caption(run, marks), figure)


def _marker(trials: int) -> dict[str, float]:
    """Return size and opacity of a mark: many shall not become one black bar."""
    return {"size": 6, "opacity": 0.75} if trials <= _MOST_LINES else {"size": 5, "opacity": 0.3}


def _rung_caption(run: Run, marks: list[int]) -> str:
    counts = run.trials["state"].value_counts()
    many = run.trials["loss"].value_counts().max() > _MOST_LINES
    where = f"Rungs at epoch {listed(map(str, marks))} (dotted)" if marks else "No rungs"
    ended = [f"{counts.get('stopped', 0):,} were stopped", f"{counts.get('failed', 0):,} failed"]
    ended.append(f"{counts.get('finished', 0):,} finished")
    thinned = (
        f" All ends are drawn, and the curves of {_MOST_LINES} trials of each loss, evenly chosen." if many else ""
    )
    return f"{where}: of {len(run.trials):,} trials {listed(ended)}.{thinned}"


def _add_curves(
    figure: go.Figure,
    row: int,
    loss: str,
    colour: str,
    epochs: pd.DataFrame,
    ends: pd.DataFrame,
    images: int | None,
) -> list[float | None]:
    """Draw curves, not more than a reader can tell apart; return their errors, in percent."""
    trials = ends["trial_id"].tolist()
    if len(trials) > _MOST_LINES:
        trials = [trials[i] for i in np.linspace(0, len(trials) - 1, _MOST_LINES).astype(int)]
        trials += ends.loc[ends["state"] == "unfinished", "trial_id"].tolist()
    x: list[float | None] = []
    y: list[float | None] = []
    for _, curve in epochs[epochs["trial_id"].isin(trials)].groupby("trial_id", sort=False):
        x += [*curve["epoch"].tolist(), None]
        y += [*errors(curve["val_accuracy"], images), None]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            name=f"{shown(loss)}, curves",
            line={"color": tint(colour, 0.45), "width": 1},
            hoverinfo="skip",
            showlegend=False,
        ),
        row=row,
        col=1,
    )
    return y


def _add_ends(figure: go.Figure, row: int, ends: pd.DataFrame, images: int | None, seen: set[str]) -> list[float]:
    """Mark where trials ended; return the errors there, in percent."""
    for state, (name, symbol) in _ENDS.items():
        group = ends[ends["state"] == state]
        if group.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=group["epoch"].tolist(),
                y=errors(group["val_accuracy"], images),
                mode="markers",
                name=name,
                legendgroup=state,
                showlegend=state not in seen,
                marker={
                    "color": INK,
                    "symbol": symbol,
                    **_marker(len(ends)),
                    "line": {"width": 1.2, "color": INK},
                },
                customdata=[
                    f"{safe(trial)}, {name}<br>{percent_text(accuracy)}"
                    for trial, accuracy in zip(group["trial_id"], group["val_accuracy"], strict=True)
                ],
                hovertemplate="%{customdata} in epoch %{x}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        seen.add(state)
    return errors(ends["val_accuracy"], images)


def survival(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw how many trials of each loss trained for at least so many epochs."""
    run, key = named_run.run, f"survival-{named_run.slug}"
    longest = run.info["settings"]["max_epochs"]
    figure = new_figure(key, height=320)
    shares = []
    for loss in run.losses:
        reached = run.trials.loc[run.trials["loss"] == loss, "epochs"].to_numpy()
        if not (reached > 0).any():
            continue
        style = named_run.look(loss)
        y = [int((reached >= epoch).sum()) for epoch in range(1, longest + 1)]
        figure.add_trace(
            go.Scatter(
                x=list(range(1, longest + 1)),
                y=y,
                mode="lines",
                line_shape="vh",
                name=shown(loss),
                line={"color": style.colour, "width": 2.2, "dash": style.dash},
                hovertemplate="%{y} trials trained for %{x} epochs or more",
            )
        )
        full = longest * len(reached)
        shares.append(f"{arm_name(loss)} {reached.sum():,} of {full:,}")
    if not figure.data:
        yield f"Length of trials on {named_run.label}: no epoch has been recorded yet."
        return
    figure.update_xaxes(title_text="epoch of the trial", range=[0.5, longest + 0.5])
    figure.update_yaxes(title_text="trials that trained so far", rangemode="tozero")
    yield Picture(
        key,
        f"Length of trials on {named_run.label}",
        f"Epochs trained, of those that all trials in full length would need: {'; '.join(shares)}.",
        figure,
    )
