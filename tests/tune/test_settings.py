import json
import math
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from search_spaces import SEARCH_SPACES
from trainables.config import PRECISIONS
from trainables.data import DATASETS
from trainables.errors import UserError
from trainables.registry import MODELS
from tune.budgets import default_budget
from tune.records import RecordError, write_json
from tune.settings import (
    DEFAULT_LOSSES,
    RUN_FILE,
    SearchSettings,
    check_name,
    check_output,
    load_settings,
)

GOOD = SearchSettings(
    dataset="digits",
    data_dir=None,
    losses=("arcface", "adaloss"),
    model="ArcFaceCNN",
    trials=12,
    max_epochs=20,
    grace_epochs=3,
    reduction_factor=3.0,
    time_budget_min=None,
    train_size=None,
    batch_size=64,
    precision="auto",
    cpus_per_trial=None,
    gpus_per_trial=None,
    max_concurrent=None,
    output="results",
    name="digits-1",
    storage=None,
    address=None,
    seed=0,
)


def error_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- One value at a time ---------------------------------------------------------------------------------------------


def test_good_settings_pass():
    GOOD.validate()


@pytest.mark.parametrize(
    "edge",
    [
        {"trials": 1, "max_epochs": 1, "grace_epochs": 1},
        {"grace_epochs": 20},
        {"reduction_factor": 1.5},
        {"time_budget_min": 0.01, "train_size": 2, "cpus_per_trial": 0.5, "max_concurrent": 1},
        {"gpus_per_trial": 0.0},
        {"gpus_per_trial": 0.125},
        {"gpus_per_trial": 2.0},
        {"batch_size": 2, "seed": 2**40},
        {"losses": tuple(SEARCH_SPACES)},
        {"reference": "adaloss"},
        {"model": ""},
        {"model": "resnet9"},
        {"name": "a"},
        {"name": "x" * 100},
    ],
    ids=lambda edge: ",".join(edge),
)
def test_the_edge_of_what_is_allowed_passes(edge):
    replace(GOOD, **edge).validate()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_passes(precision):
    replace(GOOD, precision=precision).validate()


BAD = [
    ("losses", ("arcfase",), ["unknown loss 'arcfase'", "did you mean arcface?", *SEARCH_SPACES]),
    ("losses", ("zzz",), ["unknown loss 'zzz'; known: "]),
    ("reference", "softmx", ["--reference 'softmx' is none of the losses", "arcface, adaloss"]),
    ("reference", "adalos", ["--reference 'adalos'", "did you mean adaloss?"]),
    ("losses", ("softmax", "arcface", "softmax"), ["--loss", "once", "softmax, arcface, softmax"]),
    ("model", "ResNet-9", ["unknown model 'ResNet-9'", "did you mean resnet9?", "ArcFaceCNN_CIFAR10"]),
    ("trials", 0, ["--trials must be positive", "0"]),
    ("trials", -3, ["--trials", "-3"]),
    ("max_epochs", 0, ["--max-epochs must be positive"]),
    ("grace_epochs", 0, ["--grace-epochs must be positive"]),
    ("time_budget_min", 0.0, ["--time-budget must be positive"]),
    ("time_budget_min", math.nan, ["--time-budget", "nan"]),
    ("time_budget_min", math.inf, ["--time-budget", "inf"]),
    ("train_size", 0, ["--train-size must be positive"]),
    ("cpus_per_trial", 0.0, ["--cpus-per-trial must be positive"]),
    ("cpus_per_trial", math.inf, ["--cpus-per-trial", "inf"]),
    ("max_concurrent", 0, ["--max-concurrent must be positive"]),
    ("train_size", 1, ["--train-size must be at least 2"]),
    ("checkpoint_interval_s", -1.0, ["--checkpoint-interval must be 0 or more seconds, got -1"]),
    ("checkpoint_interval_s", math.nan, ["--checkpoint-interval"]),
    ("niceness", -1, ["--niceness must be between 0 and 19, got -1"]),
    ("niceness", 20, ["--niceness"]),
    ("batch_size", 1, ["--batch-size must be at least 2", "batch norm", "got 1"]),
    ("gpus_per_trial", -0.5, ["--gpus-per-trial must be 0 or more", "-0.5"]),
    ("gpus_per_trial", math.nan, ["--gpus-per-trial", "nan"]),
    ("gpus_per_trial", 1.5, ["--gpus-per-trial", "whole number", "1.5"]),
    ("grace_epochs", 21, ["--grace-epochs 21 is more than --max-epochs 20", "lower it"]),
    ("reduction_factor", 1.0, ["--reduction-factor must be at least 1.1", "got 1"]),
    ("reduction_factor", math.nan, ["--reduction-factor", "nan"]),
    ("reduction_factor", math.inf, ["--reduction-factor", "inf"]),
    ("precision", "fp8", ["--precision must be one of auto, bf16, fp16, float32", "'fp8'"]),
    ("seed", -1, ["--seed must be 0 or more", "-1"]),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=lambda value: str(value)[:30])
