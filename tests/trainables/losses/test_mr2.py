"""MR2 on cases that can be worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from trainables.losses import MR2Loss

D, C = 2, 3


def build(**changes):
    torch.manual_seed(0)
    arguments = {"temperature": 0.5, "representation_weight": 0.0, "steps_per_epoch": 10}
    return MR2Loss(D, C, **{**arguments, **changes})


def test_the_temperature_of_a_class_goes_with_the_cube_root_of_its_mean_square():
    loss = build()
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [-2.0, 2.0], [5.0, 1.0], [1.0, 1.0]])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(loss.temperatures(), torch.full((C,), 0.5))  # nothing is known yet
    loss(embeddings, labels)
    squares = [1.0, 8.0, 14.0]
    roots = [square ** (1 / 3) for square in squares]
    expected = [0.5 * C * root / sum(roots) for root in roots]
    assert loss.temperatures().tolist() == pytest.approx(expected)
    assert loss.temperatures().mean().item() == pytest.approx(0.5)


def test_a_class_never_seen_has_the_mean_one_and_none_is_below_a_tenth_of_it():
    loss = build()
    loss(torch.tensor([[1.0, 0.0], [1000.0, 0.0]]), torch.tensor([0, 1]))
    root = 1e6 ** (1 / 3)
    assert loss.temperatures().tolist() == pytest.approx([0.05, root / (1 + root), 0.5])


def test_distances_within_a_class_cost_by_what_exceeds_twice_the_mean_deviation():
    loss = build(representation_weight=0.7)
    embeddings = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    labels = torch.tensor([0, 0, 1])
    found = loss(embeddings, labels).item()
    deviation = (1.0 + 0.0) / 2  # of class 0: mean square 2 less squared mean 1; class 1 has one point, class 2 none
    each = math.log(1 + math.exp((4.0 - 2 * deviation) / D))
    plain = F.cross_entropy(loss.logits(embeddings) / loss.temperatures()[labels].unsqueeze(1), labels).item()
    assert found == pytest.approx(plain + 0.7 * (2 * each + 0.0) / 3, rel=1e-5)


def test_without_both_margins_it_is_softmax():
    loss = build(temperature=1.0)
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # all of one length: all classes alike
    labels = torch.tensor([0, 1, 2])
    assert loss(embeddings, labels).item() == pytest.approx(F.cross_entropy(loss.logits(embeddings), labels).item())


def test_what_it_has_learnt_is_a_constant_to_the_gradient():
    loss = build(representation_weight=0.3)
    embeddings, labels = torch.randn(8, D, generator=torch.Generator().manual_seed(1)), torch.arange(8) % C
    loss(embeddings, labels)
    loss.eval()
    x = embeddings.clone().requires_grad_()
    loss(x, labels).backward()
    y = embeddings.clone().requires_grad_()
    temperatures = loss.temperatures()[labels].unsqueeze(1)
    mean = loss.running_mean.double()
    allowed = 2 * (loss.running_square.double() - (mean**2).sum(1)).mean()
    distance = torch.cdist(y.double(), y.double()) ** 2
    pair = (labels.unsqueeze(1) == labels).double() - torch.eye(8, dtype=torch.float64)
    spread = torch.log1p((pair * torch.exp((distance - allowed) / D)).sum(1)).mean()
    (F.cross_entropy(loss.logits(y) / temperatures, labels) + 0.3 * spread).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


def test_large_distances_do_not_overflow():
    loss = build(representation_weight=1.0)
    embeddings = torch.tensor([[0.0, 0.0], [1e4, 0.0]], requires_grad=True)
    found = loss.eval()(embeddings, torch.tensor([0, 0]))
    found.backward()
    assert found.isfinite()
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("temperature", 0.0),
        ("temperature", math.inf),
        ("representation_weight", -0.1),
        ("representation_weight", math.nan),
        ("half_life_epochs", 0.0),
    ],
)
def test_arguments_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        build(**{argument: value})
