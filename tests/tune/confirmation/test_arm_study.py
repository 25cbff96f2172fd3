import math

import pytest

from tune.confirmation.arm_study import ArmStudy, ConfirmRecords, SeedRun, accuracy_of
from tune.study import Checkpoint

EPOCHS = 3
CONFIG = {"loss": "adaloss", "learning_rate": 0.1, "loss_args": {"scale": 8.0}}


def runs_of(count=2, role="winner", **rest):
    return [SeedRun(f"{role}-{pair}", role, "adaloss", pair, 100 + pair, CONFIG, **rest) for pair in range(count)]


def book_of(folder, runs=None, checkpoints=None):
    return ArmStudy(
        runs or runs_of(),
        ConfirmRecords(folder),
        max_epochs=EPOCHS,
        num_classes=10,
        checkpoints=checkpoints or {},
    )


def epoch(number, accuracy=0.9, **rest):
    return {
        "epoch": number,
        "train_loss": 1 / number,
        "train_accuracy": accuracy,
        "seconds": 2.0,
        "margin_steps_rad": [0.1 * number],
        "time_total_s": 5.0,  # of Ray
        **rest,
    }


def examined(accuracy=0.8):
    return {
        "test_accuracy": accuracy,
        "test_loss": 0.3,
        "ece": 0.05,
        "mean_confidence": 0.85,
        "confusion": [[3, 1], [0, 4]],
        "class_accuracy": [0.75, 1.0],
        "correct_bits": "7w==",
        **{f"angle_histograms/{when}/{of}": [1, 2] for when in ("before", "after") for of in ("own", "nearest_other")},
    }


def run_whole(study, accuracy=0.8):
    suggestion = study.ask()
    for number in range(1, EPOCHS):
        assert study.on_epoch(suggestion.number, epoch(number))
    assert not study.on_epoch(suggestion.number, epoch(EPOCHS, **examined(accuracy)))
    return suggestion.trial_id


def test_a_run_is_recorded_once_with_all_that_belongs_to_it(tmp_path):
    study = book_of(tmp_path)
    assert run_whole(study) == "winner-0"
    (result,) = ConfirmRecords(tmp_path).results.values()
    assert result.pop("time") > 0
    assert [entry["epoch"] for entry in result.pop("curve")] == [1, 2, 3]
    assert result == {
        "run_id": "winner-0",
        "role": "winner",
        "arm": "adaloss",
        "pair": 0,
        "seed": 100,
        "trial_id": None,
        "config": CONFIG,
        "epochs": 3,
        "seconds": 6.0,
        "val_accuracy": None,
        "test_accuracy": 0.8,
        "test_loss": 0.3,
        "ece": 0.05,
        "mean_confidence": 0.85,
        "confusion": [[3, 1], [0, 4]],
        "class_accuracy": [0.75, 1.0],
        "correct_bits": "7w==",
        "angle_histograms": {when: {"own": [1, 2], "nearest_other": [1, 2]} for when in ("before", "after")},
        "error": None,
    }
    assert (study.counts.finished, study.counts.best_accuracy) == (1, 0.8)


def test_a_run_needs_its_checkpoint_until_it_has_a_result_and_that_of_the_first_pair_for_its_weights(tmp_path):
    study = book_of(tmp_path, runs_of(4))
    run_whole(study)
    run_whole(study)
    broken, running = study.ask().number, study.ask().number
    study.on_error(broken, "its worker was lost")
    assert [study.needs_checkpoint(number) for number in (0, 1, broken, running)] == [True, False, True, True]
    study.requeue_running()
    assert study.needs_checkpoint(running)


