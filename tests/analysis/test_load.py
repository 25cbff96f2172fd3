import json
import math

import pytest

from analysis.load import SEED_RUN_COLUMNS, load_run
from tune.records import RecordError, RecordFile, write_json


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


# --- Confirmation ----------------------------------------------------------------------------------------------------


def test_a_search_without_confirmation_has_none(new_run):
    run = load_run(new_run().folder)
    assert run.confirmation is None
    assert list(run.seed_runs.columns) == SEED_RUN_COLUMNS
    assert (len(run.seed_runs), len(run.seed_epochs), run.winners) == (0, 0, {})
    assert {"run_id", "epoch"} <= set(run.seed_epochs.columns)
    assert run.arms("winner") == []
    assert run.accuracies("winner", "arcface").empty


def test_chance_is_one_of_the_classes(new_run):
    run = load_run(new_run().folder)
    assert run.num_classes == 10
    assert run.chance == 0.1


def test_a_seed_run_is_one_row(new_run):
    run = new_run()
    run_id = run.seed_run("winner", "arcface", 0, 0.95, curve=[{"epoch": 1, "train_accuracy": 0.5}])
    (row,) = load_run(run.folder).seed_runs.to_dict("records")
    assert row["run_id"] == run_id
    assert (row["role"], row["arm"], row["pair"], row["seed"]) == ("winner", "arcface", 0, 1000)
    assert (row["test_accuracy"], row["accuracy"], row["failed"]) == (0.95, 0.95, False)
    assert row["config"] == {"loss": "arcface", "loss_args": {}}
    assert row["curve"] == [{"epoch": 1, "train_accuracy": 0.5}]


@pytest.mark.parametrize("role", ["candidate", "winner", "untuned", "control", "robustness"])
def test_an_arm_is_judged_on_the_split_of_its_role(new_run, role):
    run = new_run()
    run.seed_runs(role, "arcface", [0.9, 0.8, 0.7], trial_id="arcface-0000")
    accuracies = load_run(run.folder).accuracies(role, "arcface", "arcface-0000")
    assert accuracies.to_dict() == {0: 0.9, 1: 0.8, 2: 0.7}


@pytest.mark.parametrize("fields", [{}, {"error": None}, {"test_accuracy": 0.9, "error": "broke"}])
def test_a_failed_run_counts_at_chance(new_run, fields):
    run = new_run()
    run.seed_run("winner", "arcface", 0, 0.9)
    run.seed_run("winner", "arcface", 1, None, **fields)
    loaded = load_run(run.folder)
    assert loaded.accuracies("winner", "arcface").to_dict() == {0: 0.9, 1: 0.1}
    assert loaded.seed_runs["failed"].tolist() == [False, True]


def test_pairs_are_in_order_and_the_newest_of_equals_counts(new_run):
    run = new_run()
    for pair, accuracy in ((2, 0.7), (0, 0.5), (1, 0.6), (0, 0.55)):
        run.seed_run("winner", "arcface", pair, accuracy)
    run.seed_run("winner", "arcface", 1, 0.65, run_id="another-id")
    accuracies = load_run(run.folder).accuracies("winner", "arcface")
    assert list(accuracies.items()) == [(0, 0.55), (1, 0.65), (2, 0.7)]


def test_candidates_share_seeds_and_the_winner_stands_for_its_loss(new_run):
    run = new_run()
    for number, accuracy in ((3, 0.8), (5, 0.9)):
        trial_id = f"arcface-{number:04d}"
        run.seed_run("candidate", "arcface", 0, accuracy, run_id=f"candidate-{trial_id}-0", trial_id=trial_id)
    assert load_run(run.folder).accuracies("candidate", "arcface").empty
    winner = {"trial_id": "arcface-0005", "config": {}, "candidates": [{"trial_id": "arcface-0005", "seeds": [1]}]}
    write_json(run.folder / "winner_arcface.json", winner)
    loaded = load_run(run.folder)
    assert loaded.winners == {"arcface": winner}
    assert loaded.accuracies("candidate", "arcface").tolist() == [0.9]
    assert loaded.accuracies("candidate", "arcface", "arcface-0003").tolist() == [0.8]


