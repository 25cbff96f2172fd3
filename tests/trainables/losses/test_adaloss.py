"""AdaLoss against a loop over its equations and against the losses that it contains, and its arguments."""

import copy
import math

import pytest
import torch

from tests.trainables.losses.adaloss_cases import BOTH, DIFFICULTIES, build, draw, feed, train
from trainables.losses import AdaLossPerClass, ArcFaceLoss, NormSoftmaxLoss


class LoopReference:
    """The rule in plain Python numbers, one sample at a time; averages are kept as sums with decaying weights."""

    def __init__(self, loss, num_classes):
        self.loss = loss
        self.groups = num_classes if loss.per_class else 1
        self.margins_rad = [loss.margin_rad_at_start] * self.groups
        self.samples = [0] * self.groups
        self.q = [0.0] * self.groups
        self.k = [0.0] * self.groups
        self.steps = 0

    def objective_and_update(self, embeddings, weight, labels):
        total = 0.0
        measured = [[] for _ in range(self.groups)]
        for x, y in zip(embeddings, labels, strict=True):
            group = y if self.loss.per_class else 0
            cosines = [sum(a * b for a, b in zip(x, w, strict=True)) / math.hypot(*x) / math.hypot(*w) for w in weight]
            gate = self.k[group] if self.loss.competence_gate else 1.0
            total += self._cross_entropy(cosines, y, gate * self.margins_rad[group])
            gap = cosines[y] - max(c for j, c in enumerate(cosines) if j != y)
            wrong = float(gap <= 0.0)
            measured[group].append((wrong if self.loss.difficulty == "error" else (2.0 - gap) / 4.0, 1.0 - wrong))
        self.steps += 1
        for group, values in enumerate(measured):
            if values:
                self._update(group, values)
        return total / len(labels)

    def _cross_entropy(self, cosines, y, margin_rad):
        theta = math.acos(cosines[y])
        beyond = theta + margin_rad > math.pi
        target = cosines[y] - 1.0 + math.cos(margin_rad) if beyond else math.cos(theta + margin_rad)
        logits = [self.loss.scale * (target if j == y else c) for j, c in enumerate(cosines)]
        return math.log(sum(math.exp(z - logits[y]) for z in logits))

    def _update(self, group, values):
        loss = self.loss
        self.samples[group] += len(values)
        elapsed_epochs = self.steps / loss.steps_per_epoch
        class_epochs = elapsed_epochs * len(values) / self.samples[group]
        weight = (1 - 0.5 ** (class_epochs / loss.half_life_epochs)) / (
            1 - 0.5 ** (elapsed_epochs / loss.half_life_epochs)
        )
        difficulty = sum(d for d, _ in values) / len(values)
        competence = sum(c for _, c in values) / len(values)
        self.q[group] = (1 - weight) * self.q[group] + weight * difficulty
        self.k[group] = (1 - weight) * self.k[group] + weight * competence
        tau = loss.target_difficulty
        excess = self.q[group] - tau
        drift = (
            loss.rate_up_rad_per_epoch * excess / (1 - tau)
            if excess > 0
            else loss.rate_down_rad_per_epoch * excess / tau
        )
        moved = self.margins_rad[group] + drift / loss.steps_per_epoch
        self.margins_rad[group] = min(max(moved, loss.margin_min_rad), loss.margin_max_rad)


