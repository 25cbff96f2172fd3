"""When each trial trained, and where: slots side by side, and how busy they were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.loading import Run
from analysis.plots.picture import NamedRun, Picture
from analysis.plots.style import new_figure, safe, shown

__all__ = ["Span", "busy_share", "lanes_of", "spans_of", "timeline"]

_GAP_S = 60.0  # a trial that trained nothing for so long, or for three of its epochs, was interrupted
_MOST_LANES = 64


@dataclass(frozen=True)
class Span:
    """Epochs of a trial that were trained one after the other, in one place.

    Args:
        arm: of the trial.
        trial_id: of the search, or the id of a confirming run.
        node: address of the machine, "" where it is not on record.
        start: unix time at which the first epoch began.
        end: unix time at which the last one ended.
        busy_s: seconds of training and evaluating in between.
        epochs: how many.
        confirms: whether it belongs to the confirmation.
    """

    arm: str
    trial_id: str
    node: str
    start: float
    end: float
    busy_s: float
    epochs: int
    confirms: bool = False


def spans_of(run: Run) -> list[Span]:
    """Return what was trained when, by start; epochs without a time are left out."""
    found = _spans(run.epochs, "trial_id", "loss", confirms=False)
    if len(run.seed_epochs):
        arms = dict(zip(run.seed_runs["run_id"], run.seed_runs["arm"], strict=True))
        known = {
            str(run_id): arms.get(run_id) or _arm_in(str(run_id), run) for run_id in run.seed_epochs["run_id"].unique()
        }
        named = run.seed_epochs.assign(arm=run.seed_epochs["run_id"].map(known))
        found += _spans(named[named["arm"].notna()], "run_id", "arm", confirms=True)
    return sorted(found, key=lambda span: (span.start, span.trial_id))


def _arm_in(run_id: str, run: Run) -> str | None:
    """Return the arm of a run that is not over, such as ``winner-adaloss-2000`` or ``candidate-adaloss-0003-1000``."""
    name = run_id.partition("-")[2].rpartition("-")[0]
    return next((arm for arm in (name, name.rpartition("-")[0]) if arm in run.all_arms), None)


def _spans(epochs: pd.DataFrame, key: str, arm: str, *, confirms: bool) -> list[Span]:
    if epochs.empty or not {"time", "seconds"} <= set(epochs.columns):
        return []
    table = epochs[epochs["time"].notna() & epochs["seconds"].notna()].sort_values([key, "time"], kind="stable")
    nodes = table["node_ip"].tolist() if "node_ip" in table else [None] * len(table)
    columns = (table[name].tolist() for name in (key, arm, "time", "seconds"))
    spans: list[Span] = []
    rows: list[tuple[Any, ...]] = []
    for row in zip(*columns, nodes, strict=True):
        if rows and not _continues(rows[-1], row):
            spans.append(_span(rows, confirms))
            rows = []
        rows.append(row)
    return [*spans, _span(rows, confirms)] if rows else spans


def _continues(before: tuple[Any, ...], row: tuple[Any, ...]) -> bool:
    gap = row[2] - row[3] - before[2]
    same = before[0] == row[0] and before[4] == row[4]
    return same and bool(gap < max(_GAP_S, 3 * row[3]))


def _span(rows: list[tuple[Any, ...]], confirms: bool) -> Span:
    key, arm, time, seconds, node = rows[0]
    busy = float(sum(row[3] for row in rows))
    return Span(
        str(arm),
        str(key),
        node if isinstance(node, str) else "",
        float(time - seconds),
        float(rows[-1][2]),
        busy,
        len(rows),
        confirms,
    )


def lanes_of(spans: Sequence[Span]) -> list[tuple[str, int]]:
    """Return where each span lies: its machine, and the first of the machine's lanes, from 0, that is free by then."""
    free: dict[str, list[float]] = {}
    lanes = []
    for span in spans:
        ends = free.setdefault(span.node, [])
        # Two clocks and rounding: what overlaps by a little came one after the other.
        tolerance = 0.25 * span.busy_s / span.epochs
        lane = next((i for i, end in enumerate(ends) if end <= span.start + tolerance), len(ends))
        ends[lane : lane + 1] = [span.end]
        lanes.append((span.node, lane))
    return lanes


