"""The study of one loss, driven by hand: every way in which a trial or the process can end."""

import math

import pytest
from optuna.trial import TrialState

from search_spaces import SEARCH_SPACES
from tests.tune.search.invented_trials import MAX_EPOCHS, StudyOnDisk, curve, record, run_all, run_trial
from tune.records import LossRecords
from tune.study import Checkpoint


@pytest.fixture
def on_disk(tmp_path):
    return StudyOnDisk(tmp_path)


def test_a_full_trial_is_complete_with_its_last_value(on_disk):
    study = on_disk.open()
    suggestion = study.ask()
    run_trial(study, suggestion)
    (trial,) = on_disk.trials()
    assert trial.state == TrialState.COMPLETE
    assert trial.value == curve(suggestion.config, MAX_EPOCHS)
    assert sorted(trial.intermediate_values) == list(range(1, MAX_EPOCHS + 1))
    assert on_disk.events() == [("arcface-0000", "started"), ("arcface-0000", "finished")]


def test_points_that_are_asked_for_come_before_those_of_the_space(on_disk):
    point = {**SEARCH_SPACES["arcface"].first_points[0], "learning_rate": 0.6}
    study = on_disk.open(trials=1, first_points=[point])
    assert study.ask().config["learning_rate"] == 0.6
    assert study.ask() is None
    again = on_disk.open(trials=1, first_points=[point])  # after a kill
    assert again.ask().config["learning_rate"] == 0.6
    run_trial(again, type("Asked", (), {"number": 0, "config": {"learning_rate": 0.6}, "checkpoint": None}))
    (trial,) = on_disk.trials()
    assert (trial.params, trial.state) == (point, TrialState.COMPLETE)


def test_a_full_trial_waits_for_its_last_checkpoint(on_disk):
    study = on_disk.open()
    number = study.ask().number
    for epoch in range(1, MAX_EPOCHS + 1):
        assert study.on_epoch(number, record(epoch, epoch / 10)) == (epoch < MAX_EPOCHS)
        if epoch == 4:
            study.on_checkpoint(number)
        assert study.is_running(number)
    assert [event for _, event in on_disk.events()] == ["started"]
    study.on_checkpoint(number)
    assert not study.is_running(number)
    assert [event for _, event in on_disk.events()] == ["started", "finished"]


def test_the_best_full_trial_and_those_that_are_not_over_need_their_checkpoints(on_disk):
    study = on_disk.open(trials=7)
    worse, best, last, stopped, failed, requeued, running = (study.ask().number for _ in range(7))
    needed = []
    for number, accuracy in ((worse, 0.5), (best, 0.9), (last, 0.7)):
        for epoch in range(1, MAX_EPOCHS + 1):
            study.on_epoch(number, record(epoch, accuracy if epoch == MAX_EPOCHS else 0.2))
        assert study.needs_checkpoint(number)
        study.on_checkpoint(number)
        needed.append(study.needs_checkpoint(number))
    assert needed == [True, True, False]
    study.on_epoch(stopped, record(1, 0.1))
    study.on_epoch(failed, {"epoch": 1, "error": "broke"})
    study.requeue(requeued, "out of memory")
    assert not study.is_running(stopped)
    rest = {number: study.needs_checkpoint(number) for number in (stopped, failed, requeued, running)}
    assert rest == {stopped: False, failed: False, requeued: True, running: True}
    study.requeue_running()
    assert study.needs_checkpoint(running)
    again = on_disk.open(trials=7)
    assert [again.needs_checkpoint(number) for number in range(7)] == [False, True, False, False, False, True, True]


def test_a_checkpoint_from_before_a_lost_worker_does_not_finish_the_trial(on_disk):
    study = on_disk.open()
    number = study.ask().number
    for epoch in range(1, MAX_EPOCHS + 1):
        study.on_epoch(number, record(epoch, epoch / 10))
    study.on_restart(number, "its worker was lost")
    for epoch in (7, 8):
        study.on_epoch(number, record(epoch, epoch / 10))
        study.on_checkpoint(number)
        assert study.is_running(number)
    study.on_epoch(number, record(MAX_EPOCHS, 0.9))
    study.on_checkpoint(number)
    assert [event for _, event in on_disk.events()] == ["started", "resumed", "finished"]
    (trial,) = on_disk.trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.9)


