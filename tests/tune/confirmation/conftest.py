"""Stands in for Ray and training under a confirmation: runs that take no time and end as a test wants."""

import contextlib
import io
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

import tune.confirmation.run as module
import tune.run
from trainables.data import load_test_data, load_training_data
from tune import session
from tune.cluster.slots import Slots
from tune.execution.stages import Stages
from tune.records import LossRecords, read_records, write_json
from tune.run import confirm_run
from tune.settings import ConfirmSettings, SearchSettings
from tune.study import Checkpoint

EPOCHS = 2
SHARED = {"learning_rate": 0.1, "head_learning_rate_multiplier": 1.0, "weight_decay": 0.0, "label_smoothing": 0.0}
LOSS_ARGS = {
    "softmax": {},
    "arcface": {"scale": 8.0, "margin_rad": 0.1},
    "adaloss": {
        "scale": 8.0,
        "margin_rad": 0.1,
        "rate_up_rad_per_epoch": 0.1,
        "rate_down_rad_per_epoch": 0.1,
        "target_difficulty": 0.1,
    },
    "adaloss_relative": {"scale": 8.0, "margin_rad": 0.1, "strength": 0.5},
}
ASKED = ConfirmSettings(seeds=3, candidates=2, candidate_seeds=2)


def finished_search(folder, losses=("arcface", "adaloss", "softmax")):
    """Write the records of a finished search of four trials a loss on the digits, and return its settings."""
    settings = SearchSettings(
        dataset="digits", data_dir=None, losses=losses, model="ArcFaceCNN", trials=4,
        max_epochs=EPOCHS, grace_epochs=1, reduction_factor=3.0, time_budget_min=None, train_size=None, batch_size=64,
        precision="float32", cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None, output=str(folder),
        name="run", storage=None, address=None, seed=0,
    )  # fmt: skip
    for loss in settings.losses:
        records = LossRecords(settings.folder / loss)
        for number in range(settings.trials):
            config = {"loss": loss, **SHARED, "loss_args": LOSS_ARGS[loss]}
            records.event(f"{loss}-{number:04d}", "started", config=config)
            records.event(f"{loss}-{number:04d}", "finished", epoch=EPOCHS, val_accuracy=0.9 - 0.1 * number)
    data = load_training_data("digits", None, train_size=None, seed=settings.seed)
    dataset = {"fingerprint": data.fingerprint, "split_sha256": data.split_sha256}
    write_json(settings.folder / "run.json", {"settings": settings.to_dict(), "dataset": dataset, "invocations": []})
    return settings


@pytest.fixture
def settings(tmp_path):
    return finished_search(tmp_path)


@pytest.fixture
def world(monkeypatch):
    """Stands in for Ray: what happened, in order, and how runs shall end."""
    world = SimpleNamespace(
        happened=[], configs={}, accuracy=lambda run_id: 0.9, error=lambda run_id: None, stop_after=math.inf, data={},
        checkpoints={}, kept=[],
    )  # fmt: skip

    def run_stages(generator, session):
        with Stages(generator, session.interruption) as stages:
            while stages.go_on():
                run_stage(stages.current, session)
            return stages.outcome

    def run_stage(stage, session):
        name = stage.name.rpartition("-")[0]
        world.happened.append(name)
        world.data[name] = stage.data
        for study in stage.studies.values():
            while (suggestion := study.ask()) is not None:
                if world.stop_after <= 0:
                    session.interruption._note(15, None) if not session.interruption else None
                    return
                world.stop_after -= 1
                world.configs[suggestion.trial_id] = stage.to_trial(suggestion)
                _run(study, suggestion, is_tested=stage.data.test_images is not None)

    def _run(study, suggestion, *, is_tested):
        world.happened.append(suggestion.trial_id)
        if error := world.error(suggestion.trial_id):
            study.on_epoch(suggestion.number, {"epoch": 1, "error": error})
            return
        accuracy = world.accuracy(suggestion.trial_id)
        saved = suggestion.checkpoint.epoch if suggestion.checkpoint else 0
        for epoch in range(min(saved + 1, EPOCHS), EPOCHS + 1):  # one that was saved at its end reports that again
            result = {"epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5, "seconds": 1.0}
            result["margin_steps_rad"] = [0.1 * epoch] * 3
            if not is_tested:
                result["val_accuracy"] = accuracy
            elif epoch == EPOCHS:
                result |= {"test_accuracy": accuracy, "test_loss": 0.1, "confusion": [[1]]}
            goes_on = study.on_epoch(suggestion.number, result)
            world.checkpoints[suggestion.trial_id] = Checkpoint(epoch, "/somewhere")
            if not goes_on:
                return

    def read_test(*arguments):
        world.happened.append("test split read")
        return load_test_data(*arguments)

    monkeypatch.setattr(session, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(session, "slots_for", lambda *_: Slots(1.0, 0.0, 2, 1))
    monkeypatch.setattr(session, "NodeCheck", lambda *_: contextlib.nullcontext(SimpleNamespace(problem=lambda: None)))
    monkeypatch.setattr(tune.run, "run_stages", run_stages)
    monkeypatch.setattr(session, "load_test_data", read_test)
    store = SimpleNamespace(
        newest=lambda: dict(world.checkpoints),
        remove_all_but=lambda ids: world.checkpoints.clear(),
        remove_if_empty=lambda: None,
        copy_weights=lambda trial_id, target: world.kept.append((trial_id, target.name)) or True,
    )
    monkeypatch.setattr(module, "CheckpointStore", lambda root: store)
    monkeypatch.setattr(tune.run, "CheckpointStore", lambda root: store)
    return world


def confirm(settings, asked=ASKED):
    return confirm_run(settings, asked, console=Console(file=io.StringIO()))


def results_of(settings):
    records = read_records(settings.folder / "confirm.jsonl")
    assert len({record["run_id"] for record in records}) == len(records), "a run was done twice"
    return records
