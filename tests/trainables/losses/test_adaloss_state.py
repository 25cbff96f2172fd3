"""Properties 3 and 5 of all losses that learn from their batches: what leaves their state alone, and that it is saved,
restored and apart from gradients.
"""

import math

import pytest
import torch

from tests.trainables.losses.adaloss_cases import BOTH, EACH_RULE, RULES, STATE, build, build_rule, draw, state_of
from trainables.losses import LOSSES, ArcFaceLoss

# 3. What is not finite, and what is evaluation, changes nothing.


def test_every_loss_with_a_state_is_here(make_loss):
    a_clock = {"arcface_schedule"}  # counts every batch
    stateful = {name for name in LOSSES if set(make_loss(name).state_dict()) - {"weight", "bias"}}
    assert stateful - a_clock == set(RULES)


@EACH_RULE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["one embedding", "all embeddings", "class weight"])
def test_3_a_batch_that_is_not_finite_changes_nothing(name, changes, bad, where):
    loss = build_rule(name, **changes)
    embeddings, labels = draw()
    loss(embeddings, labels)
    before = state_of(loss)
    weight = loss.weight.detach().clone()
    broken = embeddings.clone()
    if where == "one embedding":
        broken[3, 2] = bad
    elif where == "all embeddings":
        broken[:] = bad
    else:
        loss.weight.data[1, 0] = bad
    loss(broken, labels)
    for buffer, value in state_of(loss).items():
        assert torch.equal(value, before[buffer]), buffer
    loss.weight.data.copy_(weight)
    assert loss(*draw(seed=1)).isfinite()
    assert any(not torch.equal(value, before[buffer]) for buffer, value in state_of(loss).items())
    assert all(value.isfinite().all() for value in state_of(loss).values())


@BOTH
def test_3_a_loss_that_is_not_finite_changes_nothing(per_class):
    loss = build(per_class=per_class)
    _, labels = draw()
    before = state_of(loss)
    cosine = torch.zeros(32, 4)
    loss._after_loss(cosine, labels, torch.tensor(math.inf), torch.zeros(32, 6))
    assert all(torch.equal(getattr(loss, name), value) for name, value in before.items())
    loss._after_loss(cosine, labels, torch.tensor(1.0), torch.zeros(32, 6))
    assert loss.epochs_seen.sum() > 0.0


@EACH_RULE
def test_3_a_first_batch_that_is_not_finite_leaves_a_clean_start(name, changes):
    loss, clean = build_rule(name, **changes), build_rule(name, **changes)
    embeddings, labels = draw()
    loss(embeddings * math.nan, labels)
    loss(embeddings, labels)
    clean(embeddings, labels)
    assert all(torch.equal(value, state_of(clean)[name]) for name, value in state_of(loss).items())


@EACH_RULE
def test_3_evaluation_changes_nothing_and_training_goes_on(name, changes):
    loss = build_rule(name, **changes)
    embeddings, labels = draw()
    loss(embeddings, labels)
    before = state_of(loss)
    loss.eval()
    for seed in range(3):
        loss(*draw(seed=seed))
    assert all(torch.equal(value, before[buffer]) for buffer, value in state_of(loss).items())
    loss.train()(*draw(seed=1))
    assert any(not torch.equal(value, before[buffer]) for buffer, value in state_of(loss).items())


# 5. Saved and restored; apart from gradients and from averages of weights.