def test_a_bad_value_is_named_with_what_to_do(name, value, words):
    message = error_of(replace(GOOD, **{name: value}).validate)
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "", "a b", "a\n", "-x", "ü", "x" * 101])
def test_a_name_that_is_no_plain_folder_name_is_refused(name):
    assert "--name must be" in error_of(replace(GOOD, name=name).validate)
    assert repr(name) in error_of(check_name, name)


# --- Defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [*DATASETS, "."])
def test_the_default_budget_of_every_data_set_is_valid(dataset):
    budget = default_budget(dataset)
    replace(
        GOOD,
        dataset=dataset,
        losses=DEFAULT_LOSSES,
        trials=budget.trials,
        max_epochs=budget.max_epochs,
        grace_epochs=budget.grace_epochs,
        batch_size=budget.batch_size,
        model=budget.model,
    ).validate()
    if budget.model:
        assert DATASETS[dataset].image_shape in MODELS[budget.model].image_shapes
    assert budget.grace_epochs < budget.max_epochs, "nothing could be stopped early"


# --- Where things go -------------------------------------------------------------------------------------------------


def test_checkpoints_go_into_the_runs_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert GOOD.folder == Path("results/digits-1")
    assert GOOD.checkpoint_root == str(tmp_path.resolve() / "results/digits-1/checkpoints")


@pytest.mark.parametrize(
    ("storage", "root"),
    [
        ("s3://bucket/runs/", "s3://bucket/runs/digits-1"),
        ("s3://bucket?endpoint_override=minio:9000", "s3://bucket/digits-1?endpoint_override=minio:9000"),
        ("/mnt/shared", "/mnt/shared/digits-1"),
    ],
)
def test_storage_gets_a_folder_of_the_runs_name(storage, root):
    assert replace(GOOD, storage=storage).checkpoint_root == root


def test_a_relative_storage_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert replace(GOOD, storage="shared").checkpoint_root == str(tmp_path.resolve() / "shared/digits-1")


# --- Going on with a run ---------------------------------------------------------------------------------------------

FIXED = {
    "dataset": ("mnist", "--dataset mnist", "digits"),
    "losses": (("softmax",), "--loss softmax", "arcface, adaloss"),
    "model": ("resnet9", "--model resnet9", "ArcFaceCNN"),
    "max_epochs": (30, "--max-epochs 30", "20"),
    "grace_epochs": (1, "--grace-epochs 1", "3"),
    "reduction_factor": (2.0, "--reduction-factor 2.0", "3.0"),
    "train_size": (100, "--train-size 100", "default"),
    "batch_size": (128, "--batch-size 128", "64"),
    "precision": ("float32", "--precision float32", "auto"),
    "storage": ("/mnt/shared", "--storage /mnt/shared", "default"),
    "seed": (7, "--seed 7", "0"),
    "reference": ("adaloss", "--reference adaloss", "default"),
    "again": ({"trial": "results/x/arcface-0001"}, "--again {'trial': 'results/x/arcface-0001'}", "default"),
}
MOVED = {
    "data_dir": "elsewhere",
    "time_budget_min": 5.0,
    "cpus_per_trial": 2.0,
    "gpus_per_trial": 0.5,
    "max_concurrent": 3,
    "checkpoint_interval_s": 60.0,
    "niceness": 19,
    "output": "other",
    "name": "other-2",
    "address": "auto",
}


def test_every_setting_is_either_fixed_or_movable():
    others = {"trials", "study_storage", "own_losses"}  # whose code is compared, tests/tune/test_own_losses.py
    assert set(FIXED) | set(MOVED) | others == {field.name for field in fields(SearchSettings)}


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_setting_that_differs_is_refused_with_both_values(name):
    value, option, before = FIXED[name]
    message = error_of(GOOD.resumed, {name: value}, None)
    assert option in message
    assert f"the run's {before};" in message
    assert "leave the option out" in message


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_setting_may_be_repeated(name):
    assert GOOD.resumed({name: getattr(GOOD, name)}, None) == GOOD


@pytest.mark.parametrize("name", MOVED)
def test_a_movable_setting_is_taken_over(name):
    assert GOOD.resumed({name: MOVED[name]}, None) == replace(GOOD, **{name: MOVED[name]})