def test_what_is_on_record_is_not_run_again(tmp_path):
    run_whole(book_of(tmp_path))
    again = book_of(tmp_path)
    assert (again.counts.asked, again.counts.finished, again.counts.best_accuracy) == (2, 1, 0.8)
    assert again.ask().trial_id == "winner-1"
    assert again.ask() is None
    run_whole(book_of(tmp_path))
    assert book_of(tmp_path).ask() is None
    assert len((tmp_path / "confirm.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("reached", [1, 2, 3])
def test_an_interrupted_run_goes_on_from_its_checkpoint_with_its_whole_curve(tmp_path, reached):
    study = book_of(tmp_path)
    number = study.ask().number
    for done in range(1, 3):
        study.on_epoch(number, epoch(done, 0.1 * done))
    study.requeue_running()
    assert not study.is_running(number)

    again = book_of(tmp_path, checkpoints={"winner-0": Checkpoint(reached, "place")})
    suggestion = again.ask()
    if reached == 3:  # the checkpoint is of an epoch that is not on record
        assert suggestion.checkpoint is None
        reached = 0
    else:
        assert suggestion.checkpoint == Checkpoint(reached, "place")
    for number in range(reached + 1, EPOCHS):
        again.on_epoch(suggestion.number, epoch(number, 0.1 * number))
    again.on_epoch(suggestion.number, epoch(EPOCHS, 0.1 * EPOCHS, **examined()))
    records = ConfirmRecords(tmp_path)
    curve = records.results["winner-0"]["curve"]
    assert [(e["epoch"], e["train_accuracy"]) for e in curve] == [(n, 0.1 * n) for n in (1, 2, 3)]
    assert "margin_steps_rad" not in curve[0]
    assert records.margin_steps_rad("winner-0") == [0.1 * n for n in (1, 2, 3)]


def test_a_kill_between_the_last_epoch_and_the_result_leaves_a_run_that_can_report_again(tmp_path):
    """The trainable gives the last epoch again, without training, from a checkpoint of it."""
    study = book_of(tmp_path)
    number = study.ask().number
    for done in range(1, EPOCHS + 1):
        study._records.append_epoch("winner-0", epoch(done))
    again = book_of(tmp_path, checkpoints={"winner-0": Checkpoint(EPOCHS, "place")})
    assert again.ask().checkpoint == Checkpoint(EPOCHS, "place")
    assert not again.on_epoch(number, epoch(EPOCHS, **examined()))
    assert [e["epoch"] for e in ConfirmRecords(tmp_path).results["winner-0"]["curve"]] == [1, 2, 3]


def test_epochs_that_ray_runs_again_after_a_lost_worker_replace_the_earlier_ones(tmp_path):
    study = book_of(tmp_path)
    number = study.ask().number
    study.on_epoch(number, epoch(1, 0.1))
    study.on_epoch(number, epoch(2, 0.2))
    study.on_restart(number, "worker lost")
    for again in (1, 2):
        study.on_epoch(number, epoch(again, 0.5))
    study.on_epoch(number, epoch(3, 0.5, **examined()))
    curve = ConfirmRecords(tmp_path).results["winner-0"]["curve"]
    assert [(e["epoch"], e["train_accuracy"]) for e in curve] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert ConfirmRecords(tmp_path).margin_steps_rad("winner-0") == [0.1 * n for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("result", "at"),
    [
        (epoch(2, math.nan, train_loss=math.nan), 2),
        (epoch(2, val_accuracy=math.nan), 2),
        (epoch(3, **{**examined(math.nan), "test_loss": math.nan}), 3),
    ],
)
def test_a_diverged_run_is_a_result_and_counts_at_chance(tmp_path, result, at):
    study = book_of(tmp_path)
    number = study.ask().number
    for done in range(1, at):
        study.on_epoch(number, epoch(done))
    assert not study.on_epoch(number, result)
    recorded = ConfirmRecords(tmp_path).results["winner-0"]
    assert "diverged" in recorded["error"]
    assert recorded["test_accuracy"] is None
    assert recorded["val_accuracy"] is None
    assert accuracy_of(recorded, 0.1) == 0.1
    assert study.counts.best_accuracy == 0.1
    assert book_of(tmp_path).ask().trial_id == "winner-1"


@pytest.mark.parametrize("end", ["error", "lost"])
def test_a_run_that_broke_has_no_result_and_is_tried_again(tmp_path, end):
    study = book_of(tmp_path)
    number = study.ask().number
    if end == "error":
        assert not study.on_epoch(number, {"epoch": 1, "error": "MemoryError"})
    else:
        study.on_error(number, "MemoryError")
    assert study.broken == {"winner-0": "MemoryError"}
    assert (study.counts.failed, study.is_running(number)) == (1, False)
    assert ConfirmRecords(tmp_path).results == {}
    assert book_of(tmp_path).ask().trial_id == "winner-0"


def test_a_run_may_train_with_more_than_its_record_describes(tmp_path):
    runs = runs_of(1, "control", loss_args={"scale": 8.0, "margins_rad": [0.0, 0.1]})
    study = book_of(tmp_path, runs)
    assert study.ask().config == {**CONFIG, "loss_args": {"scale": 8.0, "margins_rad": [0.0, 0.1]}}
    for done in range(1, EPOCHS):
        study.on_epoch(0, epoch(done))
    study.on_epoch(0, epoch(EPOCHS, **examined()))
    records = ConfirmRecords(tmp_path)
    assert records.results["control-0"]["config"] == CONFIG
    assert "margin_steps_rad" not in records.read_epochs("control-0")[0]  # only what a replay needs is kept


def test_there_is_no_early_stopping(tmp_path):
    study = book_of(tmp_path)
    with pytest.raises(AssertionError):
        study.stop(study.ask().number, "time budget")


def test_a_run_that_was_put_back_is_the_next_and_counts_once(tmp_path):
    study = book_of(tmp_path)
    first, second = study.ask(), study.ask()
    study.on_epoch(first.number, epoch(1))
    study.requeue(first.number, "CUDA out of memory")
    assert (study.counts.requeued, list(study.counts.running), study.broken) == ({first.number}, [second.number], {})
    study.set_checkpoints({first.trial_id: Checkpoint(1, "somewhere")})
    again = study.ask()
    assert (again.number, again.checkpoint) == (first.number, Checkpoint(1, "somewhere"))
    assert study.counts.requeued == set()
    assert study.ask() is None
    for number in (2, 3):
        study.on_epoch(first.number, epoch(number, **(examined() if number == EPOCHS else {})))
    (result,) = ConfirmRecords(tmp_path).results.values()
    assert [entry["epoch"] for entry in result["curve"]] == [1, 2, 3]


@pytest.mark.parametrize("diverged", [False, True])
def test_where_a_run_ran_stands_in_its_result(tmp_path, diverged):
    place = {"device": "Some GPU", "precision": "bf16", "gpus": 0.25}
    study = book_of(tmp_path, runs_of(1))
    number = study.ask().number
    for count in range(1, EPOCHS):
        study.on_epoch(number, epoch(count, **place))
    last = {"train_loss": float("nan")} if diverged else examined()
    study.on_epoch(number, epoch(EPOCHS, **last, **place))
    (result,) = ConfirmRecords(tmp_path).results.values()
    assert (result["error"] is not None) == diverged
    assert {key: result[key] for key in place} == place
    assert not set(place) & set(result["curve"][0])


def test_the_epochs_to_go_are_those_of_runs_without_a_result(tmp_path):
    run_whole(book_of(tmp_path, runs_of(1)))
    saved = {"winner-1": Checkpoint(2, "somewhere")}
    study = book_of(tmp_path, runs_of(4), saved)  # the first is done, the second goes on after two of three epochs
    assert study.epochs_to_go() == 1 + 3 + 3
    broken = study.ask().number
    study.on_error(broken, "lost")
    assert study.epochs_to_go() == 3 + 3
    number = study.ask().number
    for count, left in ((1, 2), (2, 1)):
        study.on_epoch(number, epoch(count))
        assert study.epochs_to_go() == left + 3
    study.on_epoch(number, epoch(EPOCHS, **examined()))
    assert study.epochs_to_go() == 3
    run_whole(study)
    assert study.epochs_to_go() == 0
