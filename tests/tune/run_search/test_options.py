import re
from pathlib import Path

import pytest
import typer

from search_spaces import SEARCH_SPACES
from tests.tune.run_search.conftest import TEAM, WITH_SECRET
from tests.tune.told import steps_in, without_start
from trainables.config import PRECISIONS
from trainables.data import DATASETS
from trainables.registry import MODELS
from tune import run_search
from tune.budgets import default_budget
from tune.settings import DEFAULT_LOSSES, ConfirmSettings, SearchSettings


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_data_set_is_all_that_must_be_said(command, searched, dataset):
    code, out, err = command("--dataset", dataset)
    assert (code, err) == (0, "")
    asked, budget = searched.asked, default_budget(dataset)
    assert steps_in(out) == [f"loading Ray for {asked.folder}"]
    ended = f"compared {asked.folder}\n\npage: {asked.folder}/report.html\nrecords: {asked.folder}\n\nnext:\n"
    assert without_start(out).startswith(ended)
    assert asked.losses == DEFAULT_LOSSES
    assert (asked.trials, asked.max_epochs, asked.grace_epochs, asked.batch_size) == (
        budget.trials,
        budget.max_epochs,
        budget.grace_epochs,
        budget.batch_size,
    )
    assert asked.output == "results"
    assert asked.name.startswith(f"{dataset}-2")
    assert not searched.resume


@pytest.mark.parametrize(
    ("dataset", "start"),
    [("my images (new)", "my-images-new-2"), ("a/b.c/", "b.c-2"), ("..", ""), ("ü", "run-2"), ("x" * 200, "x" * 80)],
)
def test_a_run_on_a_folder_gets_a_valid_name_whatever_the_folder_is_called(command, searched, dataset, start):
    Path(dataset).mkdir(parents=True, exist_ok=True)
    assert command("--dataset", dataset)[0] == 0
    assert searched.asked.name.startswith(start)


def test_every_option_arrives(command, searched):
    given = {
        "dataset": "cifar10", "data_dir": "d", "losses": ("softmax", "norm_softmax"), "model": "resnet9", "trials": 3,
        "max_epochs": 9, "grace_epochs": 4, "reduction_factor": 2.5, "time_budget_min": 1.5, "train_size": 100,
        "batch_size": 32, "precision": "fp16", "cpus_per_trial": 0.5, "gpus_per_trial": 0.25, "max_concurrent": 7,
        "output": "o", "name": "n", "storage": "s3://b", "address": "local", "seed": 5,
        "study_storage": "postgresql://u@h:5433/db", "reference": "norm_softmax",
    }  # fmt: skip
    arguments = []
    for field, value in given.items():
        option = {"losses": "--loss", "time_budget_min": "--time-budget"}.get(field, "--" + field.replace("_", "-"))
        for one in value if isinstance(value, tuple) else (value,):
            arguments += [option, one]
    assert command(*arguments)[0] == 0
    assert searched.asked == SearchSettings(**given)


def test_the_grace_period_follows_a_short_search(command, searched):
    assert command("--dataset", "digits", "--max-epochs", 1)[0] == 0
    assert (searched.asked.max_epochs, searched.asked.grace_epochs) == (1, 1)


def test_the_data_folder_may_come_from_the_environment(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_DATA", "from/environment")
    command("--dataset", "digits")
    assert searched.asked.data_dir == "from/environment"
    command("--dataset", "digits", "--data-dir", "given")
    assert searched.asked.data_dir == "given"


def test_the_storage_may_be_the_clusters(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_STORAGE", "s3://of-the/cluster")
    command("--dataset", "digits", "--name", "run")
    assert searched.asked.storage == "s3://of-the/cluster"
    command("--dataset", "digits", "--storage", "s3://of/this-run", "--name", "other")
    assert searched.asked.storage == "s3://of/this-run"


def test_the_database_may_come_from_the_environment_and_its_password_goes_no_further(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    code, out, err = command("--dataset", "digits")
    assert (code, err) == (0, "")
    assert searched.asked.study_storage == TEAM
    assert "cret" not in f"{out}{searched.asked}"
    command("--dataset", "digits", "--study-storage", "postgresql://u@other/db", "--name", "other")
    assert searched.asked.study_storage == "postgresql://u@other/db"


def test_a_search_is_confirmed_unless_told_otherwise(command, searched):
    assert command("--dataset", "digits")[0] == 0
    assert searched.confirmed == ConfirmSettings()
    searched.confirmed = None
    assert command("--dataset", "digits", "--no-confirm", "--name", "other")[0] == 0
    assert searched.confirmed is None


def test_the_confirmations_options_arrive(command, searched):
    few = ("--candidates", 2, "--candidate-seeds", 1)
    assert command("--dataset", "digits", "--confirm-seeds", 4, *few, "--controls", "--robustness", 7)[0] == 0
    assert searched.confirmed == ConfirmSettings(4, candidates=2, candidate_seeds=1, controls=True, robustness=7)


# --- Help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_option_with_its_default(command):
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    app = typer.Typer(add_completion=False)
    app.command()(run_search.main)
    text = " ".join(re.sub(r"[^ -~]", " ", out).split())  # without its frames
    no_default = {"--dataset", "--resume", "--extend", "--help", "--no-confirm", "--controls"}
    no_default |= {"--tensorboard", "--mlflow", "--dry-run", "--add-loss", "--config", "--again"}
    for parameter in typer.main.get_command(app).params:
        option = parameter.opts[0]
        assert f" {option} " in text
        described = re.split(r" --(?=[a-z-]+ )", text.partition(f" {option} ")[2])[0]
        assert "[default: " in described or option in no_default, described
    assert all(len(line) <= 110 for line in out.splitlines())


@pytest.mark.parametrize("names", [DATASETS, DEFAULT_LOSSES, MODELS, PRECISIONS], ids=["data", "loss", "model", "bits"])
def test_help_knows_all_names(command, names):
    words = re.findall(r"\w+", command("-h")[1])
    assert set(names) <= set(words)


def test_help_says_how_losses_are_named_and_an_unknown_one_is_answered_with_all(command, error_of):
    text = command("-h")[1]
    assert "FILE.py:CLASS" in text
    assert "unknown one is" in text
    words = re.findall(r"\w+", error_of("--dataset", "digits", "--loss", "zzz"))
    assert set(SEARCH_SPACES) <= set(words)
