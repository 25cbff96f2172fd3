"""Curves of several seeds as one line with a band."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis.loading import Run
from analysis.plots.style import percent, points, tint

__all__ = ["SeedCurves", "add_band", "best_trial", "curves_of_role", "curves_of_trial", "validation_images"]


class SeedCurves:
    """The epochs of one configuration, trained once or on several seeds.

    Args:
        epochs: one row a seed and epoch: seed run or trial as `run`, epoch, and what was measured.
        failed: seeds that broke; they are not among the epochs.
        source: what was trained, in words.
    """

    def __init__(self, epochs: pd.DataFrame, failed: int, source: str) -> None:
        self.epochs, self.failed, self.source = epochs, failed, source
        self.seeds = int(epochs["run"].nunique())

    def has(self, field: str) -> bool:
        """Return whether something was measured."""
        return field in self.epochs and bool(self.epochs[field].notna().any())

    def range(self, field: str) -> pd.DataFrame:
        """Return mean, min and max over seeds, by epoch; epochs that not all seeds have are left out."""
        known = self.epochs.dropna(subset=[field])
        table: pd.DataFrame = known.groupby("epoch")[field].agg(["mean", "min", "max", "count"])
        whole: pd.DataFrame = table[table["count"] == table["count"].max()]
        return whole

    def last_epoch(self) -> int:
        """Return the last epoch."""
        return int(self.epochs["epoch"].max())


def curves_of_role(run: Run, role: str, arm: str) -> SeedCurves | None:
    """Return the curves of an arm of the confirmation, None where no seed of it has come to its end."""
    seed_runs = run.seed_runs_of(role, arm)
    good = seed_runs[~seed_runs["failed"].astype(bool)]
    rows = [{"run": r, **epoch} for r, curve in zip(good["run_id"], good["curve"], strict=True) for epoch in curve]
    if not rows:
        return None
    return SeedCurves(pd.DataFrame(rows), len(seed_runs) - len(good), role)


def best_trial(run: Run, loss: str) -> pd.Series | None:
    """Return the search's best trial of a loss: of the finished ones, else of the stopped, else of those that run."""
    trials = run.trials[(run.trials["loss"] == loss) & run.trials["val_accuracy"].notna()]
    for state in ("finished", "stopped", "unfinished"):
        judged = trials[trials["state"] == state]
        if not judged.empty:
            return judged.sort_values(["val_accuracy", "trial_id"], ascending=[False, True]).iloc[0]
    return None


def curves_of_trial(run: Run, loss: str) -> SeedCurves | None:
    """Return the curve of the search's best trial of a loss, None before its first epoch."""
    best = best_trial(run, loss)
    if best is None:
        return None
    epochs = run.epochs[(run.epochs["loss"] == loss) & (run.epochs["trial_id"] == best["trial_id"])]
    epochs = epochs.sort_values("epoch").assign(run=best["trial_id"])
    return SeedCurves(epochs, 0, "trial")


def add_band(
    figure: go.Figure,
    curves: SeedCurves,
    field: str,
    *,
    name: str,
    colour: str,
    unit: str,
    dash: str = "solid",
    width: float = 2.2,
    row: int = 1,
    legend: bool = True,
    group: str | None = None,
    in_percent: bool = False,
) -> None:
    """Add the mean over seeds, and, where there are several, the range from the lowest to the highest seed."""
    table = curves.range(field)
    convert = percent if in_percent else points
    epochs = [int(epoch) for epoch in table.index]
    low, high = convert(table["min"]), convert(table["max"])
    if curves.seeds > 1:
        figure.add_trace(
            go.Scatter(
                x=[*epochs, *reversed(epochs)],
                y=[*high, *reversed(low)],
                mode="lines",
                fill="toself",
                fillcolor=tint(colour, 0.18),
                line={"width": 0, "color": colour},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=group or name,
                name=f"{name}, lowest to highest seed",
            ),
            row=row,
            col=1,
        )
    spread = "<br>lowest %{customdata[0]:.4~g}, highest %{customdata[1]:.4~g}" if curves.seeds > 1 else ""
    figure.add_trace(
        go.Scatter(
            x=epochs,
            y=convert(table["mean"]),
            customdata=_pairs(low, high) if spread else None,
            # A single epoch is a point: a line would be invisible.
            mode="lines" if len(epochs) > 1 else "markers",
            line={"color": colour, "width": width, "dash": dash},
            marker={"color": colour},
            name=name,
            legendgroup=group or name,
            showlegend=legend,
            hovertemplate=f"epoch %{{x}}: %{{y:.4~g}}{unit}{spread}",
        ),
        row=row,
        col=1,
    )


def _pairs(low: Sequence[float], high: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(low, high, strict=True))


def validation_images(run: Run) -> int | None:
    """Return how many images an accuracy was measured on, None where the run does not say."""
    images = run.info["dataset"].get("validation_images")
    return images if isinstance(images, int) and images > 0 else None