@pytest.mark.parametrize("role", ["winner", "control"])
def test_runs_of_an_earlier_winner_are_not_those_of_the_present_one(new_run, role):
    run = new_run("run", ("adaloss",))
    for number, accuracies in ((1, [0.5, 0.5, 0.5]), (2, [0.9, 0.8])):
        for pair, accuracy in enumerate(accuracies):
            run_id = f"{role}-adaloss-{number:04d}-{pair}"
            run.seed_run(role, "adaloss", pair, accuracy, run_id=run_id, trial_id=f"adaloss-{number:04d}")
    write_json(run.folder / "winner_adaloss.json", {"trial_id": "adaloss-0002", "config": {}})
    loaded = load_run(run.folder)
    assert loaded.accuracies(role, "adaloss").tolist() == [0.9, 0.8]
    assert loaded.accuracies(role, "adaloss", "adaloss-0001").tolist() == [0.5, 0.5, 0.5]
    run.seed_run(role, "adaloss", 2, 0.7, run_id="of-no-trial", trial_id=None)
    assert load_run(run.folder).accuracies(role, "adaloss").tolist() == [0.9, 0.8, 0.7]


def test_arms_are_in_the_order_asked_for_and_others_by_name(new_run):
    run = new_run("run", ("softmax", "adaloss", "arcface"))
    for arm in ("gated", "arcface", "adaloss"):
        run.seed_run("robustness", arm, 0)
    run.seed_run("winner", "softmax", 0)
    loaded = load_run(run.folder)
    assert loaded.arms("robustness") == ["adaloss", "arcface", "gated"]
    assert loaded.arms("winner") == ["softmax"]


def test_epochs_of_seed_runs_count_once_and_the_later_counts(new_run):
    run = new_run()
    file = RecordFile(run.folder / "confirm" / "epochs.jsonl")
    for epoch, accuracy in ((1, 0.1), (2, 0.2), (2, 0.25)):
        file.append({"run_id": "a", "epoch": epoch, "train_accuracy": accuracy, "margin_steps_rad": [0.1, 0.2]})
    epochs = load_run(run.folder).seed_epochs
    assert list(zip(epochs["epoch"], epochs["train_accuracy"], strict=True)) == [(1, 0.1), (2, 0.25)]


@pytest.mark.parametrize("name", ["confirm.jsonl", "confirm/epochs.jsonl"])
def test_a_confirmation_cut_off_in_a_line_is_read_up_to_it(new_run, name):
    run = new_run()
    run.seed_run("winner", "arcface", 0, 0.9)
    path = run.folder / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write('{"run_id": "winner-arcface-2", "role": "win')
    assert load_run(run.folder).accuracies("winner", "arcface").tolist() == [0.9]


HISTOGRAMS = {when: {"own": [1] * 90, "nearest_other": [1] * 90} for when in ("before", "after")}


@pytest.mark.parametrize(
    "fields",
    [
        {"run_id": None},
        {"role": "champion"},
        {"role": ["winner"]},
        {"arm": 3},
        {"pair": 0.5},
        {"pair": -1},
        {"seed": "one"},
        {"config": [1, 2]},
        {"config": None},
        {"epochs": None},
        {"seconds": -1.0},
        {"test_accuracy": 99.1},
        {"test_accuracy": "0.9"},
        {"val_accuracy": -0.1},
        {"test_loss": "low"},
        {"confusion": [[1, 2], [3, 4]]},
        {"confusion": [[1] * 10] * 9 + [[1] * 9]},
        {"confusion": [[0.5] * 10] * 10},
        {"confusion": [[-1] * 10] * 10},
        {"confusion": [[10**30] * 10] * 10},
        {"confusion": {"rows": 10}},
        {"angle_histograms": [1]},
        {"angle_histograms": {"before": HISTOGRAMS["before"]}},
        {"angle_histograms": {**HISTOGRAMS, "after": {"own": [1] * 90, "nearest_other": [1] * 89}}},
        {"angle_histograms": {**HISTOGRAMS, "after": 5}},
        {"curve": {"epoch": 1}},
        {"curve": [{"train_accuracy": 0.5}]},
        {"curve": [{"epoch": 1, "train_accuracy": 5}]},
        {"curve": [None]},
        {"error": {"type": "ValueError"}},
    ],
    ids=lambda fields: repr(fields)[:60],
)
def test_a_seed_run_that_no_confirmation_writes_is_named(new_run, fields):
    run = new_run()
    run.seed_run("winner", "arcface", 0, confusion=[[1] * 10] * 10, angle_histograms=HISTOGRAMS)
    assert len(load_run(run.folder).seed_runs) == 1
    path, key = run.folder / "confirm.jsonl", next(iter(fields))
    RecordFile(path).append({**json.loads(path.read_text()), **fields})
    with pytest.raises(RecordError) as error:
        load_run(run.folder)
    assert str(error.value).startswith(f"{path}, line 2: '{key}' is ")
    assert "damaged or edited" in str(error.value)


