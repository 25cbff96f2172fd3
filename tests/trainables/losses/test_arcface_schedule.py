"""ArcFace on a schedule: ArcFace in every step, with a margin that a list and a counter decide."""

import json
import math

import pytest
import torch

from tests.trainables.losses.adaloss_cases import build as build_adaloss
from tests.trainables.losses.adaloss_cases import draw, train
from tests.trainables.losses.margin_softmax_loop import looped_objective
from trainables.losses import ArcFaceLoss, ArcFaceScheduleLoss

RAMP = tuple(0.6 * step / 19 for step in range(20))


def build(margins_rad=RAMP, seed=0, **changes):
    torch.manual_seed(seed)
    return ArcFaceScheduleLoss(6, 4, **{"scale": 8.0, "margins_rad": margins_rad, **changes})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_agrees_with_a_loop_step_by_step(dtype, tolerance):
    margins_rad = (0.0, 0.4, 0.2, 1.5)
    loss = build(margins_rad)
    for step in range(7):
        embeddings, labels = draw(size=12, seed=step)
        expected = looped_objective(
            embeddings.tolist(), loss.weight.tolist(), labels.tolist(), 8.0, margins_rad[min(step, 3)]
        )
        assert loss(embeddings.to(dtype), labels).item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_gradients_in_each_step(step):
    loss = build((0.0, 0.5, 1.5)).double()
    embeddings, labels = draw(size=4)
    for _ in range(step):
        loss(embeddings, labels)
    loss.eval()

    def objective(embeddings, weight):
        return torch.func.functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(objective, (embeddings.double().requires_grad_(), loss.weight))


@pytest.mark.parametrize("margin_rad", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("length", [1, 20])  # the last entry stays
def test_a_constant_schedule_is_arcface_bitwise(margin_rad, length):
    torch.manual_seed(0)
    arcface = ArcFaceLoss(6, 4, scale=8.0, margin_rad=margin_rad, label_smoothing=0.1)
    schedule = build([margin_rad] * length, label_smoothing=0.1)
    for ours, theirs in zip(train(schedule, 20), train(arcface, 20), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("competence_gate", [True, False])
def test_replaying_adaloss_is_adaloss_bitwise(competence_gate):
    adaloss = build_adaloss(competence_gate=competence_gate, label_smoothing=0.1)
    margins_rad = []
    adaloss.register_forward_pre_hook(lambda module, _: margins_rad.append(module.margin_rad))
    expected = train(adaloss, 20)
    assert len(set(margins_rad)) > 10
    replay = build(json.loads(json.dumps(margins_rad)), label_smoothing=0.1)
    replayed = []
    replay.register_forward_pre_hook(lambda module, _: replayed.append(module.margin_rad))
    for ours, theirs in zip(train(replay, 20), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert replayed == margins_rad


def test_the_margin_is_the_next_steps():
    loss = build((0.1, 0.3, 0.2))
    seen = []
    for step in range(5):
        seen.append(loss.margin_rad)
        assert loss.diagnostics() == {"margin_rad": seen[-1], "margin_raw_rad": seen[-1]}
        loss(*draw(seed=step))
    assert seen == torch.tensor([0.1, 0.3, 0.2, 0.2, 0.2]).tolist()


def test_a_batch_that_is_not_finite_takes_its_time_too():
    loss = build()
    embeddings, labels = draw()
    assert not loss(embeddings * math.nan, labels).isfinite()
    assert loss.steps_seen.item() == 1


def test_evaluation_takes_no_time():
    loss = build().eval()
    for seed in range(3):
        loss(*draw(seed=seed))
        loss.logits(draw(seed=seed)[0])
    assert loss.steps_seen.item() == 0
    loss.train().logits(draw()[0])
    assert loss.steps_seen.item() == 0
    loss(*draw())
    assert loss.steps_seen.item() == 1


def test_the_state_is_the_step_alone():
    loss = build()
    for seed in range(3):
        loss(*draw(seed=seed))
    state = loss.state_dict()
    assert set(state) == {"weight", "steps_seen"}
    assert state["steps_seen"].dtype == torch.int64
    assert [name for name, _ in loss.named_parameters()] == ["weight"]
    resumed = build(seed=1)
    resumed.load_state_dict(state)
    assert resumed.margin_rad == loss.margin_rad == torch.tensor(RAMP[3]).item()


@pytest.mark.parametrize("bad", [-0.1, math.pi, math.nan, math.inf, -math.inf])
def test_a_margin_out_of_range_is_named(bad):
    with pytest.raises(ValueError, match=r"^margins_rad\[2\] must be in \[0, pi\), got"):
        build([0.1, 0.2, bad, 0.3])


def test_a_schedule_has_a_first_step():
    with pytest.raises(ValueError, match=r"^margins_rad must be a list of at least one, got \[\]"):
        build([])


def test_the_callers_list_may_change_afterwards():
    margins_rad = [0.1, 0.2]
    loss = build(margins_rad)
    margins_rad[0] = 0.5
    assert loss.margin_rad == pytest.approx(0.1)
