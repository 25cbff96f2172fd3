"""What each rule promises: bounds, independence of the batch size, and what tells it from the others."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.trainables.losses.adaloss_cases import PROPERTY, RULES, build_rule, draw
from tests.trainables.losses.rule_loops import splitmix64
from trainables.losses import LOSSES, ArcFaceLoss
from trainables.losses.counted_noise import normal_at
from trainables.losses.running import RunningLoss

TIMED = [name for name in RULES if issubclass(LOSSES[name], RunningLoss)]
# The largest margin that the arguments in RULES allow.
MOST_RAD = {
    "adaloss": 0.8,
    "adaloss_per_class": 0.8,
    "adaloss_quantile": 0.8,
    "adaloss_relative": 0.6,
    "adaloss_relative_permuted": 0.6,
    "adaloss_trapezoid": 0.3,
    "kappaface": 0.6,
}


def close_to_classes(loss, seed, pull):
    """A batch whose embeddings are drawn to their classes, or with pull < 0 away from them."""
    embeddings, labels = draw(seed=seed)
    return embeddings + pull * loss.weight.detach()[labels], labels


# --- All that average ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMED)
@given(pulls=st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=12), steps=st.sampled_from([1, 10]))
@PROPERTY
def test_margins_stay_within_their_bounds(name, pulls, steps):
    loss = build_rule(name, steps_per_epoch=steps)
    for seed, pull in enumerate(pulls):
        loss(*close_to_classes(loss, seed, pull))
        margins = torch.as_tensor(loss.margin_rad)
        assert margins.isfinite().all()
        assert margins.min() >= 0.0
        assert margins.max() <= MOST_RAD[name] + 1e-6


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("by_samples", [False, True])
def test_half_the_batch_and_twice_the_steps_is_the_same_state(name, by_samples):
    margins = []
    for parts in (1, 2, 4):
        lengths = {"steps_per_epoch": ..., "samples_per_epoch": 320} if by_samples else {"steps_per_epoch": 10 * parts}
        loss = build_rule(name, **lengths, half_life_epochs=0.5)
        torch.manual_seed(1)
        for _ in range(20):
            embeddings = torch.randn(8, 6) + 0.5 * loss.weight.detach()[torch.arange(4).repeat(2)]
            # The same samples of each class in every part, so that all parts say the same.
            for _ in range(parts):
                rows = torch.arange(8).repeat(4 // parts)
                loss(embeddings[rows], torch.arange(4).repeat(2)[rows])
        margins.append(torch.as_tensor(loss.margin_rad))
    for other in margins[1:]:
        torch.testing.assert_close(other, margins[0], atol=0.01, rtol=0.0)
    assert (margins[0] > 0.0).any()


@pytest.mark.parametrize("name", [name for name in TIMED if len(torch.as_tensor(build_rule(name).margin_rad).shape)])
def test_an_absent_class_keeps_its_memory(name):
    loss = build_rule(name)
    loss(*draw(seed=1))
    before = {key: value[2].clone() for key, value in loss.named_buffers() if key != "permutation"}
    embeddings, labels = draw(seed=2)
    loss(embeddings[labels != 2], labels[labels != 2])
    assert all(torch.equal(dict(loss.named_buffers())[key][2], value) for key, value in before.items())


@pytest.mark.parametrize("name", TIMED)
def test_the_old_margin_is_used_before_it_moves(name):
    loss = build_rule(name)
    for seed in range(3):
        embeddings, labels = draw(seed=seed)
        margins = torch.as_tensor(loss.margin_rad).expand(4).clone()
        frozen = ArcFaceLoss(6, 4, scale=8.0, margin_rad=0.0)
        frozen.load_state_dict({"weight": loss.weight})
        frozen._margin_of_samples_rad = lambda labels, margins=margins: margins[labels]
        torch.testing.assert_close(loss(embeddings, labels), frozen(embeddings, labels))
        assert not torch.equal(torch.as_tensor(loss.margin_rad).expand(4), margins)


# --- The quantile ----------------------------------------------------------------------------------------------------


def gaps_rad(loss, embeddings, labels):
    theta = (loss.logits(embeddings) / loss.scale).arccos()
    own = theta.gather(1, labels[:, None]).squeeze(1)
    return theta.scatter(1, labels[:, None], math.inf).amin(1) - own


def test_the_margin_rests_where_the_quantile_is_on_target():
    still = build_rule("adaloss_quantile", rate_up_rad_per_epoch=0.0, rate_down_rad_per_epoch=0.0)
    embeddings, labels = draw(size=200)
    gaps = gaps_rad(still, embeddings, labels).detach()
    for quantile in (0.1, 0.5, 0.8):
        at = torch.quantile(gaps, quantile).item()
        for shift, moves in ((-0.2, -1), (0.2, 1)):
            loss = build_rule("adaloss_quantile", quantile=quantile, target_angle_gap_rad=at + shift)
            loss(embeddings, labels)
            assert math.copysign(1, loss.margin_raw_rad - 0.3) == moves
        loss = build_rule("adaloss_quantile", quantile=quantile, target_angle_gap_rad=at + 1e-6)
        loss(embeddings, labels)
        assert loss.margin_raw_rad == pytest.approx(0.3, abs=2e-3)


def test_at_a_gap_of_zero_it_is_adaloss_by_error():
    quantile = build_rule("adaloss_quantile", quantile=0.2, target_angle_gap_rad=0.0)
    error = build_rule("adaloss", target_difficulty=0.2)
    for seed in range(10):
        assert torch.equal(quantile(*draw(seed=seed)), error(*draw(seed=seed)))
    assert quantile.margin_rad == error.margin_rad


@given(far=st.floats(0.1, 50.0))
@PROPERTY
def test_how_far_an_outlier_lies_is_nothing_to_it(far):
    margins = []
    for pull in (-0.5, -far):
        loss = build_rule("adaloss_quantile")
        embeddings, labels = draw()
        weight = loss.weight.detach()
        embeddings = 5.0 * weight[labels] + 0.1 * embeddings
        embeddings[0] = weight[(labels[0] + 1) % 4] + pull * weight[labels[0]]  # on the other class's side, or beyond
        assert gaps_rad(loss, embeddings, labels)[0] < 0.2
        loss(embeddings, labels)
        margins.append(loss.margin_raw_rad)
    assert margins[0] == margins[1]


def test_wrong_labels_move_the_share_by_their_own():
    shares = []
    for wrong in (0, 4):
        loss = build_rule("adaloss_quantile")
        _, labels = draw(size=40)
        given_labels = labels.clone()
        given_labels[:wrong] = (labels[:wrong] + 1) % 4
        loss(5.0 * loss.weight.detach()[labels], given_labels)
        shares.append(loss.running_difficulty.item())
    assert shares == pytest.approx([0.0, 0.1])


# --- Relative margins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adaloss_relative", "adaloss_relative_permuted"])
@given(
    q=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), strength=st.floats(-1.0, 1.0), margin=st.floats(0.0, 1.5)
)
@PROPERTY
def test_the_mean_margin_is_the_given_one_whatever_the_difficulties(name, q, strength, margin):
    loss = build_rule(name, strength=strength, margin_rad=margin)
    loss.epochs_seen.fill_(1.0)
    loss.running_difficulty.copy_(torch.tensor(q))
    assert loss.margin_rad.mean().item() == pytest.approx(margin, abs=1e-5)
    assert loss.margin_rad.min() >= -1e-6
    assert loss.margin_rad.max() <= 2 * margin + 1e-6


@pytest.mark.parametrize(("strength", "rising"), [(0.7, True), (-0.7, False)])
def test_harder_classes_get_larger_margins_or_with_a_negative_strength_smaller_ones(strength, rising):
    loss = build_rule("adaloss_relative", strength=strength)
    loss.epochs_seen.fill_(1.0)
    loss.running_difficulty.copy_(torch.tensor([0.0, 0.1, 0.3, 0.8]))
    assert loss.margin_rad.tolist() == sorted(loss.margin_rad.tolist(), reverse=not rising)
    mean, unit = 0.3, 0.5  # the largest excess is more than the mean
    expected = [0.3 * (1 + strength * (q - mean) / unit) for q in (0.0, 0.1, 0.3, 0.8)]
    assert loss.margin_rad.tolist() == pytest.approx(expected)


def test_strength_zero_is_arcface():
    loss, arcface = build_rule("adaloss_relative", strength=0.0), ArcFaceLoss(6, 4, scale=8.0, margin_rad=0.3)
    arcface.load_state_dict({"weight": loss.weight})
    for seed in range(5):
        torch.testing.assert_close(loss(*draw(seed=seed)), arcface(*draw(seed=seed)))


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_control_has_the_same_margins_and_no_class_its_own(classes):
    loss = build_rule("adaloss_relative", num_classes=classes)
    control = build_rule("adaloss_relative_permuted", num_classes=classes)
    assert torch.equal(loss.weight, control.weight)  # the cycle is drawn after them
    for each in (loss, control):
        each.epochs_seen.fill_(1.0)
        each.running_difficulty.copy_(torch.arange(classes) / classes)
    assert control.margin_rad.sort().values.tolist() == loss.margin_rad.sort().values.tolist()
    assert (control.margin_rad != loss.margin_rad).all()
    assert torch.equal(control.margin_rad, loss.margin_rad[control.permutation])
    seen, place = set(), 0  # one cycle through all classes
    while place not in seen:
        seen.add(place)
        place = control.permutation[place].item()
    assert len(seen) == classes


def test_another_seed_has_another_cycle():
    cycles = {
        tuple(build_rule("adaloss_relative_permuted", seed=s, num_classes=10).permutation.tolist()) for s in range(9)
    }
    assert len(cycles) == 9


# --- The trapezoid ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difficulty", "share"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.3, 1.0), (0.5, 1.0), (0.7, 0.5), (0.9, 0.0), (1.0, 0.0)],
)
def test_the_trapezoid(difficulty, share):
    loss = build_rule("adaloss_trapezoid")
    loss.running_difficulty.fill_(difficulty)
    assert loss.margin_rad.tolist() == pytest.approx([0.3 * share] * 4, abs=1e-6)


def test_a_class_that_is_beyond_reach_loses_its_margin_and_has_it_back():
    loss = build_rule("adaloss_trapezoid", steps_per_epoch=2)
    heights = []
    for pull in (-20.0, 1.0, 20.0, 1.0, -20.0):
        for seed in range(4):
            loss(*close_to_classes(loss, seed, pull))
        heights.append(loss.margin_rad.mean().item())
    assert heights[0] == heights[4] == 0.0
    assert heights[2] < 0.02  # perfectly easy
    assert min(heights[1], heights[3]) > 0.1


# --- ElasticFace -----------------------------------------------------------------------------------------------------


def test_noise_is_normal_and_a_function_of_seed_and_count():
    seed = torch.tensor(1234)
    values = normal_at(seed, torch.arange(20_000))
    assert stats.kstest(values.numpy(), "norm").pvalue > 0.01
    assert abs(float((values[1:] * values[:-1]).mean())) < 0.03
    torch.testing.assert_close(normal_at(seed, torch.tensor([7, 3])), values[[7, 3]], rtol=0.0, atol=0.0)
    other = normal_at(torch.tensor(1235), torch.arange(20_000))
    assert abs(float((values * other).mean())) < 0.03
    assert values.abs().max() < 9.0


@given(seed=st.integers(-(2**62), 2**62), count=st.integers(0, 40))
@PROPERTY
def test_noise_is_splitmix64s(seed, count):
    bits = list(splitmix64(seed, count + 1))[-1]
    expected = stats.norm.ppf(((bits >> 11) + 0.5) / 2**53)
    assert normal_at(torch.tensor(seed), torch.tensor([count])).item() == pytest.approx(expected, rel=1e-9)


def drawn(loss, sizes):
    margins = []
    for size in sizes:
        labels = torch.zeros(size, dtype=torch.int64)
        margins.append(loss._drawn(0.3, labels, most=math.inf))
        loss(torch.randn(size, 6), labels)
    return torch.cat(margins)


@pytest.mark.parametrize("name", ["elasticface", "elasticface_cos"])
def test_margins_are_drawn_by_sample_and_seed_not_by_batch(name):
    whole = drawn(build_rule(name), (40,))
    assert torch.equal(whole, drawn(build_rule(name), (13, 7, 20)))
    assert not torch.equal(whole, drawn(build_rule(name, seed=1), (40,)))
    assert len(set(whole.tolist())) == 40
    many = drawn(build_rule(name), (20_000,))
    assert many.mean().item() == pytest.approx(0.3, abs=0.003)
    assert many.std().item() == pytest.approx(0.1, abs=0.003)
    assert many.min() >= 0.0


@pytest.mark.parametrize(("name", "still"), [("elasticface", "arcface"), ("elasticface_cos", "cosface")])
def test_without_spread_and_in_evaluation_it_is_the_loss_with_a_fixed_margin(name, still):
    spread = {"elasticface": "margin_std_rad", "elasticface_cos": "margin_std"}[name]
    margin = {"elasticface": {"margin_rad": 0.3}, "elasticface_cos": {"margin": 0.3}}[name]
    fixed = LOSSES[still](6, 4, scale=8.0, **margin)
    for loss in (build_rule(name, **{spread: 0.0}), build_rule(name).eval()):
        fixed.load_state_dict({"weight": loss.weight})
        torch.testing.assert_close(loss(*draw()), fixed(*draw()))
    assert not torch.isclose(build_rule(name)(*draw()), fixed(*draw()))


# --- The others ------------------------------------------------------------------------------------------------------


def test_adacos_begins_with_the_fixed_scale_and_a_wilder_batch_does_not_move_it():
    loss = build_rule("adacos", num_classes=10)
    assert loss.scale.item() == pytest.approx(math.sqrt(2) * math.log(9))
    assert loss.diagnostics() == {"margin_rad": 0.0, "margin_raw_rad": 0.0, "scale": loss.scale.item()}
    small = build_rule("adacos", num_classes=3)
    small.scale.fill_(40.0)  # exp(40 cos) over cosines of -1 / 2 is below 1: its logarithm is no scale
    angles = torch.arange(3) * 2 * math.pi / 3
    small.weight.data.zero_()
    small.weight.data[:, 0], small.weight.data[:, 1] = angles.cos(), angles.sin()
    small(small.weight.detach().clone(), torch.arange(3))
    assert small.scale.item() == 40.0


def test_curricularface_suppresses_hard_negatives_first_and_stresses_them_later():
    embeddings, labels = draw()
    losses = []
    for t in (0.0, 0.5, 1.0):
        loss = build_rule("curricularface").eval()
        loss.running_target_cosine.fill_(t)
        losses.append(loss(embeddings, labels).item())
    assert losses[0] < losses[1] < losses[2]


def test_kappaface_gives_spread_and_rare_classes_the_larger_margin():
    loss = build_rule("kappaface", gamma=0.0)
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(50)
    noise = torch.tensor([0.1, 0.5, 1.0, 2.0])[labels][:, None] * torch.randn(200, 6)
    loss(loss.weight.detach()[labels] + noise, labels)
    margins = loss.margin_rad.tolist()
    assert margins == sorted(margins)
    assert margins[0] < margins[3]
    rare = build_rule("kappaface", gamma=1.0)
    labels = torch.tensor([0] * 80 + [1] * 40 + [2] * 20 + [3] * 80)
    rare(torch.randn(220, 6), labels)
    halves = [0.0, 0.5, (math.cos(math.pi / 4) + 1) / 2, 0.0]
    assert rare.margin_rad.tolist() == pytest.approx([0.6 * half for half in halves], abs=1e-5)


def test_kappaface_of_equal_classes_has_equal_margins():
    loss = build_rule("kappaface", gamma=0.0)
    loss(loss.weight.detach().repeat(3, 1), torch.arange(4).repeat(3))
    assert loss.margin_rad.tolist() == pytest.approx([0.3] * 4)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("cosface", "margin", -0.1),
        ("cosface", "margin", 2.0),
        ("cosface", "margin", math.nan),
        ("adacos", "num_classes", 2),
        ("curricularface", "margin_rad", -0.1),
        ("curricularface", "half_life_epochs", 0.0),
        ("curricularface", "steps_per_epoch", math.nan),
        ("elasticface", "margin_std_rad", -0.1),
        ("elasticface", "margin_std_rad", math.nan),
        ("elasticface_cos", "margin_std", math.inf),
        ("kappaface", "margin_rad", math.pi),
        ("kappaface", "temperature", 0.0),
        ("kappaface", "temperature", math.nan),
        ("kappaface", "gamma", 1.1),
        ("kappaface", "half_life_epochs", -1.0),
        ("kappaface", "steps_per_epoch", 0.0),
        ("adaloss_quantile", "quantile", 0.0),
        ("adaloss_quantile", "quantile", math.nan),
        ("adaloss_quantile", "target_angle_gap_rad", math.pi),
        ("adaloss_relative", "margin_rad", math.pi / 2),
        ("adaloss_relative", "strength", 1.1),
        ("adaloss_relative", "strength", math.nan),
        ("adaloss_relative", "difficulty", "hard"),
        ("adaloss_trapezoid", "margin_rad", -0.1),
        ("adaloss_trapezoid", "plateau_from", 0.0),
        ("adaloss_trapezoid", "plateau_until", 0.05),
        ("adaloss_trapezoid", "zero_from", 0.5),
        ("adaloss_trapezoid", "zero_from", 1.1),
    ],
)
def test_arguments_out_of_range(name, argument, value):
    with pytest.raises(ValueError, match=f"^{argument} must be .+, got"):
        build_rule(name, **{argument: value})


@pytest.mark.parametrize("argument", ["difficulty", "target_difficulty"])
def test_the_quantile_takes_no_difficulty_of_adaloss(argument):
    with pytest.raises(TypeError, match=argument):
        build_rule("adaloss_quantile", **{argument: 0.2})
