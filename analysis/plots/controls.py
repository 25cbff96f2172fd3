"""Controls: whether adaptivity is what helps."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from analysis.findings import Findings
from analysis.formatting import listed
from analysis.formatting import percent as percent_text
from analysis.loading import Run
from analysis.plots.bands import add_band, curves_of_role
from analysis.plots.forest import few_seeds, forest, strip, two_lines
from analysis.plots.paired import comparisons, failures, nothing_tested
from analysis.plots.picture import NamedRun, Picture, Sheet, collect, named
from analysis.plots.style import arm_name, new_figure, percent, shown
from analysis.plots.tables import verdict_table
from tune.records.roles import ADAPTIVE, CONTROLS, CONTROLS_OF

__all__ = ["build_controls", "control_accuracies", "control_differences", "control_lines", "control_margins"]


_MADE_OF = (ADAPTIVE, "arcface")  # the losses of which AdaLoss's controls are variants


def build_controls(all_found: Sequence[Findings]) -> Sheet:
    """Return the page: what the controls say, then the pictures."""
    sheet = collect(all_found, control_accuracies, control_differences, control_margins)
    runs = named(all_found)
    table = verdict_table(runs, "control")
    return replace(sheet, lines=control_lines(runs), tables=(table,) if table else ())


def control_lines(runs: Sequence[NamedRun]) -> tuple[str, ...]:
    """Return what the controls of each run say."""
    return tuple(f"{run.prefix}{run.found.adaptivity}" for run in runs if run.found.adaptivity)


def _arms(run: Run) -> list[str]:
    found = run.arms("control")
    return [arm for arm in CONTROLS if arm in found] + [arm for arm in found if arm not in CONTROLS]


def _controlled(arms: Sequence[str]) -> list[str]:
    """Return the losses that some controls are held against."""
    return [loss for loss, controls in CONTROLS_OF.items() if any(arm in controls for arm in arms)]


def _why_not(run: Run) -> str:
    if run.confirmation is not None and not run.confirmation.get("controls"):
        return "the confirmation was not asked for controls."
    return nothing_tested(run) if run.confirmation is None else "no control has come to its end yet."


def control_accuracies(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the test accuracies of the controls and of what they are made of, seed by seed."""
    run, arms = named_run.run, _arms(named_run.run)
    title = f"Test accuracies of the controls on {named_run.label}"
    if not arms:
        yield f"{title}: {_why_not(run)}"
        return
    losses = [loss for loss in dict.fromkeys((*_MADE_OF, *_controlled(arms))) if loss in run.arms("winner")]
    values: dict[str, pd.Series] = {loss: run.accuracies("winner", loss) for loss in losses}
    values |= {arm: run.accuracies("control", arm) for arm in arms}
    key = f"controls-{named_run.slug}"
    means = {arm: float(series.mean()) for arm, series in values.items()}
    highest = [arm_name(arm) for arm, mean in means.items() if abs(mean - max(means.values())) < 1e-9]
    failed = failures(run, "control", arms)
    yield Picture(
        key,
        title,
        f"One point a seed, bars are means. The highest mean, {percent_text(max(means.values()))}, has "
        f"{listed(highest)}; whether that is more than chance, the differences say.{failed}",
        strip(key, values, percent, named_run.looks).update_xaxes(title_text="test accuracy (%)"),
    )


def control_differences(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw each loss that has controls minus each of them."""
    arms = _arms(named_run.run)
    for loss in _controlled(arms) or ([ADAPTIVE] if arms else []):
        yield _differences(named_run, loss)


def _differences(named_run: NamedRun, loss: str) -> Picture | str:
    name = arm_name(loss)
    of_loss = "" if loss == ADAPTIVE else f"{loss}-"
    key = f"control-differences-{of_loss}{named_run.slug}"
    title = f"{name} minus each control on {named_run.label}"
    found = [comparison for comparison in comparisons(named_run.found, "control") if comparison.first == loss]
    if not found:
        return f"{title}: {name} and the controls have no seed in common yet."
    above = [arm_name(c.second) for c in found if c.result.t_interval and c.result.t_interval.low > 0]
    below = [arm_name(c.second) for c in found if c.result.t_interval and c.result.t_interval.high < 0]
    parts = [f"ahead of {'; '.join(above)}" if above else "", f"behind {'; '.join(below)}" if below else ""]
    text = " and ".join(part for part in parts if part) or "neither ahead of nor behind any control"
    names = [f"- {two_lines(comparison.second)}" for comparison in found]
    return Picture(
        key,
        title,
        f"By 95 % t intervals, not corrected for their number, {name} is {text}; n {found[0].result.n}."
        f"{few_seeds(found)}",
        forest(key, found, named_run.looks, dots=True, names=names),
    )


def control_margins(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw the margin that a loss and each of its controls applied, by epoch."""
    run, key = named_run.run, f"control-margins-{named_run.slug}"
    title = f"Margins that the controls applied on {named_run.label}"
    arms = _arms(run)
    curves = {loss: curves_of_role(run, "winner", loss) for loss in _controlled(arms)}
    curves |= {arm: curves_of_role(run, "control", arm) for arm in arms}
    found = {arm: curve for arm, curve in curves.items() if curve is not None and curve.has("margin_rad")}
    if not arms:
        return  # said once on this page
    if len(found) < 2:
        yield f"{title}: no control has recorded a margin."
        return
    figure = new_figure(key, height=420)
    for arm, curve in found.items():
        style = named_run.look(arm)
        add_band(figure, curve, "margin_rad", name=shown(arm), colour=style.colour, unit=" rad", dash=style.dash)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="applied margin (rad)", rangemode="tozero")
    means = ", ".join(f"{arm_name(arm)} {curve.range('margin_rad')['mean'].mean():.3f}" for arm, curve in found.items())
    yield Picture(
        key, title, f"Lines: means over seeds, bands: lowest to highest. Means over epochs in rad: {means}.", figure
    )
