"""Properties 2 and 6: how far the margin moves in a step, and that the batch size does not matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.losses.adaloss_cases import BOTH, PROPERTY, build, draw, feed, feed_value

# 2. The margin's step: monotone in the difficulty, bounded, at rest on target.


@given(
    low=st.floats(0.0, 1.0),
    high=st.floats(0.0, 1.0),
    tau=st.floats(0.01, 0.99),
    start=st.floats(0.0, 0.8),
    up=st.floats(0.0, 5.0),
    down=st.floats(0.0, 5.0),
)
@PROPERTY
def test_2_harder_never_means_a_smaller_step(low, high, tau, start, up, down):
    low, high = sorted((low, high))
    margins_rad = []
    for value in (low, high):
        loss = build(target_difficulty=tau, margin_rad=start, rate_up_rad_per_epoch=up, rate_down_rad_per_epoch=down)
        feed_value(loss, value)
        margins_rad.append(loss.margin_raw_rad)
        step = margins_rad[-1] - start
        rounding = 1e-6
        assert -down / 10 - rounding <= step <= up / 10 + rounding
        if abs(value - tau) > 1e-6:
            assert step <= rounding if value < tau else step >= -rounding
    assert margins_rad[0] <= margins_rad[1]


def test_2_steps_have_their_full_size_at_the_ends_and_vanish_on_target():
    for value, step in ((1.0, 0.05), (0.7, 0.025), (0.4, 0.0), (0.2, -0.02), (0.0, -0.04)):
        loss = build()
        feed_value(loss, value)
        assert loss.margin_raw_rad == pytest.approx(0.3 + step, abs=1e-7)


@BOTH
@given(values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), rate=st.floats(0.0, 100.0))
@PROPERTY
def test_2_margin_stays_within_bounds(per_class, values, rate):
    loss = build(
        per_class=per_class,
        margin_min_rad=0.1,
        margin_max_rad=0.5,
        rate_up_rad_per_epoch=rate,
        rate_down_rad_per_epoch=rate,
    )
    for step, value in enumerate(values):
        before = loss.running_margin_rad.clone()
        _, labels = draw(size=8, seed=step)
        feed(loss, torch.full((8,), value), labels)
        assert loss.running_margin_rad.min() >= 0.1 - 1e-7
        assert loss.running_margin_rad.max() <= 0.5 + 1e-7
        assert (loss.running_margin_rad - before).abs().max() <= rate / 10 + 1e-6
        applied = torch.as_tensor(loss.margin_rad)
        assert applied.min() >= 0.0
        assert applied.max() <= 0.5 + 1e-7


def test_2_margin_reaches_and_leaves_its_bounds():
    loss = build(margin_max_rad=0.35)
    for _ in range(30):
        feed_value(loss, 1.0)
    assert loss.margin_raw_rad == pytest.approx(0.35)
    for _ in range(200):
        feed_value(loss, 0.0)
    assert loss.margin_raw_rad == 0.0


# 6. Rates and half-lives are per epoch: the batch size does not matter.


def trajectory(values, parts, per_class, lengths, constant):
    """Margins after each of the steps; each batch of 16 is given in so many parts."""
    loss = build(per_class=per_class, half_life_epochs=0.5, **lengths)
    labels = torch.arange(4).repeat(4)
    margins_rad = []
    for value in values:
        difficulty = torch.full((16,), values[0] if constant else value)
        for part in range(parts):
            rows = slice(part * 16 // parts, (part + 1) * 16 // parts)
            feed(loss, difficulty[rows], labels[rows])
        margins_rad.append(torch.cat([loss.running_margin_rad, loss.running_difficulty, loss.running_competence]))
    return torch.stack(margins_rad)


@BOTH
@pytest.mark.parametrize("by_samples", [False, True])
@pytest.mark.parametrize("constant", [True, False])
@given(seed=st.integers(0, 10_000))
@settings(PROPERTY, max_examples=4)
def test_6_half_the_batch_and_twice_the_steps_is_the_same_trajectory(per_class, by_samples, constant, seed):
    values = torch.rand(40, generator=torch.Generator().manual_seed(seed)).tolist()
    whole, halves, quarters = (
        trajectory(
            values,
            parts,
            per_class,
            {"samples_per_epoch": 16 * 20} if by_samples else {"steps_per_epoch": 20 * parts},
            constant,
        )
        for parts in (1, 2, 4)
    )
    groups = 4 if per_class else 1
    # The averages agree exactly. A margin integrates them with shorter steps, as exactly only if they stand still.
    for other in (halves, quarters):
        torch.testing.assert_close(other[:, groups:], whole[:, groups:], atol=2e-5, rtol=0.0)
        torch.testing.assert_close(other[:, :groups], whole[:, :groups], atol=2e-5 if constant else 0.01, rtol=0.0)


def test_6_half_life_and_bias_correction():
    loss = build(steps_per_epoch=10, half_life_epochs=0.5)
    feed_value(loss, 1.0)
    assert loss.running_difficulty.item() == 1.0  # the first batch counts in full
    for _ in range(199):
        feed_value(loss, 1.0)
    for _ in range(5):
        feed_value(loss, 0.0)
    assert loss.running_difficulty.item() == pytest.approx(0.5, abs=1e-5)  # one half-life later


def test_6_a_short_last_batch_counts_by_its_samples():
    loss = build(samples_per_epoch=100)
    for size in (32, 32, 32, 4):
        feed_value(loss, 1.0, size)
    assert loss.epochs_seen.item() == pytest.approx(1.0)
    assert loss.margin_raw_rad == pytest.approx(0.3 + 0.5)