def test_a_stopped_trial_is_pruned_with_its_intermediate_values(on_disk):
    study = on_disk.open()
    run_trial(study, study.ask())
    suggestion = study.ask()
    assert run_trial(study, suggestion, lambda *_: 0.01) == 1
    trial = on_disk.trials()[1]
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.01}
    assert on_disk.events()[-1] == ("arcface-0001", "stopped")
    assert study.best().number == 0


def test_nan_fails_the_trial_and_is_the_worst_of_its_rung(on_disk):
    study = on_disk.open()
    run_trial(study, study.ask(), lambda *_: 0.5)
    assert run_trial(study, study.ask(), lambda _, epoch: math.nan) == 1
    trial = on_disk.trials()[1]
    assert trial.state == TrialState.FAIL
    assert trial.intermediate_values == {}
    error = next(e["error"] for e in LossRecords(on_disk.folder / "arcface").read_events() if e["event"] == "failed")
    assert "not finite in epoch 1" in error
    # Of 0.5 and the diverged 0.0 a third goes on: above two thirds of the way. A restart knows it too.
    for opened in (study, on_disk.open()):
        assert not opened._rungs.goes_on(7, 1, 0.3)
        assert opened._rungs.goes_on(8, 1, 0.4)


def test_an_error_is_kept(on_disk):
    study = on_disk.open()
    suggestion = study.ask()
    assert not study.on_epoch(suggestion.number, {"epoch": 1, "val_accuracy": math.nan, "error": "CUDA out of memory"})
    assert on_disk.trials()[0].state == TrialState.FAIL
    assert LossRecords(on_disk.folder / "arcface").read_events()[-1]["error"] == "CUDA out of memory"
    assert study.counts.failed == 1


def test_first_points_are_tried_first_and_once(on_disk):
    points = SEARCH_SPACES["arcface"].first_points
    study = on_disk.open()
    first = study.ask()
    assert first.config["learning_rate"] == points[0]["learning_rate"]
    study = on_disk.open()  # killed before its first epoch
    again = study.ask()
    assert (again.number, again.config) == (first.number, first.config)
    run_trial(study, again)
    second = study.ask()
    assert second.config["loss_args"]["margin_rad"] == points[1]["margin_rad"]
    run_trial(study, second)
    third = study.ask()
    assert third.config["learning_rate"] not in {point["learning_rate"] for point in points}
    assert len(on_disk.trials()) == 3


def test_first_points_beyond_the_budget_are_not_queued(tmp_path):
    on_disk = StudyOnDisk(tmp_path, trials=1)
    run_all(on_disk.open())
    assert len(on_disk.trials()) == 1


def test_as_many_trials_as_asked_and_no_more(on_disk):
    study = on_disk.open()
    run_all(study)
    assert study.ask() is None
    assert len(on_disk.trials()) == 8
    assert study.counts.done == 8
    assert study.counts.finished >= 1
    assert study.counts.stopped >= 1


def test_an_extended_search_goes_on_as_if_it_had_been_longer(tmp_path):
    short, long = StudyOnDisk(tmp_path / "a", trials=6), StudyOnDisk(tmp_path / "b", trials=10)
    for on_disk in (short, long):
        on_disk.folder.mkdir()
    run_all(short.open())
    run_all(short.open(trials=10))
    run_all(long.open())
    assert [t.params for t in short.trials()] == [t.params for t in long.trials()]
    assert [t.state for t in short.trials()] == [t.state for t in long.trials()]


def test_other_seeds_draw_other_trials(tmp_path):
    drawn = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(drawn))
        folder.mkdir()
        on_disk = StudyOnDisk(folder, seed=seed)
        run_all(on_disk.open())
        drawn.append([t.params for t in on_disk.trials()])
    assert drawn[0] == drawn[1]
    assert drawn[0][2:] != drawn[2][2:]


def test_an_interrupted_trial_waits_and_goes_on_from_its_checkpoint(on_disk):
    study = on_disk.open()
    suggestion = study.ask()
    for epoch in (1, 2, 3):
        study.on_epoch(suggestion.number, record(epoch, 0.5))
    study.requeue_running()
    assert [t.state for t in on_disk.trials()] == [TrialState.WAITING]
    checkpoint = Checkpoint(2, "/somewhere")
    again = on_disk.open(checkpoints={"arcface-0000": checkpoint}).ask()
    assert again == type(again)(0, "arcface-0000", suggestion.config, checkpoint)
    assert [event for _, event in on_disk.events()] == ["started", "interrupted", "resumed"]


