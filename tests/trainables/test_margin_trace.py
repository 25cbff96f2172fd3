"""The margin that each training step applied: traced exactly, at no cost to the steps, and good for a replay."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.small_trials import ADAPTIVE, assert_same, trainer_of
from trainables.data import TrainingData
from trainables.losses import LOSSES
from trainables.training import Trainer

MOVING = ("adaloss", "adaloss_quantile", "arcface_schedule")

pytestmark = pytest.mark.usefixtures("narrow_model", "one_thread")


def watched(trainer: Trainer) -> list[float]:
    """Return a list that fills with the margin before every training step."""
    margins_rad: list[float] = []

    def before_step(loss: Any, _: Any) -> None:
        assert loss.training
        margins_rad.append(loss.margin_rad)

    trainer.loss.register_forward_pre_hook(before_step)
    return margins_rad


def trace_of(trainer: Trainer, epochs: int) -> list[float]:
    return [margin_rad for _ in range(epochs) for margin_rad in trainer.train_epoch()["margin_steps_rad"]]


@pytest.mark.parametrize("gate", [True, False])
def test_the_trace_is_what_each_step_applied(gate: bool, digits: TrainingData) -> None:
    trainer = trainer_of(digits, "adaloss", loss_args={**ADAPTIVE, "competence_gate": gate})
    watching = watched(trainer)
    for epoch in range(3):
        trace = trainer.train_epoch()["margin_steps_rad"]
        assert len(trace) == trainer.steps_per_epoch == 4
        assert np.float32(trace).tolist() == watching[4 * epoch :]
        assert trace == [float(str(np.float32(margin_rad))) for margin_rad in trace]  # no more digits than it takes
        assert all(type(margin_rad) is float for margin_rad in trace)
        assert json.loads(json.dumps(trace)) == trace
    assert len(set(watching)) > 8


@pytest.mark.parametrize("loss", LOSSES)
def test_only_one_margin_that_moves_is_traced(loss: str, digits: TrainingData) -> None:
    assert ("margin_steps_rad" in trainer_of(digits, loss).train_epoch()) is (loss in MOVING)


def test_an_epoch_that_ends_early_has_a_shorter_trace(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(digits, "adaloss", count=1250, batch_size=8)
    forward = trainer.loss.forward
    steps: list[int] = []

    def broken(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps.append(len(labels))
        return forward(embeddings, labels) * (math.inf if len(steps) > 3 else 1.0)  # type: ignore[no-any-return]

    monkeypatch.setattr(trainer.loss, "forward", broken)
    assert len(trainer.train_epoch()["margin_steps_rad"]) == len(steps) < trainer.steps_per_epoch


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_replaying_a_trace_on_its_own_seed_is_the_same_run(precision: str, digits: TrainingData) -> None:
    adaptive = trainer_of(digits, "adaloss", precision=precision, seed=3)
    trace = json.loads(json.dumps(trace_of(adaptive, 4)))
    replay = trainer_of(
        digits, "arcface_schedule", precision=precision, seed=3, loss_args={"scale": 8.0, "margins_rad": trace}
    )
    assert trace_of(replay, 4) == trace
    assert len(set(trace)) > 8
    assert_same(replay.model.state_dict(), adaptive.model.state_dict())
    assert torch.equal(replay.loss.weight, adaptive.loss.weight)
    assert_same(replay.optimizer.state_dict(), adaptive.optimizer.state_dict())


def test_a_yoked_replay_applies_another_seeds_margins(digits: TrainingData) -> None:
    trace = trace_of(trainer_of(digits, "adaloss", seed=3), 4)
    replay = trainer_of(digits, "arcface_schedule", seed=4, loss_args={"scale": 8.0, "margins_rad": trace})
    watching = watched(replay)
    assert trace_of(replay, 4) == trace
    assert watching == np.float32(trace).tolist()
