"""Texts that stay texts, names of runs, and axes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import findings
from analysis.loading import load_run
from analysis.plots.picture import labels, named, plain, slug
from analysis.plots.style import accuracy_axis, errors, log_ticks, safe


@given(st.text())
def test_safe_leaves_nothing_that_plotly_reads_as_markup(text):
    shown = safe(text)
    assert "<" not in shown
    assert "%{" not in shown
    assert "\n" not in shown
    assert len(plain(text)) <= 60


@given(st.text(), st.text())
def test_slugs_are_good_for_ids(first, second):
    assert slug(first, second)
    assert set(slug(first, second)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_runs_are_named_by_data_set_then_folder_then_number(new_run):
    runs = [load_run(new_run(name).folder) for name in ("a", "b")]
    runs.append(load_run(new_run("c", dataset="/data/birds").folder))
    runs += [runs[0], runs[0]]
    assert labels(runs) == [run.label for run in named(findings(runs))]
    assert labels(runs) == ["digits, a", "digits, b", "birds", "digits, a (2)", "digits, a (3)"]
    assert [run.prefix for run in named(findings(runs[:1]))] == [""]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.one_of(st.none(), st.integers(1, 10_000)))
def test_an_axis_of_accuracies_holds_what_is_drawn_and_has_labels_in_order(accuracies, images):
    drawn = errors(accuracies, images)
    assert min(drawn) > 0
    axis = accuracy_axis("accuracy (%)", drawn, images)
    high, low = (10**end for end in axis["range"])
    assert low < min(drawn) <= max(drawn) < high
    assert 1 <= len(axis["tickvals"]) <= 20
    assert axis["tickvals"] == sorted(set(axis["tickvals"]))
    for value, text in zip(axis["tickvals"], axis["ticktext"], strict=True):
        assert float(text) == pytest.approx(100 - value, abs=1e-5) or text == "100"


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e4))
def test_log_ticks_lie_in_their_range(low, ratio):
    ticks = log_ticks(low, low * ratio, least=2)
    assert all(low * 0.998 <= tick <= low * ratio * 1.002 for tick in ticks)
    assert ticks == sorted(set(ticks))
