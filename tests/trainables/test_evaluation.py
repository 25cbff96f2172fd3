"""The examination: angles against plain geometry, counts against loops, and a trainer that is the same afterwards."""

import base64
import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.small_trials import CPU, NARROW, assert_same, numbers, resident, trainer_of
from trainables.augmentation import ResidentImages
from trainables.data import TrainingData
from trainables.evaluation import (
    ANGLE_BINS,
    angle_between,
    angles_to_centres,
    calibration,
    confusion_matrix,
    examine,
    pack_bits,
)
from trainables.registry import MODELS
from trainables.training import STATISTICS_BATCHES, Trainer
from tune.records import RecordError
from tune.records.bits import unpack_bits

pytestmark = pytest.mark.usefixtures("narrow_model", "one_thread")


def looped_angles(embeddings: list[list[float]], labels: list[int]) -> tuple[list[float], list[float]]:
    """Own and nearest other angle of each embedding, one at a time."""
    units = [[x / math.hypot(*row) for x in row] for row in embeddings]
    centres = {}
    for label in set(labels):
        mine = [unit for unit, other in zip(units, labels, strict=True) if other == label]
        mean = [sum(column) / len(mine) for column in zip(*mine, strict=True)]
        centres[label] = [x / math.hypot(*mean) for x in mean]
    own, nearest = [], []
    for unit, label in zip(units, labels, strict=True):
        angles = {k: math.acos(sum(u * c for u, c in zip(unit, centre, strict=True))) for k, centre in centres.items()}
        own.append(angles.pop(label))
        nearest.append(min(angles.values()))
    return own, nearest


def random_case(size: int = 40, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of different lengths of three of five classes."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((size, dim)) * rng.uniform(0.1, 9.0, (size, 1))
    return torch.tensor(embeddings), torch.tensor(rng.permutation(np.resize([0, 1, 3], size)))


# --- Angles ----------------------------------------------------------------------------------------------------------


@given(exponent=st.floats(-12.0, 0.0), end=st.sampled_from([0.0, math.pi]))
@settings(deadline=None, derandomize=True)
def test_angles_are_exact_down_to_the_ends(exponent: float, end: float) -> None:
    gap = 10.0**exponent
    sign = 1.0 if end == 0.0 else -1.0
    first = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[sign * math.cos(gap), math.sin(gap), 0.0]], dtype=torch.float64)
    angle = angle_between(first, second).item()
    assert abs(angle - end) == pytest.approx(gap, rel=1e-6, abs=1e-15)
    assert 0.0 <= angle <= math.pi


