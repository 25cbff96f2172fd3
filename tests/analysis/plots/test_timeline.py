"""When trials trained: spans, slots and how busy these were, by examples that can be counted by hand."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import load_findings
from analysis.loading import load_run
from analysis.plots.picture import named
from analysis.plots.timeline import Span, busy_share, lanes_of, spans_of, timeline


def span(start, end, node="a", busy=None):
    return Span("arcface", "t", node, start, end, end - start if busy is None else busy, 1)


def run_of(epochs):
    """A run in memory with these epochs: trial, number, time of the end, seconds, node."""
    from analysis.loading import Run

    columns = ["trial_id", "epoch", "time", "seconds", "node_ip"]
    table = pd.DataFrame(epochs, columns=columns).assign(loss="arcface")
    empty = pd.DataFrame()
    return Run(Path("x"), {"settings": {"losses": ["arcface"]}}, empty, table, empty, empty, {})


def test_epochs_without_a_gap_are_one_span_and_an_interruption_parts_them():
    run = run_of(
        [
            *(("t-0", 1, 110.0, 10.0, "a"), ("t-0", 2, 121.0, 10.0, "a"), ("t-0", 3, 400.0, 10.0, "a")),
            *(("t-1", 1, 130.0, 9.0, "a"), ("t-1", 2, 140.0, 9.0, "b")),
        ]
    )
    assert [(s.trial_id, s.node, s.start, s.end, s.busy_s, s.epochs) for s in spans_of(run)] == [
        ("t-0", "a", 100.0, 121.0, 20.0, 2),
        ("t-1", "a", 121.0, 130.0, 9.0, 1),
        ("t-1", "b", 131.0, 140.0, 9.0, 1),
        ("t-0", "a", 390.0, 400.0, 10.0, 1),
    ]


def test_slots_are_numbered_by_node_as_they_fill_up():
    spans = [span(0, 10), span(1, 5), span(2, 9, "b"), span(5, 8), span(10, 12)]
    assert lanes_of(spans) == [("a", 0), ("a", 1), ("b", 0), ("a", 1), ("a", 0)]


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1, 100), st.sampled_from("ab")), min_size=1, max_size=40))
def test_no_two_trials_are_in_a_slot_at_a_time(drawn):
    spans = sorted((span(start, start + length, node) for start, length, node in drawn), key=lambda s: s.start)
    newest: dict[tuple[str, int], Span] = {}
    for one, lane in zip(spans, lanes_of(spans), strict=True):
        if lane in newest:
            assert newest[lane].end <= one.start + 0.25 * one.busy_s
        newest[lane] = one
    share = busy_share(spans, len(newest))
    assert 0 < share <= 1


def test_busy_is_the_share_of_the_slots_time():
    assert busy_share([span(0, 10), span(0, 10)], 2) == 1.0
    assert busy_share([span(0, 10), span(0, 5)], 2) == pytest.approx(0.75)
    assert busy_share([span(0, 10, busy=4.0)], 1) == pytest.approx(0.4)
    assert busy_share([span(0, 10), span(1000, 1010)], 1) == 1.0  # nobody was at work in between
    assert busy_share([span(0, 10), span(20, 30)], 1) == pytest.approx(2 / 3)
    assert busy_share([], 2) is None


def test_the_picture_has_all_that_was_trained(example_run):
    folder = example_run(dataset="digits", finished=False)
    run = load_run(folder)
    (named_run,) = named(load_findings([folder]))
    (picture,) = timeline(named_run)
    drawn = sum(len(trace.x) for trace in picture.figure.data)
    assert drawn == len(spans_of(run))
    trials = run.epochs["trial_id"].nunique() + run.seed_epochs["run_id"].nunique()  # the half trained one too
    assert drawn == trials
    assert list(picture.figure.layout.yaxis.ticktext) == ["10.0.0.1, 1", "10.0.0.2, 1"]
    assert "Slots were busy" in picture.caption
