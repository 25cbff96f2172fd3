import math

import pytest
import torch

from tests.trainables.losses.margin_softmax_loop import looped_objective


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 1e-5), (torch.float16, 1e-5)],
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("margin_rad", [0.0, 0.3, 1.5])
def test_agrees_with_a_loop(make_loss, batch, dtype, tolerance, label_smoothing, margin_rad):
    loss = make_loss("arcface", margin_rad=margin_rad, label_smoothing=label_smoothing)
    embeddings, labels = batch(size=32, dtype=dtype)
    expected = looped_objective(
        embeddings.tolist(), loss.weight.tolist(), labels.tolist(), loss.scale, margin_rad, label_smoothing
    )
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=tolerance)


def test_the_loop_goes_beyond_pi_too(make_loss, batch):
    loss = make_loss("arcface", margin_rad=1.5)
    embeddings, labels = batch(size=32)
    target_cosine = loss.logits(embeddings).gather(1, labels[:, None]) / loss.scale
    assert 3 < (target_cosine.arccos() + 1.5 > math.pi).sum() < 29


def test_norm_softmax_agrees_with_the_loop_without_margin(make_loss, batch):
    loss = make_loss("norm_softmax")
    embeddings, labels = batch(dtype=torch.float64)
    expected = looped_objective(embeddings.tolist(), loss.weight.tolist(), labels.tolist(), loss.scale, 0.0)
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-12)


def test_margin_zero_is_norm_softmax(make_loss, batch):
    gradients = []
    objectives = []
    for loss in (make_loss("norm_softmax"), make_loss("arcface", margin_rad=0.0)):
        embeddings, labels = batch()
        objectives.append(loss(embeddings, labels))
        objectives[-1].backward()
        gradients.append((embeddings.grad, loss.weight.grad))
    assert torch.equal(*objectives)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.0, atol=1e-7)


def test_a_larger_margin_costs_more(make_loss, batch):
    embeddings, labels = batch()
    costs = [make_loss("arcface", margin_rad=m)(embeddings, labels).item() for m in (0.0, 0.1, 0.3, 0.6, 1.0)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_margin_never_moves(make_loss, batch):
    loss = make_loss("arcface")
    assert loss.margin_rad == 0.3
    assert loss.diagnostics() == {"margin_rad": 0.3, "margin_raw_rad": 0.3}
    embeddings, labels = batch()
    before = loss(embeddings, labels)
    assert torch.equal(before, loss(embeddings, labels))
    assert loss.margin_rad == 0.3
    assert list(loss.state_dict()) == ["weight"]


@pytest.mark.parametrize("margin_rad", [-0.1, math.pi, math.nan, math.inf])
def test_margin_out_of_range(make_loss, margin_rad):
    with pytest.raises(ValueError, match=r"^margin_rad must be in \[0, pi\), got"):
        make_loss("arcface", margin_rad=margin_rad)
