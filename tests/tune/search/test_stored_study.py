"""The study in memory against the one in the database, and which trials a draw goes by."""

import math

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from search_spaces import SEARCH_SPACES
from tests.tune.search.invented_trials import StudyOnDisk, curve, record, run_all, run_trial
from tune.search.loss_study import STARTUP_TRIALS
from tune.search.stored_study import _History

SPACE = {"x": FloatDistribution(0, 1)}


def same(trial):
    """What two views of a trial have in common, whatever their ids."""
    times = trial.datetime_start is None, trial.datetime_complete is None
    told = trial.params, trial.distributions, trial.intermediate_values, trial.user_attrs, trial.system_attrs
    return trial.number, trial.state, trial.value, times, *told


@pytest.mark.parametrize("loss", ["adaloss", "softmax"])
def test_what_is_in_memory_is_what_the_database_has(tmp_path, loss):
    on_disk = StudyOnDisk(tmp_path, loss=loss, trials=12)
    study = on_disk.open()
    for _ in range(8):
        run_trial(study, study.ask())
    study.on_epoch(study.ask().number, record(1, math.nan))
    study.ask()
    study.requeue(study.ask().number, "out of memory")
    in_memory = study._study.trials()
    assert {trial.state for trial in in_memory} == set(TrialState)
    assert [same(trial) for trial in on_disk.trials()] == [same(trial) for trial in in_memory]
    # A place to run and a reason are written with the end; whatever runs has none yet.
    assert [t.state for t in on_disk.open()._study.trials()].count(TrialState.WAITING) == 2


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_draws_are_those_of_optuna_s_own_study(tmp_path):
    """The same sampler on a study that Optuna keeps in the database by itself."""
    study = StudyOnDisk(tmp_path, loss="arcface", trials=15).open()
    run_all(study)
    plain = optuna.create_study(direction="maximize")
    for drawn in study._study.trials():
        seed = int(np.random.SeedSequence((0, drawn.number)).generate_state(1)[0])
        plain.sampler = TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True, seed=seed
        )
        if drawn.number >= STARTUP_TRIALS:  # before that, parameters are drawn one by one, each by its own seed
            trial = plain.ask()
            assert trial.number == drawn.number
            SEARCH_SPACES["arcface"].suggest(trial)
            assert trial.params == drawn.params
            plain._storage.set_trial_state_values(trial._trial_id, drawn.state, [drawn.value])
            continue
        plain.add_trial(drawn)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("loss", ["adaloss", "adaloss_quantile"])
def test_draws_beside_running_trials_are_optuna_s_own(tmp_path, loss):
    """Running trials count as bad ones, with parameters that were drawn with theirs and are not in use."""
    study, running = StudyOnDisk(tmp_path, loss=loss, trials=30).open(), []
    for number in range(30):
        plain = optuna.create_study(direction="maximize")
        for known in study._study.trials():
            plain.add_trial(known)
        suggestion = study.ask()
        if number >= STARTUP_TRIALS + 5:
            seed = int(np.random.SeedSequence((0, number)).generate_state(1)[0])
            plain.sampler = TPESampler(
                n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True, seed=seed
            )
            SEARCH_SPACES[loss].suggest(plain.ask())
            expected, drawn = plain.trials[number], study._study[number]
            assert (drawn.params, drawn.system_attrs) == (expected.params, expected.system_attrs)
        running.append(suggestion)
        if len(running) > 4:
            run_trial(study, running.pop(1))


