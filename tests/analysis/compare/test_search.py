"""What is said of a search."""

import math

import pytest

from analysis.compare import comparison, comparison_text
from analysis.findings import load_findings


def summary_of(run, loss="arcface"):
    (entry,) = comparison(load_findings([run.folder]))
    return next(summary for summary in entry["losses"] if summary["loss"] == loss)


# --- The best --------------------------------------------------------------------------------------------------------


def test_the_best_has_the_highest_accuracy_in_its_last_epoch(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.99, 0.7])
    run.trial("arcface", 1, [0.5, 0.6, 0.8])
    best = summary_of(run)["best"]
    assert best == {
        "trial_id": "arcface-0001",
        "val_accuracy": 0.8,
        "epochs": 3,
        "config": {"loss": "arcface", "learning_rate": 1.1, "loss_args": {"scale": 8.0}},
    }


@pytest.mark.parametrize("ending", ["stopped", "failed", None])
def test_a_finished_trial_goes_before_a_higher_one_that_is_not(new_run, ending):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6, 0.7])
    run.trial("arcface", 1, [0.95], ending)
    assert summary_of(run)["best"]["trial_id"] == "arcface-0000"


def test_where_none_finished_a_stopped_one_is_the_best(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.6], "stopped")
    run.trial("arcface", 1, [0.9], "failed")
    run.trial("arcface", 2, [0.7], "stopped")
    assert summary_of(run)["best"]["trial_id"] == "arcface-0002"


@pytest.mark.parametrize("numbers", [(3, 1, 2), (1, 2, 3)])
def test_of_equals_the_one_tried_first_is_the_best(new_run, numbers):
    run = new_run()
    for number in numbers:
        run.trial("arcface", number, [0.8])
    assert summary_of(run)["best"]["trial_id"] == "arcface-0001"


@pytest.mark.parametrize("ending", ["failed", "finished", "stopped"])
def test_a_trial_that_diverged_is_never_the_best(new_run, ending):
    run = new_run()
    run.trial("arcface", 0, [0.9, math.nan], ending, error="diverged")
    assert summary_of(run)["best"] is None
    run.trial("arcface", 1, [0.1], "stopped")
    assert summary_of(run)["best"]["trial_id"] == "arcface-0001"


def test_without_a_trial_there_is_no_best(new_run):
    run = new_run()
    run.trial("softmax", 0, [0.5])
    assert summary_of(run)["best"] is None
    assert summary_of(run, "softmax")["best"]["trial_id"] == "softmax-0000"


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_everything_is_counted(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.1, 0.2, 0.3], seconds=2.0)
    run.trial("arcface", 1, [0.1, 0.2, 0.3], seconds=0.5)
    run.trial("arcface", 2, [0.1], "stopped")
    run.trial("arcface", 3, [], "failed", error="Traceback\n  line\nValueError: the first\n")
    run.trial("arcface", 4, [0.1], "failed", error="the second")
    run.trial("arcface", 5, [0.1, 0.2], None)
    run.trial("softmax", 0, [0.5])
    summary = summary_of(run)
    assert {key: summary[key] for key in ("trials", "finished", "stopped", "failed", "unfinished")} == {
        "trials": 6,
        "finished": 2,
        "stopped": 1,
        "failed": 2,
        "unfinished": 1,
    }
    assert summary["epochs"] == 10
    assert summary["seconds"] == pytest.approx(6 + 1.5 + 2 + 2 + 4)
    assert summary["first_error"] == "ValueError: the first"
    assert summary["dimensions"] == 4


def test_an_epoch_that_was_run_again_after_a_resume_counts_once(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6], "interrupted")
    run.event("arcface", 0, "resumed", epoch=1)
    run.epoch("arcface", 0, 2, 0.61, seconds=3.0)
    run.event("arcface", 0, "finished")
    summary = summary_of(run)
    assert (summary["trials"], summary["finished"], summary["epochs"], summary["seconds"]) == (1, 1, 2, 5.0)
    assert summary["best"]["val_accuracy"] == 0.61


@pytest.mark.parametrize("error", ["", "  \n"])
def test_an_error_without_words_does_no_harm(new_run, error):
    run = new_run()
    run.trial("arcface", 0, [], "failed", error=error)
    assert summary_of(run)["first_error"] is None


# --- As text ---------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_loss_and_is_aligned(full_run):
    lines = comparison_text(load_findings([full_run.folder])).splitlines()
    assert lines[0] == "digits, ArcFaceCNN: 4 trials per loss, at most 3 epochs"
    header, *rows = lines[2:6]
    assert [row.split()[0] for row in rows] == ["arcface", "adaloss_per_class", "softmax"]
    assert len({len(line) for line in (header, *rows)}) == 1
    for column in ("best val. acc.", "trial", "finished", "failed"):
        assert column in header
    # Numbers end where their headings end.
    end = header.index("best val. acc.") + len("best val. acc.")
    assert [row[:end].split()[1:] for row in rows] == [["98.77", "%"], ["-"], ["-"]]
    assert all(row[end : end + 2] == "  " for row in rows)
    assert "3 (1 unfinished)" in rows[0]


def test_the_best_configuration_and_the_first_error_are_named(full_run):
    text = comparison_text(load_findings([full_run.folder]))
    assert "best arcface: learning_rate 0.1, scale 8" in text
    assert "best softmax" not in text
    assert "adaloss_per_class: 1 failed; the first: RuntimeError: [out] of memory" in text


def test_a_selected_best_is_not_called_a_comparison(full_run):
    assert "not yet a comparison" in comparison_text(load_findings([full_run.folder])).splitlines()[-1]


def test_a_run_on_a_part_of_the_data_is_marked(new_run):
    part, whole = new_run("part", partial=True), new_run("whole")
    assert comparison_text(load_findings([part.folder])).startswith(
        "digits, a part of it (100 training images), ArcFaceCNN"
    )
    assert "part" not in comparison_text(load_findings([whole.folder]))
    assert [entry["partial"] for entry in comparison(load_findings([part.folder, whole.folder]))] == [True, False]


def test_several_runs_follow_each_other(new_run):
    first, second = new_run("one"), new_run("two", ("adaloss",))
    text = comparison_text(load_findings([first.folder, second.folder]))
    assert text == comparison_text(load_findings([first.folder])) + "\n\n" + comparison_text(
        load_findings([second.folder])
    )
