"""Random draws as trials, from what a run's file says of its search spaces in words."""

import pytest

from analysis.loading import load_run
from analysis.plots.studies import importance, read_trials
from analysis.publish import publish
from analysis.recorded_trials import drawn_trials, recorded_distributions
from search_spaces import SEARCH_SPACES


@pytest.mark.parametrize("loss", SEARCH_SPACES)
def test_the_words_say_the_search_space(new_run, loss):
    run = new_run("run", (loss,))
    space = SEARCH_SPACES[loss]
    run.rewrite(search_spaces={loss: {"dimensions": len(space.parameters), "parameters": space.describe()}})
    expected = {parameter.name: parameter.distribution for parameter in space.parameters if parameter.when is None}
    assert recorded_distributions(load_run(run.folder), loss) == expected


def test_what_is_written_in_another_way_is_left_out(new_run):
    run = new_run("run", ("arcface",))
    words = ["scale log[4, 64]", "depth {1, 2, deep}", "margin from 0 to 1", 7, "x log[1]", "y U[0, 1] where z is 2"]
    run.rewrite(search_spaces={"arcface": {"dimensions": 1, "parameters": words}})
    found = recorded_distributions(load_run(run.folder), "arcface")
    assert list(found) == ["scale", "depth"]
    assert found["depth"].choices == (1.0, 2.0, "deep")
    run.rewrite(search_spaces={"arcface": {"dimensions": 1}})
    assert recorded_distributions(load_run(run.folder), "arcface") == {}


def test_each_draw_is_a_trial_with_its_settings_and_accuracy(example_findings):
    (found,) = example_findings({"dataset": "mnist", "robustness": 14})
    for loss in found.run.losses:
        rows = found.run.seed_runs_of("robustness", loss)
        trials = drawn_trials(found.run, loss).trials
        assert [trial.value for trial in trials] == list(rows["accuracy"])
        for trial, config in zip(trials, rows["config"], strict=True):
            flat = {**config, **config["loss_args"]}
            assert {
                name: flat[name] for name in recorded_distributions(found.run, loss)
            }.items() <= trial.params.items()
    failed = found.run.seed_runs_of("robustness", "arcface")["failed"]
    assert {t.value for t, fell in zip(drawn_trials(found.run, "arcface").trials, failed, strict=True) if fell} == {0.1}


def test_the_trials_of_a_copy_are_those_of_the_study(example_run, tmp_path):
    """With the parameters that only some trials have, which the loss knows by another name."""
    run = load_run(example_run(seeds=0, study=True, losses=("adaloss", "softmax")))
    publish(run.folder, tmp_path / "copy")
    studies, copies = read_trials(run), read_trials(load_run(tmp_path / "copy"))
    assert list(studies) == list(copies)
    for loss, study in studies.items():
        assert len(study.trials) == len(copies[loss].trials)
        for of_study, of_copy in zip(study.trials, copies[loss].trials, strict=True):
            for what in ("number", "state", "params", "distributions", "intermediate_values"):
                assert getattr(of_copy, what) == getattr(of_study, what), (loss, of_study.number, what)
            # Of a stopped trial a study has the value of its last epoch; the invented one does not.
            last = of_study.intermediate_values[max(of_study.intermediate_values)]
            assert of_copy.value == {"COMPLETE": of_study.value, "PRUNED": last, "FAIL": None}[of_study.state.name]
    params = {name for trial in copies["adaloss"].trials for name in trial.params}
    assert {"target_error", "target_gap"} <= params
    importances = [importance(found["adaloss"], 2, run.chance) for found in (studies, copies)]
    assert importances[0] == importances[1]


def test_a_setting_outside_of_its_space_is_left_out_of_the_trial(new_run):
    run = new_run("run", ("arcface",))
    words = ["scale log[4, 64]", "margin_rad U[0, 0.6]", "smoothing {0.0, 0.1}"]
    run.rewrite(search_spaces={"arcface": {"dimensions": 3, "parameters": words}})
    arguments = {"scale": 99.0, "margin_rad": "wide", "smoothing": 0.2}
    run.seed_run("robustness", "arcface", 0, config={"loss": "arcface", "loss_args": arguments})
    run.seed_run("robustness", "arcface", 1, config={"loss": "arcface", "loss_args": {**arguments, "scale": 8.0}})
    first, second = drawn_trials(load_run(run.folder), "arcface").trials
    assert (first.params, second.params) == ({}, {"scale": 8.0})