@pytest.mark.parametrize("loss", ["adaloss", "softmax"])
def test_trials_are_read_as_optuna_reads_them(tmp_path, loss):
    on_disk = StudyOnDisk(tmp_path, loss=loss, trials=12)
    study = on_disk.open()
    for _ in range(8):
        run_trial(study, study.ask())
    study.on_epoch(study.ask().number, record(1, math.nan))
    waiting, running = study.ask(), study.ask()
    study.on_epoch(running.number, record(1, 0.5))
    study.requeue(waiting.number, "out of memory")
    database = study._study._database
    optuna.create_study(study_name="another", storage=database).ask()
    database.set_trial_intermediate_value(study._study._stored_ids[running.number], 2, math.inf)
    expected = database.get_all_trials(database.get_study_id_from_name(f"digits-{loss}"))
    read = study._study._rows.read()
    assert [trial.__dict__ for trial in read] == [trial.__dict__ for trial in expected]
    assert {trial.state for trial in read} == set(TrialState)
    assert [list(trial.params) for trial in read] == [list(trial.params) for trial in expected]


def test_an_epoch_is_in_the_database_at_once(tmp_path):
    on_disk = StudyOnDisk(tmp_path)
    study = on_disk.open()
    first, second = study.ask().number, study.ask().number
    for epoch in (1, 2):
        study.on_epoch(first, record(epoch, epoch / 10))
        assert on_disk.trials()[first].last_step == epoch
    study.requeue(second, "out of memory")
    assert on_disk.trials()[first].intermediate_values == {1: 0.1, 2: 0.2}


@given(st.lists(st.tuples(st.sampled_from("CPFW"), st.integers(1, 9), st.integers(0, 50)), max_size=400))
def test_the_history_is_all_trials_or_the_best_and_the_newest(trials):
    states = {"C": TrialState.COMPLETE, "P": TrialState.PRUNED, "F": TrialState.FAIL, "W": TrialState.WAITING}
    history, ended = _History(), []
    for number, (state, step, points) in enumerate(trials):
        value = points / 50 if state in "CP" else None
        epochs = dict.fromkeys(range(1, step + 1), points / 50) if state in "CP" else {}
        trial = create_trial(
            state=states[state], value=value, params={"x": 0.5}, distributions=SPACE, intermediate_values=epochs
        )
        trial.number = number
        history.add(trial)
        if state in "CP":
            ended.append((state == "C", step, points, number))
    assert len(history) == len(ended)
    best = [number for *_, number in sorted(ended)[-25:]]
    others = [number for *_, number in ended if number not in best][-225:]
    assert history.numbers() == sorted(best + others)
    if len(ended) <= 250:
        assert history.numbers() == [number for *_, number in ended]


def test_of_many_trials_a_draw_goes_by_some(tmp_path, monkeypatch):
    monkeypatch.setattr(_History, "BEST", 3)
    monkeypatch.setattr(_History, "NEWEST", 4)
    study = StudyOnDisk(tmp_path, trials=20).open()
    for _ in range(12):
        run_trial(study, study.ask())
    running = study.ask().number
    seen = [trial.number for trial in study._study._excerpt()]
    assert len(seen) == 8
    assert seen[-1] == running
    assert study.best().number in seen


def test_a_second_process_that_asks_for_trials_is_noticed(tmp_path):
    on_disk = StudyOnDisk(tmp_path)
    first, second = on_disk.open(), on_disk.open()
    first.ask()
    with pytest.raises(RuntimeError, match="another process"):
        second.ask()


def test_a_trial_that_an_earlier_version_was_killed_while_drawing_goes_on(tmp_path):
    """Earlier versions wrote a trial before its parameters were drawn, and each parameter by itself."""
    on_disk = StudyOnDisk(tmp_path, loss="arcface")
    study = on_disk.open()
    for _ in range(2):
        run_trial(study, study.ask())
    storage = study._study._database
    study_id = storage.get_study_id_from_name("digits-arcface")
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "learning_rate", 0.5, FloatDistribution(0.01, 1.0, log=True))
    again = on_disk.open()
    suggestion = again.ask()
    assert suggestion.number == 2
    assert suggestion.config["learning_rate"] == 0.5
    run_trial(again, suggestion, curve)
    trial = on_disk.trials()[2]
    assert trial.params.keys() == {p.name for p in SEARCH_SPACES["arcface"].parameters}
    assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
