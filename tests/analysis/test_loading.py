import json
import math

import pytest

from analysis.loading import load_run
from tune.records import RecordError, write_json


def trials_of(run):
    """The rows of the trials by id."""
    return {row["trial_id"]: row for row in load_run(run.folder).trials.to_dict("records")}


# --- What a run says -------------------------------------------------------------------------------------------------


def test_a_run_that_has_not_begun_has_no_trials(new_run):
    run = load_run(new_run().folder)
    assert run.losses == ["arcface", "softmax"]
    assert run.dataset == "digits"
    assert len(run.trials) == 0
    assert len(run.epochs) == 0
    assert {"loss", "trial_id", "state", "epochs", "val_accuracy"} <= set(run.trials.columns)


def test_a_trial_is_one_row_with_its_last_epoch(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.9, 0.8], seconds=2.5)
    run.trial("softmax", 0, [0.7])
    row = trials_of(run)["arcface-0000"]
    assert row == {
        "loss": "arcface",
        "trial_id": "arcface-0000",
        "state": "finished",
        "epochs": 3,
        "val_accuracy": 0.8,
        "seconds": 7.5,
        "config": {"loss": "arcface", "learning_rate": 0.1, "loss_args": {"scale": 8.0}},
        "error": None,
    }


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed"])
def test_how_a_trial_ended_is_its_state(new_run, ending):
    run = new_run()
    trial_id = run.trial("arcface", 0, [0.5], ending)
    assert trials_of(run)[trial_id]["state"] == ending


@pytest.mark.parametrize("event", [None, "interrupted", "resumed"])
def test_a_trial_without_an_ending_is_unfinished(new_run, event):
    run = new_run()
    trial_id = run.trial("arcface", 0, [0.5], event)
    assert trials_of(run)[trial_id]["state"] == "unfinished"
    assert trials_of(run)[trial_id]["epochs"] == 1


def test_a_trial_that_broke_before_its_first_epoch_has_its_error(new_run):
    run = new_run()
    run.trial("arcface", 0, [], "failed", error="out of memory")
    row = trials_of(run)["arcface-0000"]
    assert (row["state"], row["epochs"], row["error"]) == ("failed", 0, "out of memory")
    assert row["val_accuracy"] is None or math.isnan(row["val_accuracy"])


def test_an_epoch_that_was_run_again_counts_once_and_the_later_counts(new_run):
    run = new_run()
    trial_id = run.trial("arcface", 0, [0.5, 0.6], "interrupted")
    run.event("arcface", 0, "resumed", config={"again": 1}, epoch=1)
    run.epoch("arcface", 0, 2, 0.65, seconds=10.0)
    run.epoch("arcface", 0, 3, 0.7)
    run.event("arcface", 0, "finished")
    row = trials_of(run)[trial_id]
    assert (row["state"], row["epochs"], row["val_accuracy"], row["seconds"]) == ("finished", 3, 0.7, 14.0)
    epochs = load_run(run.folder).epochs
    assert sorted(epochs["epoch"]) == [1, 2, 3]
    assert set(epochs["loss"]) == {"arcface"}


def test_a_resumed_trial_whose_worker_was_lost_keeps_its_configuration(new_run):
    run = new_run()
    trial_id = run.trial("arcface", 0, [0.5], None)
    run.event("arcface", 0, "resumed", error="its worker was lost")
    row = trials_of(run)[trial_id]
    assert row["config"]["loss"] == "arcface"
    assert row["error"] is None, "a lost worker is not how the trial ended"


# --- What is damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["epochs.jsonl", "trials.jsonl"])
def test_a_torn_last_line_is_left_out(new_run, name):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6])
    run.trial("arcface", 1, [0.5, 0.7], None)
    whole = trials_of(run)
    with (run.folder / "arcface" / name).open("a") as file:
        file.write('{"trial_id": "arcface-0001", "ep')
    assert trials_of(run) == whole


@pytest.mark.parametrize("damage", ['{"trial_id": "arcf', "[]", "\0\0"])
@pytest.mark.parametrize("name", ["epochs.jsonl", "trials.jsonl"])
def test_a_damaged_line_is_named(new_run, name, damage):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6, 0.7])
    path = run.folder / "arcface" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], damage, *lines[2:], "{}"]) + "\n")
    with pytest.raises(RecordError) as error:
        load_run(run.folder)
    assert f"{path}, line 2" in str(error.value)