@pytest.mark.parametrize("field", ["run_id", "role", "arm", "pair", "seed", "config", "epochs", "seconds"])
def test_a_seed_run_that_lacks_a_field_is_named(new_run, field):
    run = new_run()
    run.seed_run("winner", "arcface", 0)
    path = run.folder / "confirm.jsonl"
    record = json.loads(path.read_text())
    del record[field]
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(RecordError, match=rf"confirm\.jsonl, line 1: lacks '{field}'"):
        load_run(run.folder)


@pytest.mark.parametrize(
    "winner", [{}, {"trial_id": 1, "config": {}}, {"trial_id": "a", "config": {}, "candidates": [1]}]
)
def test_a_winner_that_no_confirmation_writes_is_named(new_run, winner):
    run = new_run()
    write_json(run.folder / "winner_arcface.json", winner)
    with pytest.raises(RecordError, match=r"winner_arcface\.json: "):
        load_run(run.folder)


def test_without_classes_chance_is_unknown_and_that_is_said(new_run):
    run = new_run()
    del run.info["dataset"]["classes"]
    run.rewrite()
    assert load_run(run.folder).num_classes == 0
    run.seed_run("winner", "arcface", 0)
    with pytest.raises(RecordError, match="does not name the classes"):
        load_run(run.folder)


# --- The example that other tests draw from --------------------------------------------------------------------------


def test_the_example_is_a_whole_run(example_run):
    run = load_run(example_run(robustness=4))
    assert set(run.trials["state"]) == {"finished", "stopped", "failed"}
    for role, arms in {"winner": 3, "untuned": 2, "control": 6, "robustness": 4, "candidate": 3}.items():
        assert len(run.arms(role)) == arms
    assert set(run.winners) == set(run.losses)
    assert len(run.accuracies("winner", "adaloss")) == run.confirmation["seeds"] == 10
    tested = run.seed_runs[run.seed_runs["role"] == "winner"]
    for _, row in tested.iterrows():
        diagonal = sum(row["confusion"][i][i] for i in range(10))
        assert diagonal / sum(map(sum, row["confusion"])) == pytest.approx(row["test_accuracy"])
        assert row["curve"][-1]["epoch"] == row["epochs"]
        assert "val_accuracy" not in row["curve"][-1]
    steps = run.seed_epochs.dropna(subset="margin_steps_rad")
    assert set(steps["run_id"]) == {f"winner-adaloss-{200_000 + pair}" for pair in range(10)}


def test_the_example_of_a_running_search_has_ends_that_are_open(example_run):
    run = load_run(example_run(dataset="mnist", finished=False))
    assert (run.trials["state"] == "unfinished").sum() == len(run.losses)
    assert len(run.accuracies("winner", "adaloss")) < run.confirmation["seeds"]
    assert set(run.seed_epochs["run_id"]) - set(run.seed_runs["run_id"])


def test_the_example_is_the_same_again(tmp_path, example_run):
    import optuna

    from tests.analysis.example_run import write_example_run

    again = load_run(write_example_run(tmp_path / "again", seeds=2, trials=6, robustness=2))
    first = load_run(example_run(seeds=2, trials=6, robustness=2))
    other = load_run(example_run(seeds=2, trials=6, robustness=2, seed=1))
    assert again.seed_runs.equals(first.seed_runs)
    assert again.trials.equals(first.trials)
    assert not other.seed_runs.equals(first.seed_runs)
    study = optuna.load_study(study_name="cifar10-adaloss", storage=f"sqlite:///{again.folder / 'study.db'}")
    states = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
    recorded = again.trials[again.trials["loss"] == "adaloss"]["state"].tolist()
    assert [states[trial.state.name] for trial in study.trials] == recorded
    assert all(trial.intermediate_values for trial in study.trials)
