"""The optimizer is torch's SGD, to the last bit and in what it saves, but does not load torch's compiler."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.small_trials import assert_same
from trainables.optimizer import EagerSGD

PROJECT = Path(__file__).resolve().parents[2]


def built(cls: type[torch.optim.SGD], model: torch.nn.Module, momentum: float) -> torch.optim.SGD:
    weight, bias = model.parameters()
    groups = [{"params": [weight], "weight_decay": 0.01}, {"params": [bias], "lr": 0.3}]
    return cls(groups, lr=0.1, momentum=momentum, nesterov=momentum > 0)


def train(model: torch.nn.Module, optimizer: torch.optim.SGD, steps: int) -> None:
    inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        model(inputs).pow(2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_steps_as_torchs_own_and_each_goes_on_from_the_others_state(momentum: float) -> None:
    torch.manual_seed(0)
    ours, theirs = (lambda model: (model, copy.deepcopy(model)))(torch.nn.Linear(5, 3))
    mine, other = built(EagerSGD, ours, momentum), built(torch.optim.SGD, theirs, momentum)
    for model, optimizer in ((ours, mine), (theirs, other)):
        train(model, optimizer, 20)
    assert_same(ours.state_dict(), theirs.state_dict())
    states: list[dict[str, Any]] = [copy.deepcopy(optimizer.state_dict()) for optimizer in (mine, other)]
    assert_same(*states)
    mine, other = built(EagerSGD, ours, momentum), built(torch.optim.SGD, theirs, momentum)
    mine.load_state_dict(states[1])
    other.load_state_dict(states[0])
    for model, optimizer in ((ours, mine), (theirs, other)):
        train(model, optimizer, 3)
    assert_same(ours.state_dict(), theirs.state_dict())
    assert mine.state_dict()["param_groups"][1]["lr"] == 0.3


def test_the_step_leaves_no_trace_for_gradients() -> None:
    model = torch.nn.Linear(5, 3)
    optimizer = built(EagerSGD, model, 0.9)
    train(model, optimizer, 1)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())
    assert not any(state["momentum_buffer"].requires_grad for state in optimizer.state.values())


def test_a_process_that_trains_does_not_load_the_compiler() -> None:
    code = """if True:
        import sys, torch
        from tests.trainables.small_trials import CPU, LOSS_ARGS, resident
        from trainables.config import TrialConfig
        from trainables.data import load_training_data
        from trainables.training import Trainer
        digits = load_training_data("digits", None)
        train, held_out = resident(digits, "train", 70, CPU), resident(digits, "validation", 40, CPU)
        config = TrialConfig(loss="adaloss", loss_args=LOSS_ARGS["adaloss"], model="ArcFaceCNN", max_epochs=2)
        trainer = Trainer(config, train, held_out, 10)
        trainer.train_epoch()
        trainer.load_state_dict(trainer.state_dict())
        trainer.train_epoch()
        trainer.examine(held_out)
        print("torch._dynamo" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.stdout == "False\n", done.stderr