@EACH_RULE
def test_5_saved_in_mid_epoch_and_continued_is_the_identical_trajectory(tmp_path, name, changes):
    changes = {**changes, **({"steps_per_epoch": 8} if "steps_per_epoch" in RULES[name] else {})}
    straight = build_rule(name, **changes)
    body = torch.nn.Linear(8, 6)

    def steps(loss, body, optimizer, first, last):
        trace = []
        for step in range(first, last):
            images, labels = draw(dim=8, seed=step)
            optimizer.zero_grad()
            objective = loss(body(images), labels)
            objective.backward()
            optimizer.step()
            state = {buffer: value.tolist() for buffer, value in loss.named_buffers()}
            trace.append((objective.item(), state, loss.diagnostics()))
        return trace

    def optimizer_of(loss, body):
        return torch.optim.SGD([*body.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)

    optimizer = optimizer_of(straight, body)
    steps(straight, body, optimizer, 0, 11)
    torch.save([straight.state_dict(), body.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    expected = steps(straight, body, optimizer, 11, 30)

    other, other_body = build_rule(name, seed=3, **changes), torch.nn.Linear(8, 6)
    other_optimizer = optimizer_of(other, other_body)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for part, state in zip((other, other_body, other_optimizer), saved, strict=True):
        part.load_state_dict(state)
    assert steps(other, other_body, other_optimizer, 11, 30) == expected


@EACH_RULE
def test_5_state_is_buffers_and_no_parameter(name, changes):
    loss = build_rule(name, **changes)
    state = state_of(loss)
    head = ["weight", "bias"] if name == "mr2" else ["weight"]
    assert [parameter for parameter, _ in loss.named_parameters()] == head
    assert set(loss.state_dict()) == {*head, *state}
    assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}
    before = {buffer: value.data_ptr() for buffer, value in loss.named_buffers()}
    loss(*draw())
    assert {buffer: value.data_ptr() for buffer, value in loss.named_buffers()} == before  # changed in place


@BOTH
def test_5_state_is_float32_buffers_one_a_group(per_class):
    loss = build(per_class=per_class)
    assert [name for name, _ in loss.named_parameters()] == ["weight"]
    assert {name for name, _ in loss.named_buffers()} == set(STATE)
    assert set(loss.state_dict()) == {"weight", *STATE}
    for name in STATE:
        assert getattr(loss, name).shape == (4 if per_class else 1,)
        assert getattr(loss, name).dtype == torch.float32


@EACH_RULE
def test_5_no_gradient_flows_into_the_state(name, changes):
    loss = build_rule(name, **changes)
    embeddings, labels = draw()
    embeddings.requires_grad_()
    for _ in range(3):
        loss(embeddings, labels).backward()
    for buffer, value in loss.named_buffers():
        assert not value.requires_grad, buffer
        assert value.grad_fn is None, buffer
    diagnostics = loss.diagnostics()
    assert torch.as_tensor(loss.margin_rad).requires_grad is False
    assert diagnostics == loss.diagnostics()


ANGULAR = [name for name in RULES if name not in ("adacos", "curricularface", "elasticface_cos", "mr2")]


@pytest.mark.parametrize("name", ANGULAR)
def test_5_the_gradient_is_that_of_a_fixed_margin(name):
    loss = build_rule(name)
    embeddings, labels = draw()
    embeddings.requires_grad_()
    for _ in range(3):
        loss(embeddings, labels)
    # Competence and difficulty, and whatever else the margin comes from, are constants to it.
    frozen = ArcFaceLoss(6, 4, scale=8.0, margin_rad=0.0)
    frozen.load_state_dict({"weight": loss.weight})
    margin_rad = torch.as_tensor(loss.margin_rad).expand(4)
    frozen._margin_of_samples_rad = lambda labels: margin_rad[labels]
    loss.eval()
    ours = torch.autograd.grad(loss(embeddings, labels), (embeddings, loss.weight))
    theirs = torch.autograd.grad(frozen(embeddings, labels), (embeddings, frozen.weight))
    torch.testing.assert_close(ours, theirs)


def test_5_the_old_margin_is_used_before_it_moves():
    loss = build(competence_gate=False)
    embeddings, labels = draw()
    expected = ArcFaceLoss(6, 4, scale=8.0, margin_rad=0.3)
    expected.load_state_dict({"weight": loss.weight})
    torch.testing.assert_close(loss(embeddings, labels), expected(embeddings, labels))
    assert loss.margin_rad != pytest.approx(0.3, abs=1e-4)


def test_5_a_margin_read_earlier_does_not_move_later():
    loss = build(per_class=True)
    margin_rad = loss.margin_raw_rad
    loss(*draw())
    assert margin_rad.tolist() == pytest.approx([0.3] * 4)
