"""Property 4: one margin a class."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.losses.adaloss_cases import PROPERTY, build, draw, feed, state_of
from trainables.losses import ArcFaceLoss


@PROPERTY
@given(seed=st.integers(0, 10_000), absent=st.integers(0, 3))
def test_4_an_absent_class_is_untouched(seed, absent):
    loss = build(per_class=True)
    loss(*draw(seed=seed + 1))
    before = state_of(loss)
    embeddings, labels = draw(seed=seed)
    present = torch.isin(torch.arange(4), labels) & (torch.arange(4) != absent)
    loss(embeddings[labels != absent], labels[labels != absent])
    for name, value in state_of(loss).items():
        assert value[absent] == before[name][absent], name
    assert (loss.epochs_seen[present] > before["epochs_seen"][present]).all()
    at_rest = (loss.running_difficulty - loss.target_difficulty).abs() < 1e-5
    assert ((loss.running_margin_rad != before["running_margin_rad"]) | at_rest)[present].all()


@PROPERTY
@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
def test_4_permuting_classes_permutes_the_state(seed, order):
    order = torch.tensor(order)
    loss, permuted = build(per_class=True), build(per_class=True)
    permuted.weight.data.copy_(loss.weight.data[order])
    rank_of = order.argsort()  # class order[i] becomes class i
    for step in range(4):
        embeddings, labels = draw(seed=seed + step)
        torch.testing.assert_close(loss(embeddings, labels), permuted(embeddings, rank_of[labels]))
    for name, value in state_of(loss).items():
        torch.testing.assert_close(getattr(permuted, name), value[order])


@PROPERTY
@given(only=st.integers(0, 3), values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_4_on_one_class_it_is_the_single_margin(only, values):
    single, per_class = build(), build(per_class=True)
    for step, value in enumerate(values):
        difficulty = torch.tensor([value, 1.0, 0.0, value])[: 1 + step % 4]
        for loss in (single, per_class):
            feed(loss, difficulty, torch.full_like(difficulty, only, dtype=torch.int64))
    for name, value in state_of(single).items():
        assert torch.equal(getattr(per_class, name)[only], value[0]), name
    assert per_class.margin_rad[only] == single.margin_rad


def test_4_each_sample_gets_the_margin_of_its_class():
    loss = build(per_class=True, competence_gate=False, rate_up_rad_per_epoch=0.0, rate_down_rad_per_epoch=0.0)
    loss.running_margin_rad.copy_(torch.tensor([0.0, 0.2, 0.4, 0.6]))
    embeddings, labels = draw()
    for label, margin_rad in enumerate((0.0, 0.2, 0.4, 0.6)):
        torch.manual_seed(0)
        arcface = ArcFaceLoss(6, 4, scale=8.0, margin_rad=margin_rad)
        mine = labels == label
        torch.testing.assert_close(loss(embeddings[mine], labels[mine]), arcface(embeddings[mine], labels[mine]))


def test_4_a_harder_class_gets_the_larger_raw_margin():
    loss = build(per_class=True)
    labels = torch.arange(4).repeat(4)
    for _ in range(10):
        feed(loss, torch.tensor([0.0, 0.3, 0.6, 1.0]).repeat(4), labels)
    assert loss.running_margin_rad.tolist() == sorted(loss.running_margin_rad.tolist())
    assert loss.running_margin_rad[0] < 0.3 < loss.running_margin_rad[3]
    assert loss.margin_rad[3] == 0.0  # no competence, no margin


def test_4_a_class_is_averaged_by_its_samples():
    # Ten samples in one batch, or in batches of four and six: the same evidence within the same time.
    at_once, in_parts = build(per_class=True, steps_per_epoch=10), build(per_class=True, steps_per_epoch=20)
    for value in (0.9, 0.1, 0.5):
        labels = torch.tensor([0] * 10 + [1] * 10)
        feed(at_once, torch.full((20,), value), labels)
        feed(in_parts, torch.full((10,), value), torch.tensor([0] * 4 + [1] * 6))
        feed(in_parts, torch.full((10,), value), torch.tensor([0] * 6 + [1] * 4))
    torch.testing.assert_close(at_once.epochs_seen, in_parts.epochs_seen)
    torch.testing.assert_close(at_once.running_difficulty[:2], in_parts.running_difficulty[:2], atol=0.01, rtol=0.0)
