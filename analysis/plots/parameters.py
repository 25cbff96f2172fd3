"""Hyperparameters: which of them matter, where the good ones lie, and how they go together."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from analysis.findings import Findings
from analysis.formatting import percent as percent_text
from analysis.plots.bands import validation_images
from analysis.plots.picture import NamedRun, PassingNote, Picture, Sheet, collect, slug
from analysis.plots.studies import (
    MIN_TRIALS,
    LossTrials,
    StudyError,
    drawn,
    importance,
    judged,
    parameters_of,
    place,
    read_trials,
)
from analysis.plots.style import (
    GREY,
    INK,
    accuracy_axis,
    arm_name,
    errors,
    log_ticks,
    new_figure,
    percent,
    points,
    safe,
    tint,
)

__all__ = ["build_parameters", "importances", "parallel_coordinates", "slices"]

_STATES = ((TrialState.FAIL, "failed"), (TrialState.PRUNED, "stopped"), (TrialState.COMPLETE, "finished"))


def build_parameters(all_found: Sequence[Findings]) -> Sheet:
    """Return the page."""
    return collect(all_found, _with_trials(importances), _with_trials(parallel_coordinates), _with_trials(slices))


Maker = Callable[[NamedRun, dict[str, LossTrials]], Iterator[Picture | str]]


def _with_trials(make: Maker) -> Callable[[NamedRun], Iterator[Picture | str]]:
    """Read the study before drawing, and say so where that cannot be done."""

    def draw(named_run: NamedRun) -> Iterator[Picture | str]:
        try:
            studies = read_trials(named_run.run)
        except StudyError as error:
            note = f"Hyperparameters on {named_run.label}: {error}."
            yield PassingNote(note) if error.may_pass else note
            return
        found = {loss: trials for loss, trials in studies.items() if trials.trials and parameters_of(trials)}
        if not found:
            yield f"Hyperparameters on {named_run.label}: no trial has ended yet."
            return
        yield from make(named_run, found)

    return draw


# --- Importance ------------------------------------------------------------------------------------------------------


def importances(named_run: NamedRun, studies: dict[str, LossTrials]) -> Iterator[Picture | str]:
    """Draw fANOVA's importance of each hyperparameter, a picture for each loss."""
    run = named_run.run
    grace = run.info["settings"]["grace_epochs"]
    for loss, trials in studies.items():
        title = f"{arm_name(loss)} on {named_run.label}: importance of hyperparameters"
        early = importance(trials, grace, run.chance)
        final = importance(trials, None, run.chance)
        if early is None and final is None:
            yield f"{title}: needs {MIN_TRIALS} trials with different accuracies; {len(trials.trials)} have ended."
            continue
        key = slug("importance", named_run.slug, loss)
        names = sorted({**(final or {}), **(early or {})}, key=lambda name: (early or final or {}).get(name, 0.0))
        figure = new_figure(key, height=130 + (34 if final and early else 26) * len(names))
        counts = {epoch: len(judged(trials, epoch, run.chance)) for epoch in (grace, None)}
        bars = (
            (final, f"after the last epoch, {counts[None]} finished trials", named_run.look(loss).colour),
            (early, f"after epoch {grace}, {counts[grace]} trials", tint(named_run.look(loss).colour, 0.45)),
        )
        for shares, name, colour in bars:
            if shares is not None:
                figure.add_trace(
                    go.Bar(
                        x=percent(shares.get(parameter, 0.0) for parameter in names),
                        y=list(range(len(names))),
                        orientation="h",
                        name=name,
                        marker={"color": colour},
                        hovertemplate="%{x:.1f} %",
                    )
                )
        figure.update_xaxes(title_text="importance (% of the variance)", rangemode="tozero")
        figure.update_yaxes(
            title_text="hyperparameter",
            tickmode="array",
            tickvals=list(range(len(names))),
            ticktext=[_wrapped(name) for name in names],
            showgrid=False,
        )
        figure.update_layout(bargap=0.25, legend_traceorder="reversed", showlegend=True)
        yield Picture(key, title, _importance_caption(trials, early, final, grace), figure, arm=loss)


def _importance_caption(
    trials: LossTrials, early: dict[str, float] | None, final: dict[str, float] | None, grace: int
) -> str:
    shares = early or final or {}
    top = max(shares, key=lambda name: shares[name])
    when = f"after epoch {grace}" if early else "after the last epoch"
    left_out = [name for name in parameters_of(trials) if name not in {**(early or {}), **(final or {})}]
    rest = f" Left out, since not every trial has them or they never vary: {', '.join(left_out)}." if left_out else ""
    return (
        f"Of the variance of accuracy {when} that single hyperparameters explain, {100 * shares[top]:.0f} % is due to "
        f"{top} (fANOVA). A search does not draw evenly, so shares are rough.{rest}"
    )


