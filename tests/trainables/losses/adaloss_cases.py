"""AdaLoss on small batches, with and without a network: what its tests have in common."""

import pytest
import torch
from hypothesis import settings

from trainables.losses import AdaLoss

BOTH = pytest.mark.parametrize("per_class", [False, True])
DIFFICULTIES = pytest.mark.parametrize("difficulty", ["error", "gap"])
PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
STATE = ("running_margin_rad", "running_difficulty", "running_competence", "epochs_seen")


def build(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {
        "embedding_dim": 6,
        "num_classes": 4,
        "scale": 8.0,
        "margin_rad": 0.3,
        "rate_up_rad_per_epoch": 0.5,
        "rate_down_rad_per_epoch": 0.4,
        "target_difficulty": 0.4,
    }
    if not {"steps_per_epoch", "samples_per_epoch"} & changes.keys():
        arguments["steps_per_epoch"] = 10
    return AdaLoss(**{**arguments, **changes})


def draw(size=32, dim=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, dim, generator=generator), labels


def state_of(loss):
    return {name: getattr(loss, name).clone() for name in STATE}


def feed(loss, difficulty, labels, competence=None, finite=True):
    """One step of the state with given difficulties, without a network."""
    competence = 1.0 - difficulty if competence is None else competence
    loss._update_state(difficulty, competence, labels, torch.tensor(finite))


def feed_value(loss, value, size=8):
    feed(loss, torch.full((size,), value), torch.zeros(size, dtype=torch.int64))


def train(loss, steps, dim=6, classes=4):
    torch.manual_seed(5)
    body = torch.nn.Linear(8, dim)
    optimizer = torch.optim.SGD([*body.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)
    trace = []
    for step in range(steps):
        images, labels = draw(size=16, dim=8, classes=classes, seed=step)
        optimizer.zero_grad()
        objective = loss(body(images), labels)
        objective.backward()
        trace += [objective.detach(), body.weight.grad.clone(), loss.weight.grad.clone()]
        optimizer.step()
    return [*trace, body.weight.detach(), body.bias.detach(), loss.weight.detach()]
