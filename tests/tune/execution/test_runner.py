"""The passes of a stage, with a loop that takes no time in the place of Ray's; whole ones are in test_out_of_memory."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray import tune as ray_tune
from ray.tune.search import Searcher

from tests.tune.execution.invented_stages import stage_of
from tests.tune.search.invented_trials import StudyOnDisk, record
from tests.tune.test_settings import GOOD
from tune.cluster.slots import Slots
from tune.execution import runner
from tune.execution.runner import run_stages
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
        stand_in = SimpleNamespace(**{**parts, "Tuner": Loop, "with_resources": unchanged})
        monkeypatch.setattr(runner, "ray_tune", stand_in)
        monkeypatch.setattr(runner, "ray", SimpleNamespace(put=lambda data: data))
        stages = iter([stage_of({"arcface": on_disk.open()}, **options)])
        session = SimpleNamespace(
            settings=replace(GOOD, output=str(tmp_path)),
            slots=Slots(1, 0, 2, 1),
            interruption=Interruption(),
            trouble=lambda: None,
            callbacks=(),
        )
        run_stages((stage for stage in stages), session)
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
