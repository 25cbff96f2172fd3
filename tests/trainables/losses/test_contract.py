"""What every entry of LOSSES must do. A new loss joins by its line in LOSSES and its search space."""

import copy
import inspect
import json
import math
import pickle

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.losses import LOSSES, ClassifierLoss

pytestmark = pytest.mark.parametrize("name", sorted(LOSSES))


def snapshot(loss):
    return {key: value.clone() for key, value in loss.state_dict().items()}


def assert_same_state(loss, state):
    assert loss.state_dict().keys() == state.keys()
    for key, value in loss.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_is_a_module_with_a_class_weight(name, make_loss):
    loss = make_loss(name)
    assert isinstance(loss, ClassifierLoss)
    assert isinstance(loss.weight, torch.nn.Parameter)
    assert loss.weight.shape == (5, 6)
    assert loss.weight.dtype == torch.float32


def test_weights_come_from_the_global_generator(name, make_loss):
    assert torch.equal(make_loss(name, seed=0).weight, make_loss(name, seed=0).weight)
    assert not torch.equal(make_loss(name, seed=0).weight, make_loss(name, seed=1).weight)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_objective_and_gradients(name, make_loss, batch, dtype, training):
    loss = make_loss(name).train(training)
    embeddings, labels = batch(dtype=dtype)
    objective = loss(embeddings, labels)
    assert objective.shape == ()
    assert objective.dtype == torch.float32
    assert objective.isfinite()
    objective.backward()
    assert embeddings.grad.dtype == dtype
    for gradient in (embeddings.grad, *(parameter.grad for parameter in loss.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0.0


def test_float64_stays_float64(name, make_loss, batch):
    embeddings, labels = batch(dtype=torch.float64)
    loss = make_loss(name)
    assert loss(embeddings, labels).dtype == torch.float64
    assert loss.logits(embeddings).dtype == torch.float64
    assert loss.double()(embeddings, labels).dtype == torch.float64


@pytest.mark.parametrize("margin_is_open", [False, True])
def test_gradients_in_float64(name, make_loss, batch, margin_is_open):
    loss = make_loss(name).double()
    embeddings, labels = batch(size=4, dtype=torch.float64)
    if margin_is_open:
        for _ in range(3):
            loss(embeddings, labels)
    loss.eval()

    def objective(embeddings, *parameters):
        named = dict(zip(dict(loss.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(loss, named, (embeddings, labels))

    assert torch.autograd.gradcheck(objective, (embeddings, *loss.parameters()))


def test_logits(name, make_loss, batch):
    loss = make_loss(name)
    embeddings, labels = batch()
    before = loss.logits(embeddings)
    assert before.shape == (16, 5)
    assert before.dtype == torch.float32
    scale = torch.as_tensor(getattr(loss, "scale", 1.0)).clone()
    for _ in range(5):
        loss(embeddings, labels)
    after = loss.logits(embeddings) * (scale / getattr(loss, "scale", 1.0))  # AdaCos moves its scale
    torch.testing.assert_close(before, after, rtol=1e-6 if name == "adacos" else 0.0, atol=0.0)  # no margin in them
    assert loss.logits(embeddings.detach().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_cosines_alone(name, make_loss, batch, training):
    loss = make_loss(name)
    embeddings, labels = batch()
    for _ in range(4):
        loss(embeddings, labels)
    x, w = embeddings.detach().double().numpy(), loss.weight.detach().double().numpy()
    if hasattr(loss, "scale"):
        x, w = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (x, w))
        expected = float(loss.scale) * x @ w.T
    else:
        expected = x @ w.T + loss.bias.detach().numpy()
    logits = loss.train(training).logits(embeddings).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_where_a_cosine_is_one_or_minus_one(name, make_loss, sign, training):
    loss = make_loss(name).train(training)
    labels = torch.arange(5)
    embeddings = (sign * 2.0 * loss.weight.detach()).requires_grad_()
    for _ in range(3):
        objective = loss(embeddings, labels)
        gradients = torch.autograd.grad(objective, (embeddings, *loss.parameters()))
        assert objective.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(value.isfinite().all() for value in loss.state_dict().values())


def test_float32_agrees_with_float64(name, make_loss, batch):
    loss = make_loss(name)
    exact = copy.deepcopy(loss).double()
    for step in range(4):
        embeddings, labels = batch(seed=step)
        wide = embeddings.detach().double().requires_grad_()
        objectives = loss(embeddings, labels), exact(wide, labels)
        assert objectives[0].item() == pytest.approx(objectives[1].item(), rel=1e-5)
        ours = torch.autograd.grad(objectives[0], (embeddings, loss.weight))
        theirs = torch.autograd.grad(objectives[1], (wide, exact.weight))
        for mine, other in zip(ours, theirs, strict=True):
            assert (mine.double() - other).norm() < 1e-4 * other.norm()


def test_autocast_leaves_the_head_alone(name, make_loss, batch):
    embeddings, labels = batch()
    loss, under_autocast = make_loss(name), make_loss(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective, logits = under_autocast(embeddings, labels), under_autocast.logits(embeddings)
    assert torch.equal(objective, loss(embeddings, labels))
    assert torch.equal(logits, loss.logits(embeddings))
    assert_same_state(under_autocast, snapshot(loss))


def test_label_smoothing_reaches_the_objective(name, make_loss, batch):
    embeddings, labels = batch()
    plain = make_loss(name)(embeddings, labels)
    assert not torch.isclose(plain, make_loss(name, label_smoothing=0.1)(embeddings, labels))


def test_zero_embeddings_are_harmless(name, make_loss, batch):
    loss = make_loss(name)
    embeddings, labels = batch()
    with torch.no_grad():
        embeddings[0] = 0.0
    for _ in range(2):  # the second step has a margin
        embeddings.grad = None
        objective = loss(embeddings, labels)
        objective.backward()
        assert objective.isfinite()
        assert embeddings.grad.abs().max() < 100.0


def test_evaluation_changes_nothing(name, make_loss, batch):
    loss = make_loss(name)
    embeddings, labels = batch()
    loss(embeddings, labels)
    state = snapshot(loss)
    loss.eval()
    first = loss(embeddings, labels)
    assert torch.equal(first, loss(embeddings, labels))
    loss.logits(embeddings)
    loss.train().logits(embeddings)
    loss.diagnostics()
    assert_same_state(loss, state)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_carries_on_alike_and_apart(name, make_loss, batch, duplicate):
    loss = make_loss(name)
    embeddings, labels = batch()
    loss(embeddings, labels)
    twin = duplicate(loss)
    state = snapshot(loss)
    assert torch.equal(
        make_objectives(twin, embeddings, labels), make_objectives(copy.deepcopy(loss), embeddings, labels)
    )
    assert_same_state(loss, state)


def make_objectives(loss, embeddings, labels):
    return torch.stack([loss(embeddings, labels).detach() for _ in range(3)])


def test_state_dict_round_trip(name, make_loss, batch, tmp_path):
    loss = make_loss(name)
    embeddings, labels = batch()
    loss(embeddings, labels)
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    other = make_loss(name, seed=9)
    other(*batch(seed=2))  # what it learnt before must not shine through
    other.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    assert_same_state(other, snapshot(loss))
    assert torch.equal(make_objectives(other, embeddings, labels), make_objectives(loss, embeddings, labels))
    assert_same_state(other, snapshot(loss))


def test_diagnostics_are_plain_numbers(name, make_loss, batch):
    loss = make_loss(name)
    for _ in range(2):
        diagnostics = loss.diagnostics()
        assert json.loads(json.dumps(diagnostics)) == diagnostics
        assert {"margin_rad", "margin_raw_rad"} <= diagnostics.keys()
        for key, value in diagnostics.items():
            values = value if isinstance(value, list) else [value]
            assert all(type(number) is float and math.isfinite(number) for number in values), key
            assert isinstance(value, list) == key.endswith("_per_class_rad"), key
        assert diagnostics["margin_rad"] == pytest.approx(float(torch.as_tensor(loss.margin_rad).mean()))
        loss(*batch())


def test_margin_is_a_float_or_one_per_class(name, make_loss):
    margin_rad = make_loss(name).margin_rad
    assert type(margin_rad) is float or margin_rad.shape == (5,)


def test_the_margin_that_is_traced_is_one_that_moves(name, make_loss, batch):
    loss = make_loss(name)
    traced, margins = [], []
    for _ in range(3):
        applied_rad = loss.applied_margin_rad()
        margins.append(loss.margin_rad)
        if applied_rad is not None:
            assert applied_rad.shape == (1,)
            assert applied_rad.dtype == torch.float32
            assert applied_rad.item() == loss.margin_rad
            traced.append((applied_rad, loss.margin_rad))
        loss(*batch())
    moves = all(type(margin_rad) is float for margin_rad in margins) and len(set(margins)) == len(margins)
    assert len(traced) == (3 if moves else 0)
    assert all(applied_rad.item() == margin_rad for applied_rad, margin_rad in traced)  # copies: they stay


def test_a_step_asks_nothing_of_the_host(name, make_loss):
    # Fake tensors have no values: .item(), bool(tensor) and the like raise, as they would stall a GPU.
    with FakeTensorMode():
        loss = make_loss(name)
        embeddings = torch.randn(16, 6, requires_grad=True)
        loss.applied_margin_rad()
        loss(embeddings, torch.zeros(16, dtype=torch.int64)).backward()


def test_unknown_arguments_fail(name, make_loss):
    with pytest.raises(TypeError, match="margin_deg"):
        make_loss(name, margin_deg=3.0)


def test_signature_names_every_argument(name, make_loss):
    parameters = inspect.signature(LOSSES[name]).parameters
    assert {"embedding_dim", "num_classes", "label_smoothing"} <= parameters.keys()
    assert not {"arguments", "kwargs"} & parameters.keys()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("embedding_dim", 0),
        ("num_classes", 1),
        ("label_smoothing", -0.1),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
    ],
)
def test_arguments_out_of_range(name, make_loss, argument, value):
    with pytest.raises(ValueError, match=f"^{argument} must be"):
        make_loss(name, **{argument: value})


@pytest.mark.parametrize("shape", [(16, 7), (16,), (16, 6, 1)])
def test_shape_of_embeddings(name, make_loss, shape):
    loss = make_loss(name)
    with pytest.raises(ValueError, match=r"embeddings must have shape \(B, 6\), got"):
        loss(torch.zeros(shape), torch.zeros(16, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"embeddings must have shape \(B, 6\), got"):
        loss.logits(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(15,), (16, 1), ()])
def test_shape_of_labels(name, make_loss, shape):
    with pytest.raises(ValueError, match=r"labels must have shape \(16,\)"):
        make_loss(name)(torch.zeros(16, 6), torch.zeros(shape, dtype=torch.int64))