@BOTH
@DIFFICULTIES
@pytest.mark.parametrize("competence_gate", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_agrees_with_a_loop(per_class, difficulty, competence_gate, dtype, tolerance):
    loss = build(per_class=per_class, difficulty=difficulty, competence_gate=competence_gate, margin_max_rad=0.45).to(
        dtype
    )
    loss.running_margin_rad.fill_(0.3)  # to the last digit in float64
    loss.margin_rad_at_start = 0.3
    reference = LoopReference(loss, num_classes=4)
    for step in range(25):
        embeddings, labels = draw(size=12, seed=step)
        if step % 2:
            labels[labels == 3] = 0  # absent every other time
        if step > 12:
            embeddings = embeddings + 4.0 * loss.weight.detach()[labels].float()  # now it is easy
        expected = reference.objective_and_update(embeddings.tolist(), loss.weight.tolist(), labels.tolist())
        assert loss(embeddings.to(dtype), labels).item() == pytest.approx(expected, rel=tolerance)
        assert loss.running_margin_rad.tolist() == pytest.approx(reference.margins_rad, abs=tolerance)
        assert loss.running_difficulty.tolist() == pytest.approx(reference.q, abs=tolerance)
        assert loss.running_competence.tolist() == pytest.approx(reference.k, abs=tolerance)


def test_measures_of_known_cosines():
    cosine = torch.tensor([[0.9, 0.1, -0.5], [0.9, 0.1, -0.5], [1.0, -1.0, -1.0], [-1.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    labels = torch.tensor([0, 2, 0, 0, 0])
    error, competence = build(num_classes=3)._measure(cosine, labels)
    gap, same_competence = build(num_classes=3, difficulty="gap")._measure(cosine, labels)
    assert competence.tolist() == same_competence.tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]  # the tie is no competence
    assert error.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(gap, torch.tensor([0.3, 0.85, 0.0, 1.0, 0.5]))


# Property 1: where nothing adapts, AdaLoss is ArcFace.


@BOTH
@pytest.mark.parametrize("margin_rad", [0.0, 0.2, 0.5])
def test_1_rates_zero_and_no_gate_is_arcface_bitwise(per_class, margin_rad):
    still = {"rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0, "competence_gate": False}
    adaloss = build(margin_rad=margin_rad, per_class=per_class, label_smoothing=0.1, **still)
    torch.manual_seed(0)
    arcface = ArcFaceLoss(6, 4, scale=8.0, margin_rad=margin_rad, label_smoothing=0.1)
    for ours, theirs in zip(train(adaloss, 20), train(arcface, 20), strict=True):
        assert torch.equal(ours, theirs)
    assert adaloss.running_difficulty.min() > 0.0  # it did watch


@BOTH
def test_1_margin_zero_is_norm_softmax(per_class):
    adaloss = build(margin_rad=0.0, margin_max_rad=0.0, per_class=per_class)
    torch.manual_seed(0)
    norm_softmax = NormSoftmaxLoss(6, 4, scale=8.0)
    for ours, theirs in zip(train(adaloss, 20), train(norm_softmax, 20), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


# Step 4 of the rule: competence opens the margin.


@BOTH
def test_applied_margin_is_competence_times_margin(per_class):
    loss = build(per_class=per_class)
    assert torch.as_tensor(loss.margin_rad).abs().max() == 0.0  # nothing learnt yet
    assert torch.as_tensor(loss.margin_raw_rad).mean() == pytest.approx(0.3)
    labels = torch.arange(4).repeat(2)
    feed(loss, torch.full((8,), 0.4), labels, competence=torch.tensor([1.0, 1.0, 0.0, 1.0]).repeat(2))
    expected = torch.tensor([0.3, 0.3, 0.0, 0.3]) if per_class else torch.tensor(0.225)
    torch.testing.assert_close(torch.as_tensor(loss.margin_rad), expected)
    diagnostics = loss.diagnostics()
    assert diagnostics["margin_rad"] == pytest.approx(0.225)
    assert diagnostics["margin_raw_rad"] == pytest.approx(0.3)
    assert diagnostics["difficulty"] == pytest.approx(0.4)
    assert diagnostics["competence"] == pytest.approx(0.75)
    assert diagnostics.get("margin_per_class_rad") == (pytest.approx([0.3, 0.3, 0.0, 0.3]) if per_class else None)


def test_feedback_comes_from_margin_free_cosines():
    # The same embeddings look the same, however large the margin in the loss is.
    embeddings, labels = draw()
    states = []
    for margin_rad in (0.0, 0.8):
        loss = build(margin_rad=margin_rad, competence_gate=False, difficulty="gap")
        loss(embeddings, labels)
        states.append((loss.running_difficulty.item(), loss.running_competence.item()))
    assert states[0] == states[1]


# Arguments.


@pytest.mark.parametrize(
    ("argument", "value", "changes"),
    [
        ("margin_rad", -0.1, {}),
        ("margin_rad", 0.81, {}),
        ("margin_rad", 0.1, {"margin_min_rad": 0.2}),
        ("margin_rad", math.nan, {}),
        ("margin_min_rad", -0.1, {}),
        ("margin_min_rad", math.nan, {}),
        ("margin_max_rad", math.pi, {}),
        ("margin_max_rad", 0.1, {"margin_min_rad": 0.2}),
        ("margin_max_rad", math.nan, {}),
        ("rate_up_rad_per_epoch", -0.1, {}),
        ("rate_up_rad_per_epoch", math.inf, {}),
        ("rate_up_rad_per_epoch", math.nan, {}),
        ("rate_down_rad_per_epoch", -0.1, {}),
        ("rate_down_rad_per_epoch", math.nan, {}),
        ("target_difficulty", 0.0, {}),
        ("target_difficulty", 1.0, {}),
        ("target_difficulty", math.nan, {}),
        ("half_life_epochs", 0.0, {}),
        ("half_life_epochs", math.inf, {}),
        ("steps_per_epoch", 0, {}),
        ("steps_per_epoch", math.nan, {}),
        ("samples_per_epoch", -1, {}),
        ("samples_per_epoch", math.inf, {}),
        ("difficulty", "hard", {}),
    ],
)
def test_arguments_out_of_range(argument, value, changes):
    with pytest.raises(ValueError, match=f"^{argument} must be .+, got"):
        build(**{**changes, argument: value})


@pytest.mark.parametrize("lengths", [{"steps_per_epoch": None}, {"steps_per_epoch": 10, "samples_per_epoch": 100}])
def test_exactly_one_length_of_an_epoch(lengths):
    with pytest.raises(ValueError, match="exactly one of steps_per_epoch and samples_per_epoch"):
        build(**lengths)


def test_per_class_is_adaloss_with_per_class_fixed(make_loss):
    loss = make_loss("adaloss_per_class")
    assert isinstance(loss, AdaLossPerClass)
    twin = make_loss("adaloss", per_class=True)
    embeddings, labels = draw(classes=5)
    for _ in range(3):
        assert torch.equal(loss(embeddings, labels), twin(embeddings, labels))
    assert torch.equal(loss.margin_rad, twin.margin_rad)
    with pytest.raises(TypeError, match="per_class"):
        make_loss("adaloss_per_class", per_class=False)


def test_deepcopy_shares_no_state():
    loss = build()
    twin = copy.deepcopy(loss)
    loss(*draw())
    assert twin.epochs_seen.item() == 0.0
