"""Ray's scheduler and callback over the studies: what a study is told of, and what not."""

from types import SimpleNamespace

import pytest
from ray.tune import Checkpoint
from ray.tune.schedulers import TrialScheduler

from tests.tune.execution.invented_stages import Workers, alone
from tune.execution.scheduler import StudyCallback, StudyScheduler


class Study:
    """Notes what it is told of its only trial."""

    def __init__(self, is_running):
        self._is_open, self.told = is_running, []

    def is_running(self, number):
        return self._is_open

    def on_epoch(self, number, result):
        self.told.append(("epoch", number))
        return True

    def on_checkpoint(self, number):
        self.told.append(("checkpoint", number))

    def on_restart(self, number, error):
        self.told.append(("restarted", number))

    def on_error(self, number, error):
        self.told.append(("given up", number))


@pytest.mark.parametrize("is_running", [True, False])
def test_a_book_is_told_of_trials_that_run_and_of_no_others(tmp_path, is_running):
    """One that was stopped may still be saved, or lose its worker, before Ray has stopped it."""
    study = Study(is_running)
    said = []
    stages, trial = (
        alone(study, said),
        SimpleNamespace(config={"number": 7, "trial_id": "a-7"}, local_path=str(tmp_path)),
    )
    decision = StudyScheduler(stages, Workers()).on_trial_result(None, trial, {"epoch": 1})
    callback = StudyCallback(stages)
    callback.on_trial_save(0, [], trial)
    callback.on_trial_recover(0, [], trial)
    callback.on_trial_error(0, [], trial)
    assert decision == (TrialScheduler.CONTINUE if is_running else TrialScheduler.STOP)
    everything = [("epoch", 7), ("checkpoint", 7), ("restarted", 7), ("given up", 7)]
    assert study.told == (everything if is_running else [])
    assert said == ["a-7: worker lost, goes on from its last checkpoint"]


class Needing:
    """Says whether a checkpoint is still of use."""

    def __init__(self, needs):
        self._needs = needs

    def needs_checkpoint(self, number):
        return self._needs


@pytest.mark.parametrize("needs", [True, False])
def test_a_checkpoint_that_is_of_no_more_use_is_deleted(tmp_path, needs):
    folders = [tmp_path / trial / "checkpoint_000004" for trial in ("one", "another")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "state.pt").write_bytes(b"state")
    trial = SimpleNamespace(config={"number": 7}, checkpoint=Checkpoint.from_directory(folders[0]))
    callback = StudyCallback(alone(Needing(needs)))
    callback.on_trial_complete(0, [], trial)
    assert [folder.exists() for folder in folders] == [needs, True]
    callback.on_trial_complete(0, [], trial)  # it is not there any more, which stops no search


def test_a_trial_without_a_checkpoint_has_none_to_delete():
    trial = SimpleNamespace(config={"number": 7}, checkpoint=None)
    StudyCallback(alone(Needing(False))).on_trial_complete(0, [], trial)