def _wrapped(name: str) -> str:
    """Break a long name in two at an underscore, so that bars keep their room in narrow columns."""
    if len(name) <= 16 or "_" not in name:
        return safe(name)
    breaks = [i for i, character in enumerate(name) if character == "_"]
    middle = min(breaks, key=lambda i: abs(i - len(name) // 2))
    return f"{safe(name[: middle + 1])}<br>{safe(name[middle + 1 :])}"


# --- Parallel coordinates --------------------------------------------------------------------------------------------


def parallel_coordinates(named_run: NamedRun, studies: dict[str, LossTrials]) -> Iterator[Picture | str]:
    """Draw each trial as a line through its hyperparameters, one axis below the other so that names fit."""
    for loss, trials in studies.items():
        parameters = parameters_of(trials)
        key = slug("parallel", named_run.slug, loss)
        figure = new_figure(key, height=120 + 52 * len(parameters))
        groups = _groups(trials, named_run.look(loss).colour)
        for name, members, line in groups:
            figure.add_trace(_lines(name, members, parameters, line))
        for row, (name, distribution) in enumerate(parameters.items()):
            _add_axis(figure, row, name, distribution)
        figure.update_xaxes(
            title_text="place in the range (0: low, 1: high)",
            range=[-0.03, 1.03],
            tickvals=[0, 0.25, 0.5, 0.75, 1],
            showgrid=False,
        )
        figure.update_yaxes(
            title_text="hyperparameter",
            range=[len(parameters) - 0.65, -0.75],
            showticklabels=False,
            showline=False,
            ticks="",
            showgrid=False,
        )
        yield Picture(
            key,
            f"{arm_name(loss)} on {named_run.label}: how hyperparameters go together",
            "A line is a trial, drawn from top to bottom. Strong lines: the best tenth of the finished."
            f"{_thinning(trials)}",
            figure,
            arm=loss,
        )


def _groups(trials: LossTrials, colour: str) -> list[tuple[str, list[FrozenTrial], dict[str, Any]]]:
    """Return the trials to draw in groups, the best last: name, members and how their lines look."""
    by_state = {state: [trial for trial in drawn(trials) if trial.state == state] for state, _ in _STATES}
    finished = sorted(by_state[TrialState.COMPLETE], key=lambda trial: trial.value or 0.0)
    tenth = -(-sum(trial.state == TrialState.COMPLETE for trial in trials.trials) // 10)
    faint = 0.5 if len(trials.trials) <= 60 else 0.2
    groups = [
        ("failed", by_state[TrialState.FAIL], {"color": INK, "width": 1, "dash": "dot"}),
        ("stopped", by_state[TrialState.PRUNED], {"color": tint(GREY, faint), "width": 1}),
        ("finished", finished[: len(finished) - tenth], {"color": tint(colour, 1.2 * faint), "width": 1.3}),
        (f"best tenth ({tenth})", finished[len(finished) - tenth :], {"color": colour, "width": 2.4}),
    ]
    return [group for group in groups if group[1]]


def _lines(
    name: str, members: list[FrozenTrial], parameters: dict[str, BaseDistribution], line: dict[str, Any]
) -> go.Scatter:
    names = list(parameters)
    x: list[float | None] = []
    y: list[int | None] = []
    hover: list[tuple[str, str]] = []
    for trial in members:
        rows = [row for row, parameter in enumerate(names) if parameter in trial.params]
        x += [*points(place(trial.params[names[row]], trial.distributions[names[row]]) for row in rows), None]
        y += [*rows, None]
        head = f"trial {trial.number}" + ("" if trial.value is None else f", {percent_text(trial.value)}")
        hover += [*((head, _shown(trial.params[names[row]])) for row in rows), ("", "")]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line=line,
        name=name,
        customdata=hover,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )


def _thinning(trials: LossTrials) -> str:
    shown = len(drawn(trials))
    if shown == len(trials.trials):
        return ""
    return f" {shown:,} of {len(trials.trials):,} ended trials are drawn: the best tenth, others evenly chosen."


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else safe(value)


def _add_axis(figure: go.Figure, row: int, name: str, distribution: BaseDistribution) -> None:
    figure.add_shape(type="line", x0=0, x1=1, y0=row, y1=row, line={"color": "#999999", "width": 1}, layer="below")
    figure.add_annotation(
        x=0,
        y=row - 0.3,
        text=f"{safe(name)}: {_range(distribution)}",
        showarrow=False,
        xanchor="left",
        font={"size": 11, "color": INK},
        bgcolor="rgba(255,255,255,0.8)",
        borderpad=1,
    )


def _range(distribution: BaseDistribution) -> str:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return ", ".join(safe(choice, 16) for choice in choices)
        case FloatDistribution(low=low, high=high, log=log) | IntDistribution(low=low, high=high, log=log):
            return f"{low:g} to {high:g}{', log' if log else ''}"
    return safe(distribution)


# --- Slices ----------------------------------------------------------------------------------------------------------

_MARKERS: dict[str, dict[str, Any]] = {
    "failed": {"symbol": "x-thin", "size": 6, "line": {"width": 1.3, "color": INK}},
    "stopped": {"symbol": "circle-open", "size": 5, "opacity": 0.45},
    "finished": {"symbol": "circle", "size": 6, "opacity": 0.85},
}


def slices(named_run: NamedRun, studies: dict[str, LossTrials]) -> Iterator[Picture | str]:
    """Draw accuracy against each hyperparameter, a picture for each loss."""
    run = named_run.run
    images = validation_images(run)
    for loss, trials in studies.items():
        parameters = parameters_of(trials)
        key = slug("slices", named_run.slug, loss)
        rows = -(-len(parameters) // 2)
        figure = new_figure(key, height=90 + 190 * rows, rows=rows, columns=2, gap=0.45 / rows)
        chosen, seen = drawn(trials), set[str]()
        ends: list[float] = []
        for number, (name, distribution) in enumerate(parameters.items()):
            row, column = number // 2 + 1, number % 2 + 1
            for state, text in _STATES:
                members = [t for t in chosen if t.state == state and name in t.params]
                if members:
                    trace = _slice(members, name, distribution, text, run.chance, images)
                    trace.marker.update({"color": named_run.look(loss).colour, **_MARKERS[text]})
                    figure.add_trace(trace.update(showlegend=text not in seen), row=row, col=column)
                    seen.add(text)
                    ends += trace.y
            figure.update_xaxes(_slice_axis(name, distribution), row=row, col=column)
        figure.update_yaxes(accuracy_axis("", ends, images))
        figure.update_yaxes(title_text="val. accuracy (%)", col=1)
        yield Picture(
            key,
            f"{arm_name(loss)} on {named_run.label}: accuracy against each hyperparameter",
            "Validation accuracy in a trial's last epoch, on a scale of the errors. Stopped trials are lower for being "
            f"short too; failed ones lie at chance, {100 * run.chance:.1f} %.{_thinning(trials)}",
            figure,
            arm=loss,
        )


def _slice(
    members: list[FrozenTrial], name: str, distribution: BaseDistribution, text: str, chance: float, images: int | None
) -> go.Scatter:
    values = [trial.params[name] for trial in members]
    x = values
    if isinstance(distribution, CategoricalDistribution):
        # At whole numbers, a little apart so that equal ones do not hide each other.
        shifts = [0.3 * ((trial.number * 7 % 11) / 10 - 0.5) for trial in members]
        x = [distribution.choices.index(value) + shift for value, shift in zip(values, shifts, strict=True)]
    accuracies = [_accuracy(trial, chance) for trial in members]
    return go.Scatter(
        x=points(x),
        y=errors(accuracies, images),
        mode="markers",
        name=text,
        legendgroup=text,
        customdata=[
            (trial.number, _shown(value), percent_text(accuracy))
            for trial, value, accuracy in zip(members, values, accuracies, strict=True)
        ],
        hovertemplate=f"trial %{{customdata[0]}}, {text}<br>%{{customdata[1]}}: %{{customdata[2]}}<extra></extra>",
    )


def _accuracy(trial: FrozenTrial, chance: float) -> float:
    """Return the accuracy in a trial's last epoch, chance for one that failed."""
    if trial.state == TrialState.FAIL:
        return chance
    if trial.value is not None:
        return trial.value
    return trial.intermediate_values.get(trial.last_step or 0, chance)


def _slice_axis(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    title = {"text": _wrapped(name), "font": {"size": 12}}
    match distribution:
        case CategoricalDistribution(choices=choices):
            names = [safe(choice, 12) for choice in choices]
            places = list(range(len(choices)))
            return {"title": title, "tickvals": places, "ticktext": names, "range": [-0.5, len(choices) - 0.5]}
        case FloatDistribution(low=low, high=high, log=True) | IntDistribution(low=low, high=high, log=True):
            ends = [math.log10(low), math.log10(high)]
            room = 0.04 * (ends[1] - ends[0]) + 0.01
            ticks = log_ticks(low, high, least=2)
            options = {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
            return {"title": title, "type": "log", "range": [ends[0] - room, ends[1] + room], **options}
        case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
            room = 0.04 * (high - low) + 1e-9
            return {"title": title, "range": [low - room, high + room], "nticks": 5}
    return {"title": title, "nticks": 5}
