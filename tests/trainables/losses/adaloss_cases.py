"""AdaLoss and its kin on small batches, with and without a network: what their tests have in common."""

import pytest
import torch
from hypothesis import settings

from trainables.losses import LOSSES, AdaLoss

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


_STEPS = {"steps_per_epoch": 10}
_MARGIN = {"scale": 8.0, "margin_rad": 0.3}
_RATES = {"rate_up_rad_per_epoch": 0.5, "rate_down_rad_per_epoch": 0.4}
_ADALOSS = {**_MARGIN, **_RATES, "target_difficulty": 0.4, **_STEPS}
# The losses that learn from their batches, each with arguments under which it does so visibly.
RULES = {
    "adaloss": _ADALOSS,
    "adaloss_per_class": _ADALOSS,
    "adaloss_quantile": {**_MARGIN, **_RATES, "quantile": 0.3, "target_angle_gap_rad": 0.2, **_STEPS},
    "adaloss_relative": {**_MARGIN, "strength": 0.8, **_STEPS},
    "adaloss_relative_permuted": {**_MARGIN, "strength": 0.8, **_STEPS},
    "adaloss_trapezoid": {
        **_MARGIN,
        "plateau_from": 0.1,
        "plateau_until": 0.5,
        "zero_from": 0.9,
        **_STEPS,
    },
    "adacos": {},
    "curricularface": {**_MARGIN, **_STEPS},
    "elasticface": {**_MARGIN, "margin_std_rad": 0.1},
    "elasticface_cos": {"scale": 8.0, "margin": 0.3, "margin_std": 0.1},
    "mr2": {"temperature": 0.5, "representation_weight": 0.4, **_STEPS},
    "kappaface": {"scale": 8.0, "margin_rad": 0.6, "temperature": 0.5, "gamma": 0.3, **_STEPS},
}
_VARIANTS = (
    *((name, {}) for name in RULES),
    *((name, {"difficulty": "gap"}) for name in RULES if name.startswith("adaloss") and "quantile" not in name),
)
EACH_RULE = pytest.mark.parametrize(
    ("name", "changes"),
    _VARIANTS,
    ids=["-".join((name, *changes.values())) for name, changes in _VARIANTS],
)


def build_rule(name, seed=0, **changes):
    """One of RULES, or CosFace, for embeddings of length 6 and four classes."""
    torch.manual_seed(seed)
    arguments = {"embedding_dim": 6, "num_classes": 4, **RULES.get(name, {"scale": 8.0, "margin": 0.3}), **changes}
    return LOSSES[name](**{key: value for key, value in arguments.items() if value is not ...})


def draw(size=32, dim=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, dim, generator=generator), labels


def state_of(loss):
    return {name: value.clone() for name, value in loss.named_buffers()}


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
