"""Losses from other papers, and variants of AdaLoss, against loops over their equations: values and gradients."""

import itertools

import numpy as np
import pytest
import torch

from tests.trainables.losses.adaloss_cases import RULES, build_rule, draw
from tests.trainables.losses.rule_loops import LOOPS
from trainables.losses import LOSSES

CLASSES, DIM = 4, 6
CASES = [(name, {}) for name in LOOPS] + [
    (name, {"difficulty": "gap"}) for name in LOOPS if name in ("adaloss_relative", "adaloss_trapezoid")
]
each_case = pytest.mark.parametrize(
    ("name", "changes"), CASES, ids=["-".join((name, *changes.values())) for name, changes in CASES]
)


def steps(count, weight):
    """Batches that are random first and easy later; now and then a class is absent."""
    for step in range(count):
        embeddings, labels = draw(size=12, dim=DIM, classes=CLASSES, seed=step)
        if step % 2:
            labels[labels == 3] = 0
        if step > count // 2:
            embeddings = embeddings + 3.0 * weight[labels].float()
        yield embeddings, labels


def exact(loss):
    """Begin with numbers to the last digit: buffers are float32 where a loss is built."""
    if hasattr(loss, "running_margin_rad"):
        loss.margin_rad_at_start = 0.3
        loss.running_margin_rad.fill_(0.3)
    if "scale" in dict(loss.named_buffers()):
        loss.scale.fill_(np.sqrt(2) * np.log(CLASSES - 1))


def differenced(function, values, step=1e-5):
    """The gradient of a function of nested lists of numbers, by central differences."""
    values = np.array(values)
    gradient = np.zeros_like(values)
    for place in itertools.product(*map(range, values.shape)):
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[place] += sign * step
            ends.append(function(moved.tolist()))
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def worst_differences(name, changes, dtype, count=14):
    """Return the largest relative differences from the loop: of the loss, of the gradient and of the margins."""
    loss = build_rule(name, **changes).to(dtype)
    exact(loss)
    loop = LOOPS[name](loss, CLASSES, DIM)
    worst = {"loss": 0.0, "gradient": 0.0}
    for step, (embeddings, labels) in enumerate(steps(count, loss.weight.detach())):
        embeddings = embeddings.to(dtype).requires_grad_()
        numbers, weight, ys = embeddings.tolist(), loss.weight.tolist(), labels.tolist()
        loop.begin(numbers, weight, ys)
        expected = loop.objective(numbers, weight, ys)
        objective = loss(embeddings, labels)
        worst["loss"] = max(worst["loss"], abs(objective.item() - expected) / abs(expected))
        if step in (0, 5, count - 1):
            ours = torch.autograd.grad(objective, (embeddings, loss.weight))
            theirs = (
                differenced(lambda x, w=weight, y=ys: loop.objective(x, w, y), numbers),
                differenced(lambda w, x=numbers, y=ys: loop.objective(x, w, y), weight),
            )
            for mine, other in zip(ours, theirs, strict=True):
                difference = np.linalg.norm(mine.double().numpy() - other) / np.linalg.norm(other)
                worst["gradient"] = max(worst["gradient"], float(difference))
        loop.end(numbers, weight, ys)
    return worst


@each_case
@pytest.mark.parametrize(
    ("dtype", "tolerance", "gradient_tolerance"), [(torch.float64, 1e-10, 1e-7), (torch.float32, 2e-5, 2e-4)]
)
def test_agrees_with_a_loop(name, changes, dtype, tolerance, gradient_tolerance):
    worst = worst_differences(name, changes, dtype)
    assert worst["loss"] < tolerance
    assert worst["gradient"] < gradient_tolerance


def test_every_rule_has_a_loop():
    has_a_loop_elsewhere = {"softmax", "norm_softmax", "arcface", "arcface_schedule", "adaloss", "adaloss_per_class"}
    assert set(LOOPS) | has_a_loop_elsewhere == set(LOSSES)
    assert set(LOOPS) <= set(RULES) | {"cosface"}


@each_case
def test_what_it_adds_is_at_work(name, changes):
    """The loop is no test of a rule that never acts: without its margin or its scale the loss is another one."""
    loss = build_rule(name, **changes)
    plain = LOSSES["norm_softmax"](DIM, CLASSES, scale=8.0)
    plain.load_state_dict({"weight": loss.weight})
    differs = [
        not torch.isclose(loss(embeddings, labels), plain(embeddings, labels), rtol=1e-3)
        for embeddings, labels in steps(14, loss.weight.detach())
    ]
    assert sum(differs) >= 7
