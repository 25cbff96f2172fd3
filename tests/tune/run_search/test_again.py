"""One trial of an earlier run once more: the same configuration, alone, in full."""

import json
from dataclasses import replace

import pytest

from search_spaces import SEARCH_SPACES
from tests.tune.run_search.conftest import write_json_run
from tune.records import LossRecords, write_json
from tune.settings import SearchSettings

POINT = {"learning_rate": 0.3, "head_learning_rate_multiplier": 2.0, "weight_decay": 1e-4, "label_smoothing": 0.1}
OWN = {"scale": 12.0, "margin_rad": 0.2, "rate_up_rad_per_epoch": 0.1, "rate_down_rad_per_epoch": 0.2}
RULE = {"difficulty": "gap", "target_difficulty": 0.3}


@pytest.fixture
def trial(existing):
    """A trial of AdaLoss on record, whose target has another name in the study than in the loss."""
    config = {**POINT, "loss": "adaloss", "loss_args": {**OWN, **RULE}}
    LossRecords(existing.folder / "adaloss").event("adaloss-0003", "started", config=config)
    return "results/one/adaloss-0003"


def test_a_trial_is_a_run_of_its_own(command, searched, existing, trial):
    assert command("--again", trial)[0] == 0
    point = {**POINT, **OWN, "difficulty": "gap", "target_gap": 0.3}
    assert searched.asked == replace(
        existing,
        losses=("adaloss",),
        trials=1,
        grace_epochs=existing.max_epochs,
        name="one-adaloss-0003",
        again={"trial": trial, "point": point},
    )
    assert searched.confirmed is None
    assert not searched.resume


def test_the_new_run_may_be_elsewhere_and_on_other_slots(command, searched, existing, trial):
    assert command("--again", trial, "--output", "new", "--name", "x", "--cpus-per-trial", 2, "--storage", "s")[0] == 0
    asked = searched.asked
    assert (asked.output, asked.name, asked.cpus_per_trial, asked.storage) == ("new", "x", 2.0, "s")
    assert (asked.seed, asked.model, asked.max_epochs) == (existing.seed, existing.model, existing.max_epochs)


def test_what_would_be_another_trial_is_refused(error_of, trial):
    assert "--max-epochs 3 differs" in error_of("--again", trial, "--max-epochs", 3)
    assert "--again runs one trial" in error_of("--again", trial, "--resume")
    assert "--again runs one trial" in error_of("--again", trial, "--controls")


def test_a_trial_that_is_not_there_is_said(error_of, trial, existing):
    assert "has no trial adaloss-0009, of 1 of adaloss" in error_of("--again", "results/one/adaloss-0009")
    assert "has no trial nosuch" in error_of("--again", "results/one/nosuch")
    assert "there is no run in results/none; give RUN/TRIAL" in error_of("--again", "results/none/adaloss-0003")
    assert "there is no run in ." in error_of("--again", "adaloss-0003")
    path = existing.folder / "adaloss" / "trials.jsonl"
    LossRecords(path.parent).event("adaloss-0004", "started", config={"loss": "adaloss", "loss_args": {}})
    assert "its configuration lacks 'learning_rate'" in error_of("--again", "results/one/adaloss-0004")
    path.write_text("broken\n" + path.read_text())
    assert "line 1: not a JSON object" in error_of("--again", trial)


def test_the_run_that_it_makes_can_be_gone_on_with(command, searched, existing, trial):
    assert command("--again", trial)[0] == 0
    made = searched.asked
    write_json_run(made.folder, made)
    assert command("--resume", "--name", made.name)[0] == 0
    assert searched.asked == made
    assert SearchSettings.from_dict(json.loads((made.folder / "run.json").read_text())["settings"]) == made


@pytest.mark.parametrize("loss", sorted(SEARCH_SPACES))
def test_a_configuration_says_from_which_point_it_was_made(loss):
    import optuna

    space = SEARCH_SPACES[loss]
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(sampler=sampler)
    for _ in range(20):
        drawn = study.ask()
        config = json.loads(json.dumps(space.suggest(drawn)))
        assert space.point_of(config) == drawn.params


def test_an_earlier_runs_settings_of_another_version_are_refused(error_of, trial, existing):
    path = existing.folder / "run.json"
    run = json.loads(path.read_text())
    run["settings"]["nosuch"] = 1
    write_json(path, run)
    assert "run.json was written by another version" in error_of("--again", trial)