@pytest.mark.parametrize(("name", "field"), [("epochs.jsonl", "epoch"), ("trials.jsonl", "event")])
def test_a_record_that_lacks_a_field_is_named(new_run, name, field):
    run = new_run()
    run.trial("arcface", 0, [0.5])
    with (run.folder / "arcface" / name).open("a") as file:
        file.write('{"trial_id": "arcface-0000"}\n')
    with pytest.raises(RecordError, match=rf"arcface/{name}, line \d: lacks '{field}'"):
        load_run(run.folder)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("epochs.jsonl", {"trial_id": 7}),
        ("epochs.jsonl", {"epoch": "one"}),
        ("epochs.jsonl", {"epoch": True}),
        ("epochs.jsonl", {"epoch": -1}),
        ("epochs.jsonl", {"seconds": None}),
        ("epochs.jsonl", {"seconds": 10**400}),
        ("epochs.jsonl", {"val_accuracy": 98.5}),
        ("epochs.jsonl", {"val_accuracy": [0.5]}),
        ("epochs.jsonl", {"margin_rad": {}}),
        ("epochs.jsonl", {"margin_per_class_rad": [0.1, "0.2"]}),
        ("trials.jsonl", {"trial_id": []}),
        ("trials.jsonl", {"event": {}}),
        ("trials.jsonl", {"config": ["learning_rate"]}),
        ("trials.jsonl", {"error": 1}),
    ],
    ids=repr,
)
def test_a_value_that_no_search_writes_is_named(new_run, name, fields):
    run = new_run()
    run.trial("arcface", 0, [0.5])
    path = run.folder / "arcface" / name
    good = json.loads(path.read_text().splitlines()[0])
    (line, key) = (len(path.read_text().splitlines()) + 1, next(iter(fields)))
    with path.open("a") as file:
        file.write(json.dumps({**good, **fields}) + "\n")
    with pytest.raises(RecordError) as error:
        load_run(run.folder)
    assert str(error.value).startswith(f"{path}, line {line}: '{key}' is ")
    assert len(str(error.value)) < len(str(path)) + 200


@pytest.mark.parametrize(
    "parts",
    [
        {"settings": []},
        {"settings": {"losses": "arcface"}},
        {"settings": {"losses": [["arcface"]]}},
        {"dataset": "digits"},
        {"dataset": {"name": 3}},
        {"search_spaces": []},
        {"search_spaces": {"arcface": 4}},
        {"confirmation": []},
        {"confirmation": {"seeds": "ten"}},
        {"confirmation": {"seeds": 3, "history": [1]}},
    ],
    ids=repr,
)
def test_an_edited_run_file_is_named(new_run, parts):
    run = new_run()
    run.rewrite(**parts)
    with pytest.raises(RecordError, match=r"run\.json.*damaged or edited"):
        load_run(run.folder)


def test_a_loss_is_no_way_out_of_the_folder(new_run):
    run = new_run()
    run.info["settings"]["losses"] = ["../arcface"]
    run.rewrite(search_spaces={"../arcface": {"dimensions": 1}})
    with pytest.raises(RecordError, match="is no name of a loss"):
        load_run(run.folder)


@pytest.mark.parametrize("name", ["run.json", "confirm.jsonl", "arcface/epochs.jsonl"])
def test_endless_nesting_is_said_in_one_line(new_run, name):
    run = new_run()
    path = run.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(RecordError, match=path.name):
        load_run(run.folder)


@pytest.mark.parametrize("name", ["confirm.jsonl", "arcface/trials.jsonl", "winner_arcface.json"])
def test_a_folder_in_place_of_a_file(new_run, name):
    run = new_run()
    (run.folder / name).mkdir(parents=True)
    with pytest.raises(RecordError, match="cannot be read"):
        load_run(run.folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match=r"nosuch: there is no such folder"):
        load_run(tmp_path / "nosuch")


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file: there is no such folder"):
        load_run(tmp_path / "file")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RecordError, match=r"holds no run \(run.json is missing\)"):
        load_run(tmp_path)


def test_a_run_file_of_another_program(tmp_path):
    write_json(tmp_path / "run.json", {"settings": {}, "dataset": {}})
    with pytest.raises(RecordError, match=r"run.json: was not written by this program \(invocations, search_spaces "):
        load_run(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_broken_run_file(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RecordError, match=r"run\.json"):
        load_run(tmp_path)


def test_a_run_of_another_format(new_run):
    run = new_run()
    write_json(run.folder / "run.json", {**run.info, "format": 2})
    with pytest.raises(RecordError, match="format 2, of another version"):
        load_run(run.folder)
