import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tune.run_search.conftest import TEAM, WITH_SECRET, write_json_run
from tune.settings import ConfirmSettings


def test_a_run_is_not_written_over(error_of):
    Path("results/one").mkdir(parents=True)
    Path("results/one/run.json").write_text("{}")
    message = error_of("--dataset", "digits", "--name", "one")
    assert "results/one exists already" in message
    assert "--resume" in message
    assert "--name" in message
    assert [path.name for path in Path("results/one").iterdir()] == ["run.json"]


def test_resume_goes_on_with_the_newest_run(command, searched, existing):
    write_json_run("results/two", replace(existing, name="two", seed=4))
    os.utime("results/one/run.json", (1e9, 1e9))
    assert command("--resume")[0] == 0
    assert (searched.asked.name, searched.asked.seed, searched.resume) == ("two", 4, True)
    assert command("--resume", "--name", "one")[0] == 0
    assert searched.asked == existing


def test_a_run_that_was_moved_goes_on_where_it_is_now(command, searched, existing):
    Path("results").rename("moved")
    Path("moved/one").rename("moved/other")
    assert command("--resume", "--output", "moved")[0] == 0
    assert searched.asked == replace(existing, output="moved", name="other")


def test_a_clusters_storage_is_no_wish_to_move_a_run_that_is_there(command, searched, existing, monkeypatch):
    monkeypatch.setenv("ADALOSS_STORAGE", "s3://of-the/cluster")
    monkeypatch.setenv("ADALOSS_DATA", "of-the-machine")
    assert command("--resume")[0] == 0
    assert searched.asked == replace(existing, data_dir="of-the-machine")


def test_resume_takes_another_machines_options(command, searched, existing):
    assert command("--resume", "--cpus-per-trial", 2, "--address", "auto", "--data-dir", "d", "--seed", 3)[0] == 0
    assert searched.asked == replace(existing, cpus_per_trial=2.0, address="auto", data_dir="d")


def test_extend_adds_trials(command, searched, existing):
    assert command("--extend", 5)[0] == 0
    assert searched.asked == replace(existing, trials=existing.trials + 5)
    assert searched.resume


def test_a_run_takes_a_further_loss_and_keeps_its_reference(command, searched, existing):
    assert command("--resume", "--add-loss", "norm_softmax", "--add-loss", "adaloss_per_class")[0] == 0
    losses = (*existing.losses, "norm_softmax", "adaloss_per_class")
    assert searched.asked == replace(existing, losses=losses, reference="arcface")
    write_json_run("results/two", replace(existing, name="two", losses=("softmax",)))
    assert command("--resume", "--name", "two", "--add-loss", "arcface", "--add-loss", "adaloss")[0] == 0
    assert searched.asked.reference == "softmax"
    assert command("--resume", "--name", "two")[0] == 0
    assert searched.asked.reference is None


def test_a_new_run_has_no_further_loss(error_of):
    assert "--add-loss" in error_of("--dataset", "digits", "--add-loss", "softmax")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--add-loss", "softmax"], ["--add-loss softmax: the run has it already"]),
        (["--add-loss", "sofmax"], ["unknown loss 'sofmax'", "softmax"]),
        (["--seed", "7"], ["--seed 7 differs from the run's 3"]),
        (["--dataset", "mnist"], ["--dataset mnist differs from the run's digits"]),
        (["--loss", "softmax"], ["--loss softmax differs from the run's arcface, adaloss, softmax", "--add-loss"]),
        (["--reference", "softmax"], ["--reference softmax differs from the run's default"]),
        (["--max-epochs", "3"], ["--max-epochs 3 differs from the run's 20"]),
        (["--trials", "20"], ["--trials 20 differs from the run's 12", "--extend"]),
        (["--extend", "0"], ["--extend must be positive"]),
        (["--cpus-per-trial", "0"], ["--cpus-per-trial must be positive"]),
    ],
)
def test_a_run_does_not_go_on_as_another(error_of, existing, arguments, words):
    before = Path("results/one/run.json").read_bytes()
    message = error_of("--resume", *arguments)
    for word in words:
        assert word in message
    assert Path("results/one/run.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "{}", '{"settings": {"trials": 3}}'])
def test_a_damaged_run_file_is_named(error_of, content):
    Path("results/one").mkdir(parents=True)
    Path("results/one/run.json").write_text(content)
    assert "run.json" in error_of("--resume")


def test_a_run_goes_on_with_its_database(command, searched, monkeypatch):
    command("--dataset", "digits", "--name", "one", "--study-storage", TEAM)
    write_json_run("results/one", searched.asked)
    for variable in (None, WITH_SECRET):
        if variable:
            monkeypatch.setenv("ADALOSS_STUDY_STORAGE", variable)
        assert command("--resume")[0] == 0
        assert searched.asked.study_storage == TEAM
    assert command("--resume", "--study-storage", "postgresql://u@moved/db")[0] == 0
    assert searched.asked.study_storage == "postgresql://u@moved/db"


def test_a_run_with_a_file_of_its_own_goes_on_with_that(command, error_of, searched, existing, monkeypatch):
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    assert command("--resume")[0] == 0
    assert searched.asked == existing
    assert "study.db" in error_of("--resume", "--study-storage", TEAM)


def test_a_run_goes_on_with_the_confirmation_that_it_was_started_with(command, searched):
    command("--dataset", "digits", "--name", "one")
    write_json_run("results/one", searched.asked, confirmation={"seeds": 7, "controls": True, "history": []})
    assert command("--resume")[0] == 0
    assert searched.confirmed == ConfirmSettings(seeds=7, controls=True)
    assert command("--resume", "--confirm-seeds", 9)[0] == 0
    assert searched.confirmed == ConfirmSettings(seeds=9, controls=True)
    searched.confirmed = None
    write_json_run("results/one", searched.asked)
    assert command("--resume")[0] == 0
    assert searched.confirmed is None
    assert command("--resume", "--robustness", 3)[0] == 0
    assert searched.confirmed == ConfirmSettings(robustness=3)
