"""The seven groups of properties that AdaLoss is held to, and a loop reference of the whole rule."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.losses import AdaLoss, AdaLossPerClass, ArcFaceLoss, NormSoftmaxLoss

BOTH = pytest.mark.parametrize("per_class", [False, True])
DIFFICULTIES = pytest.mark.parametrize("difficulty", ["error", "gap"])
PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)
STATE = ("running_margin_rad", "running_difficulty", "running_competence", "epochs_seen")


def build(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {
        "embedding_dim": 6,
        "num_classes": 4,
        "scale": 8.0,
        "margin_rad": 0.3,
        "rate_up_rad_per_epoch": 0.5,
        "rate_down_rad_per_epoch": 0.4,
        "target_difficulty": 0.4,
    }
    if not {"steps_per_epoch", "samples_per_epoch"} & changes.keys():
        arguments["steps_per_epoch"] = 10
    return AdaLoss(**{**arguments, **changes})


def draw(size=32, dim=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, dim, generator=generator), labels


def state_of(loss):
    return {name: getattr(loss, name).clone() for name in STATE}


def feed(loss, difficulty, labels, competence=None, finite=True):
    """One step of the state with given difficulties, without a network."""
    competence = 1.0 - difficulty if competence is None else competence
    loss._update_state(difficulty, competence, labels, torch.tensor(finite))


def feed_value(loss, value, size=8):
    feed(loss, torch.full((size,), value), torch.zeros(size, dtype=torch.int64))


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


# 1. Where nothing adapts, AdaLoss is ArcFace.


def train(loss, steps, dim=6, classes=4):
    torch.manual_seed(5)
    body = torch.nn.Linear(8, dim)
    optimizer = torch.optim.SGD([*body.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)
    trace = []
    for step in range(steps):
        images, labels = draw(size=16, dim=8, classes=classes, seed=step)
        optimizer.zero_grad()
        objective = loss(body(images), labels)
        objective.backward()
        trace += [objective.detach(), body.weight.grad.clone(), loss.weight.grad.clone()]
        optimizer.step()
    return [*trace, body.weight.detach(), body.bias.detach(), loss.weight.detach()]


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


# 3. What is not finite, and what is evaluation, changes nothing.


@BOTH
@DIFFICULTIES
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["one embedding", "all embeddings", "class weight"])
def test_3_a_batch_that_is_not_finite_changes_nothing(per_class, difficulty, bad, where):
    loss = build(per_class=per_class, difficulty=difficulty)
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
    for name, value in before.items():
        assert torch.equal(getattr(loss, name), value), name
    loss.weight.data.copy_(weight)
    loss(embeddings, labels)
    assert (loss.epochs_seen > before["epochs_seen"]).all()
    assert all(value.isfinite().all() for value in state_of(loss).values())


@BOTH
def test_3_a_loss_that_is_not_finite_changes_nothing(per_class):
    loss = build(per_class=per_class)
    _, labels = draw()
    before = state_of(loss)
    cosine = torch.zeros(32, 4)
    loss._after_loss(cosine, labels, torch.tensor(math.inf))
    assert all(torch.equal(getattr(loss, name), value) for name, value in before.items())
    loss._after_loss(cosine, labels, torch.tensor(1.0))
    assert loss.epochs_seen.sum() > 0.0


def test_3_a_first_batch_that_is_not_finite_leaves_a_clean_start():
    loss, clean = build(), build()
    embeddings, labels = draw()
    loss(embeddings * math.nan, labels)
    loss(embeddings, labels)
    clean(embeddings, labels)
    assert all(torch.equal(value, state_of(clean)[name]) for name, value in state_of(loss).items())


@BOTH
def test_3_evaluation_changes_nothing_and_training_goes_on(per_class):
    loss = build(per_class=per_class)
    embeddings, labels = draw()
    loss(embeddings, labels)
    before = state_of(loss)
    loss.eval()
    for seed in range(3):
        loss(*draw(seed=seed))
    assert all(torch.equal(getattr(loss, name), value) for name, value in before.items())
    loss.train()(embeddings, labels)
    assert not torch.equal(loss.epochs_seen, before["epochs_seen"])


# 4. One margin a class.


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


# 5. Saved and restored; apart from gradients and from averages of weights.


@BOTH
@DIFFICULTIES
def test_5_saved_in_mid_epoch_and_continued_is_the_identical_trajectory(tmp_path, per_class, difficulty):
    arguments = {"per_class": per_class, "difficulty": difficulty, "steps_per_epoch": 8}
    straight = build(**arguments)
    body = torch.nn.Linear(8, 6)

    def steps(loss, body, optimizer, first, last):
        trace = []
        for step in range(first, last):
            images, labels = draw(dim=8, seed=step)
            optimizer.zero_grad()
            objective = loss(body(images), labels)
            objective.backward()
            optimizer.step()
            trace.append((objective.item(), loss.running_margin_rad.tolist(), loss.diagnostics()))
        return trace

    def optimizer_of(loss, body):
        return torch.optim.SGD([*body.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)

    optimizer = optimizer_of(straight, body)
    steps(straight, body, optimizer, 0, 11)
    torch.save([straight.state_dict(), body.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    expected = steps(straight, body, optimizer, 11, 30)

    other, other_body = build(seed=3, margin_rad=0.1, **arguments), torch.nn.Linear(8, 6)
    other_optimizer = optimizer_of(other, other_body)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for part, state in zip((other, other_body, other_optimizer), saved, strict=True):
        part.load_state_dict(state)
    assert steps(other, other_body, other_optimizer, 11, 30) == expected


@BOTH
def test_5_state_is_float32_buffers_and_no_parameter(per_class):
    loss = build(per_class=per_class)
    assert [name for name, _ in loss.named_parameters()] == ["weight"]
    assert {name for name, _ in loss.named_buffers()} == set(STATE)
    assert set(loss.state_dict()) == {"weight", *STATE}
    for name in STATE:
        assert getattr(loss, name).shape == (4 if per_class else 1,)
        assert getattr(loss, name).dtype == torch.float32


@BOTH
def test_5_no_gradient_flows_into_the_margin(per_class):
    loss = build(per_class=per_class)
    embeddings, labels = draw()
    embeddings.requires_grad_()
    for _ in range(3):
        loss(embeddings, labels)
    for name in STATE:
        assert not getattr(loss, name).requires_grad
        assert getattr(loss, name).grad_fn is None
    # The gradient is that of a loss with this margin fixed: competence and difficulty are constants to it.
    frozen = ArcFaceLoss(6, 4, scale=8.0, margin_rad=0.0)
    frozen.load_state_dict({"weight": loss.weight})
    frozen._margin_of_samples_rad = lambda labels: (
        loss.margin_rad[labels] if per_class else torch.tensor(loss.margin_rad)
    )
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
@settings(PROPERTY, max_examples=8)
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