def busy_share(spans: Sequence[Span], slots: int) -> float | None:
    """Return the share of the slots' time in which trials trained and evaluated, a fraction; None without a time.

    Time in which nothing trained at all for longer than a gap between two trials does not count: nobody was at work.
    """
    if not spans or slots < 1:
        return None
    worked, end = 0.0, spans[0].start
    for span in spans:
        if span.end <= end:
            continue
        pause = span.start - end
        worked += span.end - (span.start if pause >= _GAP_S else end)
        end = span.end
    return min(1.0, sum(span.busy_s for span in spans) / (slots * worked)) if worked > 0 else None


def timeline(named_run: NamedRun) -> Iterator[Picture | str]:
    """Draw what each slot trained when."""
    run = named_run.run
    title = f"When trials trained on {named_run.label}"
    spans = spans_of(run)
    if not spans:
        yield f"{title}: no epoch with a time has been recorded yet."
        return
    places = lanes_of(spans)
    rows = sorted(set(places))[:_MOST_LANES]
    key = f"timeline-{named_run.slug}"
    arms = list(dict.fromkeys(span.arm for span in spans))
    figure = new_figure(key, height=110 + 28 * max(len(rows), 3) + 22 * (len(arms) if len(arms) > 4 else 2))
    unit, name = _unit(max(span.end for span in spans) - spans[0].start)
    for arm in arms:
        for confirms in (False, True):
            _add_arm(figure, named_run, spans, places, rows, arm, unit, confirms=confirms)
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_xaxes(title_text=f"{name} since the first epoch began", rangemode="tozero")
    several = len({node for node, _ in rows}) > 1
    figure.update_yaxes(
        title_text="node, slot" if several else "slot",
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[f"{safe(node or 'unknown', 20)}, {lane + 1}" if several else str(lane + 1) for node, lane in rows],
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
    )
    yield Picture(key, title, _caption(run, spans, len(set(places)), len(rows)), figure, wide=True)


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _add_arm(
    figure: go.Figure,
    named_run: NamedRun,
    spans: Sequence[Span],
    places: Sequence[tuple[str, int]],
    rows: Sequence[tuple[str, int]],
    arm: str,
    unit: float,
    *,
    confirms: bool,
) -> None:
    place_of = {place: i for i, place in enumerate(rows)}
    mine = [
        (span, place_of[place])
        for span, place in zip(spans, places, strict=True)
        if span.arm == arm and span.confirms is confirms and place in place_of
    ]
    if not mine:
        return
    begin = spans[0].start
    figure.add_trace(
        go.Bar(
            base=[round((span.start - begin) / unit, 3) for span, _ in mine],
            x=[round((span.end - span.start) / unit, 3) for span, _ in mine],
            y=[row for _, row in mine],
            orientation="h",
            name=shown(arm),
            legendgroup=arm,
            showlegend=arm not in {trace.legendgroup for trace in figure.data},
            marker={
                "color": named_run.look(arm).colour,
                "opacity": 0.55 if confirms else 0.95,
                "line": {"color": "white", "width": 0.6},
            },
            customdata=[f"{safe(span.trial_id)}: {span.epochs} epochs, {span.busy_s:.0f} s" for span, _ in mine],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )


def _caption(run: Run, spans: Sequence[Span], lanes: int, drawn: int) -> str:
    slots = _slots(run) or lanes
    busy = busy_share(spans, slots)
    told = "" if busy is None else f" Slots were busy {100 * busy:.0f} % of the time, {slots} side by side."
    left_out = f" Of {lanes} slots {drawn} are drawn." if drawn < lanes else ""
    return (
        "One bar a trial, from its first epoch to its last; pale bars confirm. Slots are numbered as they filled up on "
        f"their machine.{told}{left_out}"
    )


def _slots(run: Run) -> int | None:
    """Return how many trials ran side by side as the newest start of the run says."""
    invocations = run.info["invocations"]
    newest = invocations[-1] if isinstance(invocations, list) and invocations else {}
    slots = newest.get("slots") if isinstance(newest, dict) else None
    count = slots.get("concurrent") if isinstance(slots, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 100_000 else None
