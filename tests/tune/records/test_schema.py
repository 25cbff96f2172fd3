"""Who writes and who reads a run's records mean the same."""

import json

import pytest

from analysis.loading import SEED_RUN_COLUMNS
from tests.tune.search.invented_trials import StudyOnDisk, record, run_trial
from tune.confirmation.arm_study import ArmStudy, ConfirmRecords, SeedRun
from tune.records import RecordError, checked_records, schema
from tune.records.schema import (
    ENDINGS,
    EPOCH_FIELDS,
    EPOCHS_FILE,
    PLACE_FIELDS,
    SEED_EPOCH_FIELDS,
    SEED_EPOCHS_FILE,
    SEED_RUNS_FILE,
    TRIAL_EPOCH_FIELDS,
    TRIAL_EVENT_FIELDS,
    TRIALS_FILE,
    seed_run_fields,
)


@pytest.mark.parametrize("fields", [TRIAL_EPOCH_FIELDS, SEED_EPOCH_FIELDS])
def test_whatever_an_epoch_says_is_checked(fields):
    assert set(EPOCH_FIELDS) <= set(fields)


def test_what_a_search_writes_is_what_readers_want(tmp_path):
    study = StudyOnDisk(tmp_path, trials=3).open()
    run_trial(study, study.ask())
    study.on_epoch(study.ask().number, {"epoch": 1, "val_accuracy": float("nan"), "seconds": 1.0})
    study.stop(study.ask().number, "time budget")
    events = checked_records(tmp_path / "arcface" / TRIALS_FILE, TRIAL_EVENT_FIELDS)
    epochs = checked_records(tmp_path / "arcface" / EPOCHS_FILE, TRIAL_EPOCH_FIELDS)
    assert {event["event"] for event in events} == {"started", "finished", "failed"}
    assert {event["event"] for event in events} - {"started"} <= set(ENDINGS)
    assert {epoch["val_accuracy"] is None for epoch in epochs} == {True, False}


def test_what_a_confirmation_writes_is_what_readers_want(tmp_path):
    records = ConfirmRecords(tmp_path)
    run = SeedRun("winner-0", "winner", "arcface", 0, 7, {"loss": "arcface"}, trial_id="arcface-0000")
    study = ArmStudy([run], records, max_epochs=2, num_classes=2, checkpoints={})
    number = study.ask().number
    place = dict(zip(PLACE_FIELDS, ("a processor", "float32", 0), strict=True))
    epoch = {"train_loss": 1.0, "train_accuracy": 0.5, "seconds": 1.0, "margin_steps_rad": [0.1], **place}
    histograms = {f"angle_histograms/{w}/{o}": [0] * 90 for w in ("before", "after") for o in ("own", "nearest_other")}
    tested = {"test_accuracy": 0.5, "test_loss": 0.7, "confusion": [[1, 1], [0, 2]], **histograms}
    tested |= {"class_accuracy": [0.5, None], "correct_bits": "cA==", "ece": 0.1, "mean_confidence": 0.6}
    assert study.on_epoch(number, {"epoch": 1, **epoch})
    assert not study.on_epoch(number, {"epoch": 2, **epoch, **tested})
    (result,) = checked_records(tmp_path / SEED_RUNS_FILE, seed_run_fields(2))
    assert set(seed_run_fields(2)) <= result.keys()
    assert set(SEED_RUN_COLUMNS) - result.keys() == {"accuracy", "failed"}  # these the reader adds
    assert [e["epoch"] for e in checked_records(tmp_path / SEED_EPOCHS_FILE, SEED_EPOCH_FIELDS)] == [1, 2]


@pytest.mark.parametrize("change", [{"epoch": -1}, {"val_accuracy": 1.5}, {"seconds": None}, {"trial_id": 3}])
def test_what_no_search_writes_is_refused_with_file_and_line(tmp_path, change):
    path = tmp_path / EPOCHS_FILE
    good = {"trial_id": "t", **record(1, 0.5)}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    with pytest.raises(RecordError, match=rf"{EPOCHS_FILE}, line 2: .*damaged or edited"):
        checked_records(path, TRIAL_EPOCH_FIELDS)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [(2.6e19, True), (-1.7e308, True), (3, True), (2**63, False), (float("nan"), False), (float("inf"), False)],
)
def test_a_loss_that_runs_away_is_a_number_and_no_damage(value, is_one):
    assert schema._is_number(value) == is_one