def test_a_folder_of_images_may_have_moved_and_is_no_known_data_set():
    mine = replace(GOOD, dataset="images")
    assert mine.resumed({"dataset": "/mnt/images"}, None).dataset == "/mnt/images"
    assert mine.resumed({}, None).dataset == "images"
    assert "--dataset digits differs from the run's images;" in error_of(mine.resumed, {"dataset": "digits"}, None)
    assert "--dataset images differs from the run's digits;" in error_of(GOOD.resumed, {"dataset": "images"}, None)


def test_more_trials_come_from_extend_alone():
    message = error_of(GOOD.resumed, {"trials": 20}, None)
    assert "--trials 20 differs from the run's 12" in message
    assert "--extend" in message
    assert GOOD.resumed({"trials": 12}, None).trials == 12
    assert GOOD.resumed({}, 5) == replace(GOOD, trials=17)
    assert GOOD.resumed({"trials": 12}, 5).trials == 17


def test_studies_may_move_to_another_server_and_not_between_a_file_and_a_database():
    there, elsewhere = "postgresql://u@there/db", "postgresql://u@elsewhere/db"
    assert replace(GOOD, study_storage=there).resumed({"study_storage": elsewhere}, None).study_storage == elsewhere
    assert replace(GOOD, study_storage=there).resumed({}, None).study_storage == there
    message = error_of(GOOD.resumed, {"study_storage": there}, None)
    assert message.startswith("--study-storage: ")
    assert "study.db" in message


@pytest.mark.parametrize("extend", [0, -1])
def test_extend_must_add(extend):
    assert f"--extend must be positive, got {extend}" in error_of(GOOD.resumed, {}, extend)


# --- run.json --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [GOOD, replace(GOOD, **MOVED, train_size=5, storage="s3://b/c", model="resnet9")])
def test_settings_survive_json(settings):
    assert SearchSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_run_from_before_there_were_databases_and_references_has_the_defaults():
    values = GOOD.to_dict()
    del values["study_storage"], values["reference"]
    assert SearchSettings.from_dict(values) == GOOD


def test_a_password_that_somebody_wrote_into_a_runs_file_is_refused():
    message = error_of(replace(GOOD, study_storage="postgresql://u:secret@h/db").validate)
    assert f"results/digits-1/{RUN_FILE} holds a password" in message
    assert "secret" not in message
    replace(GOOD, study_storage="postgresql://u@h/db").validate()


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_settings_of_another_version_are_refused(change):
    values = GOOD.to_dict()
    if change == "more":
        values["colour"] = 1
    else:
        del values["seed"]
    message = error_of(SearchSettings.from_dict, values)
    assert "another version" in message
    assert ("colour" if change == "more" else "seed") in message


def test_settings_are_loaded_from_a_runs_folder(tmp_path):
    write_json(tmp_path / RUN_FILE, {"settings": GOOD.to_dict()})
    assert load_settings(tmp_path) == GOOD


def test_a_folder_without_a_run_is_refused(tmp_path):
    message = error_of(load_settings, tmp_path / "nosuch")
    assert "nosuch" in message
    assert "--name" in message


@pytest.mark.parametrize("content", [{}, {"settings": []}])
def test_a_run_file_of_something_else_is_refused(content, tmp_path):
    write_json(tmp_path / RUN_FILE, content)
    assert RUN_FILE in error_of(load_settings, tmp_path)


def test_a_broken_run_file_is_named(tmp_path):
    (tmp_path / RUN_FILE).write_text("{")
    with pytest.raises(RecordError, match=RUN_FILE):
        load_settings(tmp_path)


# --- Whether the folder can be made ----------------------------------------------------------------------------------


def test_a_folder_that_can_be_made_passes_and_is_not_made(tmp_path):
    check_output(replace(GOOD, output=str(tmp_path / "a" / "b")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["file", "file/below", "folder"])
def test_a_file_in_the_way_is_named(output, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / GOOD.name).touch()
    message = error_of(check_output, replace(GOOD, output=str(tmp_path / output)))
    blocking = tmp_path / "folder" / GOOD.name if output == "folder" else tmp_path / "file"
    assert message == f"--output: {blocking} is a file, not a folder"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert (
        error_of(check_output, replace(GOOD, output=str(tmp_path / "new"))) == f"--output: {tmp_path} is not writable"
    )


def test_a_path_that_is_too_long_is_named(tmp_path):
    assert "cannot be reached" in error_of(check_output, replace(GOOD, output=str(tmp_path / ("x" * 300))))