def test_angles_of_known_vectors() -> None:
    half = math.sqrt(0.5)
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[1.0, 0.0], [half, half], [0.0, 1.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert angle_between(first, second).tolist() == pytest.approx([0, math.pi / 4, math.pi / 2, math.pi, math.pi / 2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_angles_to_centres_agree_with_a_loop(seed: int) -> None:
    embeddings, labels = random_case(seed=seed)
    own, nearest = angles_to_centres(embeddings, labels)
    expected_own, expected_nearest = looped_angles(embeddings.tolist(), labels.tolist())
    np.testing.assert_allclose(own, expected_own, rtol=1e-9)
    np.testing.assert_allclose(nearest, expected_nearest, rtol=1e-9)
    assert own.dtype == nearest.dtype == torch.float64


def test_the_length_of_an_embedding_does_not_matter() -> None:
    embeddings, labels = random_case()
    lengths = torch.linspace(0.01, 100.0, len(labels), dtype=torch.float64)[:, None]
    for ours, theirs in zip(
        angles_to_centres(embeddings, labels), angles_to_centres(lengths * embeddings, labels), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_an_embedding_without_direction_is_harmless() -> None:
    embeddings, labels = random_case()
    embeddings[0] = 0.0
    own, nearest = angles_to_centres(embeddings, labels)
    assert own[0].item() == nearest[0].item() == pytest.approx(math.pi / 2)
    assert own.isfinite().all()


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_confusion_has_rows_of_true_classes() -> None:
    predictions, labels = torch.tensor([0, 1, 1, 2, 0, 0]), torch.tensor([0, 1, 0, 0, 3, 3])
    assert confusion_matrix(predictions, labels, 4) == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]


@given(st.lists(st.booleans(), max_size=40))
def test_bits_that_are_packed_are_the_same_when_they_are_unpacked(bits: list[bool]) -> None:
    assert unpack_bits(pack_bits(torch.tensor(bits, dtype=torch.bool)), len(bits)).tolist() == bits


@pytest.mark.parametrize(
    ("text", "count", "says"),
    [("%", 8, "no base64"), ("AAA=", 8, "16, not 8"), ("", 1, "0, not 1"), ("/w==", 7, "more bits")],
)
def test_bits_that_nobody_packed_are_refused(text: str, count: int, says: str) -> None:
    with pytest.raises(RecordError, match=says):
        unpack_bits(text, count)


def test_a_known_case_in_all_its_parts() -> None:
    # Class 0 lies at angles of -10 and 10 degrees, class 2 at 180 and at 180: the nearest other is the other one.
    def at(*degrees: float) -> torch.Tensor:
        return torch.tensor([[3 * math.cos(math.radians(d)), 3 * math.sin(math.radians(d))] for d in degrees])

    labels = torch.tensor([0, 0, 2, 2])
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [0.0, 0.0, 5.0]])
    result = examine(at(45, 45, 45, 45), at(-11, 11, 180, 180), logits, labels)
    assert result["test_accuracy"] == 0.75
    per_image = [math.log(math.exp(5) + 2) - 5] * 3 + [math.log(math.exp(5) + 2)]
    assert result["test_loss"] == pytest.approx(np.mean(per_image))
    assert result["confusion"] == [[1, 0, 1], [0, 0, 0], [0, 0, 2]]
    assert result["class_accuracy"] == [0.5, None, 1.0]
    confidence = math.exp(5) / (math.exp(5) + 2)
    assert result["mean_confidence"] == pytest.approx(confidence)
    assert result["ece"] == pytest.approx(confidence - 0.75)
    assert base64.b64decode(result["correct_bits"]) == bytes([0b10110000])
    assert set(result["angle_histograms"]) == {"before", "after"}
    counted = {
        (when, of): {2 * i: count for i, count in enumerate(counts) if count}
        for when, histograms in result["angle_histograms"].items()
        for of, counts in histograms.items()
    }
    assert counted == {  # by the lower edge of the bin, in degrees
        ("before", "own"): {0: 4},
        ("before", "nearest_other"): {0: 4},
        ("after", "own"): {10: 2, 0: 2},
        ("after", "nearest_other"): {168: 2, 178: 2},  # pi itself is in the last bin
    }


def test_every_image_is_counted_once_in_each_histogram() -> None:
    embeddings, labels = random_case(size=500)
    result = examine(embeddings, -embeddings, torch.randn(500, 5), labels)
    own, nearest = angles_to_centres(embeddings, labels)
    expected = {
        "own": np.histogram(own, ANGLE_BINS, (0.0, math.pi))[0].tolist(),
        "nearest_other": np.histogram(nearest, ANGLE_BINS, (0.0, math.pi))[0].tolist(),
    }
    assert result["angle_histograms"] == {"before": expected, "after": expected}
    assert sum(expected["own"]) == sum(expected["nearest_other"]) == 500
    assert np.sum(result["confusion"]) == 500
    assert np.trace(result["confusion"]) / 500 == result["test_accuracy"]
    assert unpack_bits(result["correct_bits"], 500).mean() == result["test_accuracy"]


def test_a_single_class_has_no_other() -> None:
    embeddings, _ = random_case()
    result = examine(embeddings, embeddings, torch.randn(40, 5), torch.full((40,), 2))
    assert sum(result["angle_histograms"]["after"]["own"]) == 40
    assert sum(result["angle_histograms"]["after"]["nearest_other"]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_have_no_accuracy(bad: float) -> None:
    embeddings, labels = random_case()
    logits = torch.zeros(40, 5)
    logits[3, labels[3]] = bad
    result = examine(embeddings, embeddings, logits, labels)
    assert set(result) == {"test_accuracy", "test_loss"}
    assert all(math.isnan(value) for value in result.values())


# --- Of a trainer ----------------------------------------------------------------------------------------------------


@pytest.fixture
def held_out(digits: TrainingData) -> ResidentImages:
    return resident(digits, "validation", 100, CPU)


def trained(digits: TrainingData, loss: str = "arcface", **changes: Any) -> tuple[Trainer, dict[str, Any]]:
    trainer = trainer_of(digits, loss, count=600, **changes)
    records = [trainer.train_epoch() for _ in range(3)]
    return trainer, records[-1]


@pytest.fixture(scope="module")
def arcface(digits: TrainingData) -> tuple[Trainer, dict[str, Any]]:
    """A trained trainer that stays as it is, and its last record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "narrow", NARROW)
        return trained(digits)


@pytest.mark.parametrize("loss", ["softmax", "arcface", "adaloss_per_class"])
def test_it_judges_as_validation_does(loss: str, digits: TrainingData, held_out: ResidentImages) -> None:
    trainer, record = trained(digits, loss)  # its validation images are the ones here
    result = trainer.examine(held_out)
    assert result["test_accuracy"] == pytest.approx(record["val_accuracy"])
    assert result["test_loss"] == pytest.approx(record["val_loss"], rel=1e-5)
    assert np.array(result["confusion"]).sum(1).tolist() == np.bincount(held_out.labels, minlength=10).tolist()


def looped_calibration(logits: list[list[float]], correct: list[bool]) -> tuple[float, float]:
    """Expected calibration error and mean confidence, an image at a time."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, is_right in zip(logits, correct, strict=True):
        confidence = 1 / sum(math.exp(z - max(row)) for z in row)
        place = next(b for b in range(1, 16) if confidence <= b / 15 or b == 15)
        bins.setdefault(place, []).append((confidence, is_right))
    ece = sum(abs(sum(c for c, _ in found) - sum(r for _, r in found)) for found in bins.values()) / len(correct)
    return ece, sum(c for found in bins.values() for c, _ in found) / len(correct)


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_calibration_agrees_with_a_loop(spread: float, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(300, classes, generator=generator, dtype=torch.float64)
    correct = torch.rand(300, generator=generator) < 0.7
    ece, confidence = looped_calibration(logits.tolist(), correct.tolist())
    found = calibration(logits, correct)
    assert found == {"ece": pytest.approx(ece, abs=1e-12), "mean_confidence": pytest.approx(confidence, abs=1e-12)}


@pytest.mark.parametrize(("right", "ece"), [(4, 0.0), (8, 0.5), (0, 0.5)])
def test_calibration_of_known_cases(right: int, ece: float) -> None:
    correct = torch.arange(8) < right
    assert calibration(torch.zeros(8, 2), correct) == {"ece": ece, "mean_confidence": 0.5}
    certain = torch.tensor([[1000.0, 0.0]]).repeat(8, 1)
    assert calibration(certain, correct) == {"ece": 1 - right / 8, "mean_confidence": 1.0}


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_angles_are_of_the_models_embeddings(precision: str, digits: TrainingData, held_out: ResidentImages) -> None:
    trainer, _ = trained(digits, precision=precision)
    result = trainer.examine(held_out)["angle_histograms"]
    images, labels = next(held_out.batches(100))
    untrained = trainer._untrained_model()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        embeddings = {"before": untrained.eval()(images), "after": trainer.model.eval()(images)}
    for when, vectors in embeddings.items():
        angles = looped_angles(vectors.tolist(), labels.tolist())
        for of, expected in zip(("own", "nearest_other"), angles, strict=True):
            assert result[when][of] == np.histogram(expected, ANGLE_BINS, (0.0, math.pi))[0].tolist()


def test_training_brings_images_closer_to_their_class(arcface: tuple[Trainer, Any], held_out: ResidentImages) -> None:
    result = arcface[0].examine(held_out)["angle_histograms"]
    middle = np.arange(ANGLE_BINS) + 0.5
    gap = {when: np.dot(h["nearest_other"], middle) - np.dot(h["own"], middle) for when, h in result.items()}
    assert gap["after"] > 1.5 * gap["before"] > 0


def test_before_means_the_initial_weights(digits: TrainingData) -> None:
    trainer, _ = trained(digits, seed=4)
    initial = trainer_of(digits, "adaloss", count=600, seed=4).model
    untrained = trainer._untrained_model()
    assert_same(dict(untrained.named_parameters()), dict(initial.named_parameters()))
    assert not torch.equal(untrained.embedding[1].weight, trainer.model.embedding[1].weight)  # type: ignore[index,union-attr]


def test_before_has_the_statistics_of_the_first_training_batches(
    arcface: tuple[Trainer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = arcface
    build, inputs, images = trainer._build_model, [], []

    def watched() -> torch.nn.Module:
        model = build()
        model.register_forward_pre_hook(lambda _, batch: images.append(batch[0]))
        model.embedding[2].register_forward_pre_hook(lambda _, batch: inputs.append(batch[0].detach()))  # type: ignore[index,union-attr]
        return model

    monkeypatch.setattr(trainer, "_build_model", watched)
    norm = trainer._untrained_model().embedding[2]  # type: ignore[index,union-attr]
    assert len(images) == STATISTICS_BATCHES < trainer.steps_per_epoch
    for seen, (expected, _) in zip(images, trainer._training_batches(0), strict=False):
        assert torch.equal(seen, expected)
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in inputs]).mean(0))


def test_training_goes_on_as_if_nothing_had_been_examined(digits: TrainingData, held_out: ResidentImages) -> None:
    trainer, undisturbed = trained(digits, "adaloss")[0], trained(digits, "adaloss")[0]
    before = copy.deepcopy(trainer.state_dict())
    first = trainer.examine(held_out)
    assert_same(trainer.state_dict(), before)
    assert trainer.examine(held_out) == first
    assert numbers(trainer.train_epoch()) == numbers(undisturbed.train_epoch())
    assert_same(trainer.state_dict(), undisturbed.state_dict())
