"""The passes of a stage, with a loop that takes no time in the place of Ray's; whole ones are in test_out_of_memory."""

import io
from types import SimpleNamespace

import pytest
from ray import tune as ray_tune
from ray.tune.search import Searcher
from rich.console import Console

from tests.tune.search.invented_trials import StudyOnDisk, record
from tests.tune.test_settings import GOOD
from tune.cluster.slots import Slots
from tune.execution import runner
from tune.execution.progress import Progress
from tune.execution.runner import Stage, run_stage
from tune.interruption import Interruption


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a stage of one loss whose trials report what a function says of them."""
    on_disk = StudyOnDisk(tmp_path, trials=4)

    def run_with(result_of, **options):
        class Loop:
            def __init__(self, trainable, *, tune_config, run_config):
                self._searcher, self._scheduler = tune_config.search_alg, tune_config.scheduler

            def fit(self):
                while (config := self._searcher.suggest("x")) not in (None, Searcher.FINISHED):
                    trial, goes_on, epoch = SimpleNamespace(config=config, local_path=""), True, 0
                    while goes_on:
                        epoch += 1
                        result = result_of(config["number"], epoch)
                        goes_on = self._scheduler.on_trial_result(None, trial, result) == "CONTINUE"
                    self._searcher.on_trial_complete("x")

        def unchanged(trainable, *_, **__):
            return trainable

        parts = {name: getattr(ray_tune, name) for name in ray_tune.__all__}
        stand_in = SimpleNamespace(
            **{**parts, "Tuner": Loop, "with_parameters": unchanged, "with_resources": unchanged}
        )
        monkeypatch.setattr(runner, "ray_tune", stand_in)
        studies = {"arcface": on_disk.open()}
        trial = SimpleNamespace(to_dict=dict)
        stage = Stage("part-001", str(tmp_path / "checkpoints"), None, lambda suggestion: trial)
        progress = Progress(studies, "a stage", Console(file=io.StringIO(), force_terminal=False, width=300))
        session = SimpleNamespace(
            settings=GOOD, slots=Slots(1, 0, 2, 1), interruption=Interruption(), trouble=lambda: None, callbacks=()
        )
        run_stage(stage, studies, session, progress, **options)
        return on_disk.events()

    return run_with


def test_time_that_is_up_leaves_no_trial_that_was_put_back_and_begins_no_other(run):
    """Time is up when the trial runs out of memory: it runs again, to its next epoch, and that is all."""
    attempts = []

    def result_of(number, epoch):
        attempts.append(number)
        if len(attempts) == 1:
            return {"epoch": 1, "val_accuracy": float("nan"), "error": "out of memory", "out_of_memory": True}
        return record(epoch, 0.5)

    events = run(result_of, out_of_time=lambda: bool(attempts))
    assert attempts == [0, 0]
    assert [event for _, event in events] == ["started", "interrupted", "resumed", "stopped"]


def test_time_that_is_up_ends_trials_with_the_epoch_that_they_are_in(run):
    attempts = []

    def result_of(number, epoch):
        attempts.append((number, epoch))
        return record(epoch, 0.5)

    events = run(result_of, out_of_time=lambda: len(attempts) >= 3)
    assert attempts == [(0, 1), (0, 2), (0, 3)]
    assert events == [("arcface-0000", "started"), ("arcface-0000", "stopped")]
