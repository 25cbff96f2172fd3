"""The trials one by one: rows, details and commands."""

import shlex

import pytest

from analysis.loading import load_run
from analysis.trials import command_of, detail_of, details_of, trial_rows


@pytest.fixture
def run(new_run):
    writer = new_run("a run's folder")
    writer.trial("arcface", 0, [0.5, 0.6])
    writer.trial("arcface", 1, [0.4], "failed", error="broke\nValueError: bad")
    writer.trial("softmax", 0, [0.3], None)
    writer.event("softmax", 1, "started", config={"loss": "softmax", "loss_args": {}})
    return writer


def test_rows_say_what_is_on_record(run):
    rows = trial_rows(load_run(run.folder))
    assert [(row.trial_id, row.number, row.loss, row.status, row.epochs) for row in rows] == [
        ("arcface-0000", 0, "arcface", "finished", 2),
        ("arcface-0001", 1, "arcface", "failed", 1),
        ("softmax-0000", 0, "softmax", "unfinished", 1),
        ("softmax-0001", 1, "softmax", "unfinished", 0),
    ]
    assert [row.val_accuracy for row in rows] == [0.6, 0.4, 0.3, None]
    assert [row.seconds for row in rows] == [4.0, 2.0, 2.0, 0.0]
    assert rows[0].settings == "lr 0.1, scale 8"
    assert {row.node for row in rows} == {""}


def test_the_node_is_that_of_the_newest_epoch(example_run):
    run = load_run(example_run())
    newest = run.epochs.sort_values("epoch").drop_duplicates("trial_id", keep="last").set_index("trial_id")["node_ip"]
    assert {row.trial_id: row.node for row in trial_rows(run)} == newest.to_dict()
    assert newest.nunique() == 2


def test_a_detail_has_curve_settings_and_error(run):
    loaded = load_run(run.folder)
    rows = trial_rows(loaded)
    detail = detail_of(loaded, rows[1])
    assert detail.curve == ((1, 0.4, None),)
    assert detail.settings == (("learning_rate", "1.1"), ("scale", "8"))
    assert detail.error == "broke\nValueError: bad"
    assert detail_of(loaded, rows[3]).curve == ()
    assert list(details_of(loaded, rows)) == [detail_of(loaded, row) for row in rows]


def test_commands_run_a_configuration_again_or_go_on(run):
    loaded = load_run(run.folder)
    finished, failed, unfinished, _ = trial_rows(loaded)
    for row in (finished, failed):
        words = shlex.split(command_of(loaded, row)[0])
        assert words == ["python", "tune/run_search.py", "--again", f"{run.folder}/{row.trial_id}"]
    words = shlex.split(command_of(loaded, unfinished)[0])
    assert words == [
        *("python", "tune/run_search.py", "--resume", "--output", str(run.folder.parent), "--name", run.folder.name)
    ]
