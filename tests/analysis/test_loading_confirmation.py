"""What is read of a confirmation, and of the example that other tests draw from."""

import json

import pytest

from analysis.loading import SEED_RUN_COLUMNS, load_run
from tune.records import RecordError, RecordFile, write_json


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


def test_which_images_were_right_is_a_row_a_pair(example_run):
    run = load_run(example_run())
    correct, accuracies = run.correct_images("winner", "adaloss"), run.accuracies("winner", "adaloss")
    assert correct.index.tolist() == accuracies.index.tolist()
    assert correct.shape[1] == 10_000
    assert correct.mean(axis=1).tolist() == pytest.approx(accuracies.tolist())


def test_a_run_that_failed_or_is_of_an_earlier_version_has_no_images(new_run):
    run = new_run()
    run.seed_run("winner", "arcface", 0, 0.9)
    run.seed_run("winner", "arcface", 1, None)
    assert load_run(run.folder).correct_images("winner", "arcface").empty


def test_images_that_do_not_fit_the_counts_are_an_error(new_run):
    run = new_run()
    confusion = [[9 if row == column == 0 else 0 for column in range(10)] for row in range(10)]
    run.seed_run("winner", "arcface", 0, 0.9, confusion=confusion, correct_bits="7w==")
    with pytest.raises(RecordError, match="8, not 9"):
        load_run(run.folder).correct_images("winner", "arcface")


def test_runs_that_were_tested_on_different_images_are_edited_records(new_run):
    run = new_run()
    for pair, images in enumerate((3, 4)):
        confusion = [[images] + [0] * 9, *[[0] * 10] * 9]
        run.seed_run("winner", "arcface", pair, 1.0, confusion=confusion, correct_bits="4A==")
    with pytest.raises(RecordError, match="runs of arcface were tested on different images"):
        load_run(run.folder).correct_images("winner", "arcface")