def test_time_up_prunes_what_runs_and_fails_what_has_no_epoch(on_disk):
    study = on_disk.open()
    first, second = study.ask(), study.ask()
    study.on_epoch(first.number, record(1, 0.5))
    study.stop(first.number, "time budget")
    study.stop(second.number, "time budget")
    assert [t.state for t in on_disk.trials()] == [TrialState.PRUNED, TrialState.FAIL]


def test_best_is_a_full_trial_even_if_a_stopped_one_was_higher(on_disk):
    study = on_disk.open()
    run_trial(study, study.ask(), lambda *_: 0.6)
    second = study.ask()
    study.on_epoch(second.number, record(1, 0.9))
    study.stop(second.number, "time budget")
    assert study.best().number == 0


def test_the_best_configuration_is_the_one_that_was_suggested(tmp_path):
    for loss, space in SEARCH_SPACES.items():
        folder = tmp_path / loss
        folder.mkdir()
        on_disk = StudyOnDisk(folder, loss=space.loss, trials=4)
        study = on_disk.open()
        suggested = {}
        while (suggestion := study.ask()) is not None:
            suggested[suggestion.number] = suggestion.config
            run_trial(study, suggestion)
        best = study.best()
        assert study.config_of(best) == suggested[best.number]


def test_a_trial_that_was_put_back_is_the_next_and_goes_on_from_its_checkpoint(on_disk):
    study = on_disk.open()
    first, second = study.ask(), study.ask()
    study.on_epoch(first.number, record(1, 0.5))
    study.requeue(first.number, "CUDA out of memory")
    assert (study.counts.requeued, list(study.counts.running)) == ({first.number}, [second.number])
    assert not study.is_running(first.number)
    study.set_checkpoints({first.trial_id: Checkpoint(1, "somewhere")})
    again = study.ask()
    assert (again.number, again.config, again.checkpoint) == (first.number, first.config, Checkpoint(1, "somewhere"))
    assert study.counts.requeued == set()
    events = LossRecords(on_disk.folder / "arcface").read_events()
    assert [event["event"] for event in events if event["trial_id"] == first.trial_id] == [
        "started", "interrupted", "resumed"
    ]  # fmt: skip
    assert [event.get("error") for event in events if event["event"] == "interrupted"] == ["CUDA out of memory"]


def test_a_kill_after_a_trial_was_put_back_loses_nothing(on_disk):
    study = on_disk.open(trials=2)
    study.requeue(study.ask().number, "CUDA out of memory")
    again = on_disk.open(trials=2)
    run_all(again)
    assert [trial.state.is_finished() for trial in on_disk.trials()] == [True, True]


def test_where_a_trial_ran_stands_at_its_end(on_disk):
    place = {"device": "Some GPU", "precision": "bf16", "gpus": 0.25}
    study = on_disk.open(trials=3)
    good, broken, resumed = study.ask(), study.ask(), study.ask()
    for epoch in range(1, MAX_EPOCHS + 1):
        study.on_epoch(good.number, {**record(epoch, epoch / 10), **place})
    study.on_checkpoint(good.number)
    study.on_epoch(broken.number, {"epoch": 1, "error": "broke", **place})
    study.on_epoch(resumed.number, {**record(1, 0.9), **place})
    study.requeue(resumed.number, "out of memory")
    study.ask()
    study.on_epoch(resumed.number, {**record(1, 0.9), **place, "gpus": 0.5})
    study.stop(resumed.number, "time budget")
    ends = {e["trial_id"]: e for e in LossRecords(on_disk.folder / "arcface").read_events() if "epoch" in e}
    for suggestion, gpus in ((good, 0.25), (broken, 0.25), (resumed, 0.5)):
        end = ends[suggestion.trial_id]
        assert {key: end[key] for key in place} == place | {"gpus": gpus}
    assert not set(place) & set(LossRecords(on_disk.folder / "arcface").read_epochs()[0])
