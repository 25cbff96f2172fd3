"""What a search does at its end, and when that is."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.tune.test_settings import GOOD
from tune.records import LossRecords, read_json, write_json
from tune.search import run as module
from tune.search.run import _clock, _keep_best
from tune.settings import RUN_FILE
from tune.storage.checkpoints import CheckpointStore


def test_weights_of_an_earlier_best_do_not_pass_for_the_new_ones(tmp_path):
    """The new best has none: it was stopped early, as all others were."""

    def keep(number):
        best = SimpleNamespace(number=number, value=0.9, last_step=3)
        study = SimpleNamespace(
            best=lambda: best,
            waiting=list,
            trial_id=lambda n: f"softmax-{n:04d}",
            config_of=lambda _: {"loss": "softmax"},
        )
        _keep_best(SimpleNamespace(folder=tmp_path), {"softmax": study}, CheckpointStore(str(tmp_path / "checkpoints")))

    keep(0)
    weights = tmp_path / "best_softmax.pt"
    weights.write_bytes(b"of trial 0")
    keep(0)
    assert weights.read_bytes() == b"of trial 0"  # kept when a finished run is opened again
    keep(1)
    assert not weights.exists()
    assert read_json(tmp_path / "best_softmax.json")["trial_id"] == "softmax-0001"


@pytest.mark.parametrize(("trained_s", "left_s"), [((), 240), ((0, 30), 210), ((30, 0), 210), ((500,), -260)])
def test_the_time_of_a_search_is_shared_by_its_losses_and_counts_what_was_used_before(
    tmp_path, monkeypatch, trained_s, left_s
):
    """An earlier invocation took from its start to its last epoch: the night between the two does not count."""
    settings = replace(GOOD, output=str(tmp_path), time_budget_min=2.0)
    settings.folder.mkdir()
    write_json(settings.folder / RUN_FILE, {"invocations": [{"time": 1000.0}, {"time": 90_000.0}]})
    now = SimpleNamespace(at=90_000.0)
    for loss, seconds in zip(settings.losses, trained_s, strict=False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tune.records.files.time", SimpleNamespace(time=lambda at=1000.0 + seconds: at))
            LossRecords(settings.folder / loss).epoch(f"{loss}-0000", {"epoch": 1, "val_accuracy": 0.5})
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now.at))
    seconds_left = _clock(settings)
    assert seconds_left() == left_s
    now.at = 90_000.0 + left_s - 0.5
    assert seconds_left() == 0.5
    now.at = 90_000.0 + left_s + 1
    assert seconds_left() == -1


def test_without_a_limit_time_is_never_up(tmp_path):
    assert _clock(replace(GOOD, output=str(tmp_path)))() == math.inf
