"""The shared part: directions, sine, psi, and the losses whose margin does not move."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.losses import LOSSES, MarginSoftmaxLoss
from trainables.losses.margin_softmax import directions, psi, sine_between

MARGINS_RAD = st.floats(0.0, 3.1)
ANGULAR = sorted(name for name, loss in LOSSES.items() if issubclass(loss, MarginSoftmaxLoss))


def expected_psi(theta, margin_rad):
    """The definition, on angles."""
    if theta + margin_rad <= math.pi:
        return math.cos(theta + margin_rad)
    return math.cos(theta) - (1.0 - math.cos(margin_rad))


def vectors_at(theta, dtype, length=1.0):
    """Embeddings of the given length, one an angle, and a class weight, theta apart, in a plane of five dimensions."""
    basis, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 2)))
    theta = np.atleast_1d(theta)[:, None]
    embeddings = length * (np.cos(theta) * basis[:, 0] + np.sin(theta) * basis[:, 1])
    return torch.tensor(embeddings, dtype=dtype), torch.tensor(2.5 * basis[None, :, 0], dtype=dtype)


def psi_of(embeddings, weights, margin_rad):
    u, v = directions(embeddings), directions(weights)
    margin = torch.full(u.shape[:1], margin_rad, dtype=u.dtype)
    return psi((u * v).sum(dim=1), sine_between(u, v), margin)


@given(theta=st.floats(0.0, math.pi), margin_rad=MARGINS_RAD)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_psi_is_its_definition(theta, margin_rad):
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        value = psi_of(*vectors_at(theta, dtype), margin_rad).item()
        assert value == pytest.approx(expected_psi(theta, margin_rad), abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("margin_rad", [0.0, 0.2, 0.5, 1.0, 2.0, 3.1])
def test_psi_falls_without_jumps(margin_rad, dtype):
    theta = np.linspace(0.0, math.pi, 4001)
    around_the_seam = math.pi - margin_rad + np.linspace(-1e-3, 1e-3, 101)
    theta = np.sort(np.concatenate([theta, np.clip(around_the_seam, 0.0, math.pi)]))
    embeddings, weight = vectors_at(theta, dtype)
    steps = psi_of(embeddings, weight.expand_as(embeddings), margin_rad).diff()
    rounding = 8.0 * torch.finfo(dtype).eps
    assert steps.max() <= rounding
    assert steps.min() >= -(math.pi / 4000.0) - rounding  # the slope is at least -1, so there is no jump either


@pytest.mark.parametrize("margin_rad", [0.5, 1.0])
def test_beyond_the_seam_the_gradient_still_pulls_towards_the_class(margin_rad):
    for theta in (math.pi - margin_rad - 0.05, math.pi - margin_rad + 0.05, math.pi - 0.05):
        embedding, weight = vectors_at(theta, torch.float64)
        embedding.requires_grad_()
        psi_of(embedding, weight, margin_rad).sum().backward()
        assert (embedding.grad * weight).sum() > 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("margin_rad", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("end", [0.0, math.pi])
def test_gradient_has_its_exact_length_up_to_the_ends(end, gap, margin_rad, dtype):
    theta = abs(end - gap)
    embedding, weight = vectors_at(theta, dtype, length=3.0)
    embedding.requires_grad_()
    psi_of(embedding, weight, margin_rad).sum().backward()
    inside = theta + margin_rad <= math.pi
    expected = abs(math.sin(theta + margin_rad)) / 3.0 if inside else math.sin(theta) / 3.0
    tolerance = 1e-7 if dtype == torch.float64 else 2e-3
    assert embedding.grad.norm().item() == pytest.approx(expected, rel=tolerance, abs=tolerance * 1e-3)


@pytest.mark.parametrize("margin_rad", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("cosine", [0.5, 1 - 1e-3, 1 - 1e-6, -1 + 1e-3, -1 + 1e-6, -0.9, -math.cos(0.3) + 1e-3])
def test_gradcheck_close_to_the_ends(cosine, margin_rad):
    embedding, weight = vectors_at(math.acos(cosine), torch.float64)
    inputs = (embedding.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda u, v: psi_of(u, v, margin_rad), inputs, eps=1e-8, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("margin_rad", [0.0, 0.3, 0.8, 2.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("exact", [True, False])
def test_value_and_gradient_at_the_very_ends(sign, margin_rad, dtype, exact):
    weight = torch.tensor([[0.0, 1.0, 0.0]] if exact else [[0.3, -0.7, 1.9]], dtype=dtype).requires_grad_()
    embedding = (sign * 3.0 * weight.detach()).requires_grad_()
    value = psi_of(embedding, weight, margin_rad)
    value.sum().backward()
    assert value.item() == pytest.approx(expected_psi(0.0 if sign > 0 else math.pi, margin_rad), abs=1e-6)
    length = embedding.detach().norm()
    assert embedding.grad.norm() <= 1.01 * math.sin(margin_rad) / length + 1e-6
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ANGULAR)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_objective_at_the_very_ends(make_loss, name, sign):
    loss = make_loss(name)
    labels = torch.arange(5)
    embeddings = (sign * 2.0 * loss.weight.detach()).requires_grad_()
    for _ in range(3):
        embeddings.grad = None
        objective = loss(embeddings, labels)
        objective.backward()
        assert objective.isfinite()
        assert embeddings.grad.isfinite().all()
        assert embeddings.grad.norm(dim=1).max() < loss.scale / embeddings.detach().norm(dim=1).min()
        assert loss.weight.grad.isfinite().all()


def test_directions_of_zero_and_tiny_vectors():
    vectors = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [3e-10, 4e-10], [3.0, 4.0]], requires_grad=True)
    units = directions(vectors)
    torch.testing.assert_close(units, torch.tensor([[0.0, 0.0], [1e-30, 0.0], [0.6, 0.8], [0.6, 0.8]]))
    units.sum().backward()
    torch.testing.assert_close(vectors.grad[:2], torch.ones(2, 2))
    assert vectors.grad.isfinite().all()


def test_margin_is_seen_where_bf16_cosines_all_round_to_one(make_loss):
    loss = make_loss("arcface")
    weight = loss.weight.detach()[0]
    sideways = torch.linalg.qr(torch.stack([weight, torch.arange(6.0)], dim=1)).Q[:, 1]
    unit = weight / weight.norm()
    embeddings = torch.stack([unit * math.cos(t) + sideways * math.sin(t) for t in (0.02, 0.04)])
    assert (embeddings @ unit).bfloat16().eq(1.0).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near, far = (loss(row[None], torch.zeros(1, dtype=torch.int64)).item() for row in embeddings)
    # The target logit falls by s sin(0.3) * 0.02 = 0.05 between the two.
    assert far - near > 0.0005


def test_margin_softmax_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        MarginSoftmaxLoss(4, 3, scale=8.0)


@pytest.mark.parametrize("name", [name for name in ANGULAR if name != "adacos"])  # which finds its own
@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scale_out_of_range(make_loss, name, scale):
    with pytest.raises(ValueError, match=r"^scale must be finite and > 0, got"):
        make_loss(name, scale=scale)


def test_norm_softmax_has_no_margin(make_loss):
    assert make_loss("norm_softmax").margin_rad == 0.0
