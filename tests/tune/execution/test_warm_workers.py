"""The workers of a stage are those of the next one, on a real Ray."""

import io
import os
import time
from dataclasses import replace

import pytest
from rich.console import Console

from tests.tune.execution.test_last_checkpoint import SETTINGS
from trainables.trainable import MarginTrainable
from tune.execution import runner
from tune.run import search_and_confirm
from tune.settings import ConfirmSettings

pytestmark = pytest.mark.cluster
TOGETHER = 2


def noting(folder):
    """Trials that note their process, and of which two of a stage wait for each other, so that each has its own."""

    class Noting(MarginTrainable):
        def step(self):
            stage = self._trial_id.partition("-")[0]
            (folder / f"{self._trial_id}.{os.getpid()}").touch()
            while len(list(folder.glob(f"{stage}-*"))) < TOGETHER:
                time.sleep(0.02)
            return super().step()

    return Noting


def test_the_workers_of_a_search_are_those_of_its_confirmation(shared_ray, tmp_path, monkeypatch):
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setattr(runner, "MarginTrainable", noting(notes))
    settings = replace(
        SETTINGS, output=str(tmp_path), model="DigitsCNN", trials=2, cpus_per_trial=0.5, max_concurrent=TOGETHER
    )
    asked = ConfirmSettings(seeds=2, candidates=2, candidate_seeds=1)
    outcome = search_and_confirm(settings, asked, resume=False, console=Console(file=io.StringIO()))
    assert outcome.confirmation.broken == {}
    processes = {}
    for note in notes.iterdir():
        trial_id, _, process = note.name.rpartition(".")
        processes.setdefault(trial_id.partition("-")[0], set()).add(process)
    assert set(processes) == {"softmax", "candidate", "winner"}
    assert all(found == processes["softmax"] for found in processes.values())
    assert len(processes["softmax"]) == TOGETHER
