"""An exported model gives the logits of the trained one, in the runtime that its file is for; over both registries."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.trainables.small_trials import LOSS_ARGS
from tests.trainables.untrained import Shape, untrained
from trainables import exported
from trainables.errors import UserError
from trainables.exported import FORMATS, TOLERANCE, export_model, max_difference
from trainables.losses import LOSSES
from trainables.registry import MODELS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
]


def case(*values: Any) -> Any:
    """A case; ONNX's translation takes seconds for each, so that only the smallest is not marked slow."""
    is_slow = values[-1] == ".onnx" and values[0] not in {"DigitsCNN", "softmax"}
    return pytest.param(*values, marks=[pytest.mark.slow] if is_slow else [])


MODEL_CASES = [case(name, s, suffix) for name, spec in MODELS.items() for s in spec.image_shapes for suffix in FORMATS]
LOSS_CASES = [case(loss, suffix) for loss in LOSSES if loss in LOSS_ARGS for suffix in FORMATS]
NAMES = ["cat", "Katze", "猫"]
DIGITS: tuple[str, Shape] = ("DigitsCNN", (28, 28, 1))


def random_images(shape: Shape, count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def run(path: Path, images: Any) -> np.ndarray:
    """Run a file as who gets it would, without this project."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(["logits"], {"images": images})[0]
    return torch.jit.load(path)(torch.from_numpy(images)).detach().numpy()


@pytest.mark.parametrize(("name", "shape", "suffix"), MODEL_CASES)
def test_logits_are_those_of_the_model_for_any_number_of_images(
    tmp_path: Path, name: str, shape: Shape, suffix: str
) -> None:
    model = untrained(tmp_path / "winner.pt", name, shape)
    target = tmp_path / f"model{suffix}"
    assert 0 <= export_model(model, target) <= TOLERANCE
    for count in (1, 2, 9):
        images = random_images(shape, count)
        expected = model(torch.from_numpy(images)).numpy()
        found = run(target, images)
        assert found.shape == (count, 3)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * max(1, np.abs(expected).max()), rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [target.name, "winner.pt"]


@pytest.mark.parametrize(("loss", "suffix"), LOSS_CASES)
def test_every_loss_has_its_logits_exported(tmp_path: Path, loss: str, suffix: str) -> None:
    model = untrained(tmp_path / "winner.pt", *DIGITS, loss=loss, class_names=NAMES)
    export_model(model, tmp_path / f"model{suffix}")
    images = random_images((28, 28, 1), 5)
    expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run(tmp_path / f"model{suffix}", images), expected, atol=1e-3, rtol=1e-4)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("suffix", FORMATS)
def test_images_that_were_prepared_otherwise_are_refused(tmp_path: Path, suffix: str) -> None:
    """Scaled ones, for instance: the graph would take them for nearly black images."""
    target = tmp_path / f"model{suffix}"
    export_model(untrained(tmp_path / "winner.pt", *DIGITS), target)
    refusals = (torch.jit.Error, RuntimeError, onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument)
    images = random_images((28, 28, 1), 2)
    assert run(target, images).shape == (2, 3)
    for wrong in (images.astype(np.float32) / 255, images[:, :27], images.transpose(0, 3, 1, 2).copy(), images[0]):
        with pytest.raises(refusals):
            run(target, wrong)


def test_the_names_of_the_classes_are_in_the_file(tmp_path: Path) -> None:
    model = untrained(tmp_path / "winner.pt", *DIGITS, class_names=NAMES)
    for suffix in FORMATS:
        export_model(model, tmp_path / f"model{suffix}")
    found = {"classes": "", "images": ""}
    torch.jit.load(tmp_path / "model.ts", _extra_files=found)
    assert json.loads(found["classes"]) == NAMES
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(properties["classes"]) == NAMES
    for images in (properties["images"], bytes(found["images"]).decode()):
        assert images == "uint8 (N, 28, 28, 1), grey levels 0 to 255, not normalised"
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = untrained(tmp_path / "winner.pt", *DIGITS)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_model(model, tmp_path / "model.ts")
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == learning
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("spoilt", [lambda logits: logits + 0.01, lambda logits: logits * np.nan, lambda x: x[:1, :2]])
def test_a_file_with_other_logits_does_not_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: Any
) -> None:
    model, target = untrained(tmp_path / "winner.pt", *DIGITS), tmp_path / "model.ts"
    target.write_text("an earlier one")
    genuine = FORMATS[".ts"]

    def load(path: Path) -> Any:
        classify = genuine.load(path)
        return lambda images: spoilt(classify(images))

    monkeypatch.setitem(FORMATS, ".ts", exported.Format("TorchScript", genuine.write, load))
    with pytest.raises(UserError, match=r"model\.ts was not written: its logits differ by"):
        export_model(model, target)
    assert target.read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ts", "winner.pt"]


def test_the_difference_is_that_of_the_worst_logit(tmp_path: Path) -> None:
    model = untrained(tmp_path / "winner.pt", *DIGITS)

    def off_by(amount: float) -> Any:
        def classify(images: np.ndarray) -> np.ndarray:
            logits = model(torch.from_numpy(images)).numpy()
            logits[-1, 1] += amount
            return logits

        return classify

    assert max_difference(off_by(0.0), model) == 0.0
    small, large = max_difference(off_by(1e-3), model), max_difference(off_by(1e-2), model)
    assert 0 < small <= 1e-3 * 1.01
    assert large == pytest.approx(10 * small, rel=0.01)


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"\(onnxscript\): pip install onnx onnxscript onnxruntime"):
        export_model(untrained(tmp_path / "winner.pt", *DIGITS), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["winner.pt"]
