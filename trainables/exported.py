"""A trained model as one file that runs without this project: TorchScript, or ONNX for other runtimes.

Either takes ``images``, uint8 (N, H, W, C) in grey levels from 0 to 255, any number of them, and gives ``logits``,
float32 (N, C). Scaling and normalisation are inside, and other types are refused, so that images cannot be prepared
wrongly. The names of the classes are beside the weights.
"""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.trained import TrainedModel

__all__ = ["FORMATS", "TOLERANCE", "Format", "export_model", "max_difference"]

TOLERANCE = 1e-4  # of the largest logit, or of 1 where all are smaller: float32 by other kernels, in another order
_CHECK_IMAGES = 16

Classifier = Callable[[np.ndarray], np.ndarray]  # uint8 (N, H, W, C) to logits (N, C)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        name: for people.
        write: writes a model with notes, text by name, to a path.
        load: gives the function that such a file is, in the runtime that is meant for it.
        packages: that it needs beside those of a search.
    """

    name: str
    write: Callable[[TrainedModel, Mapping[str, str], Path], None]
    load: Callable[[Path], Classifier]
    packages: Sequence[str] = ()


def export_model(model: TrainedModel, target: Path, class_names: Sequence[str] = ()) -> float:
    """Write a model to a file whose suffix is one of FORMATS; return by how much its logits differ.

    The file is loaded again and has to give the model's logits, within TOLERANCE, before it takes its name: whoever
    finds it there has a whole one that was checked.

    Args:
        model: as ``trainables.trained.load_model`` gives it, on the CPU.
        target: the file; one that is there is replaced.
        class_names: a name a class; by default those that the model has. The file has them as JSON under ``classes``.

    Raises:
        UserError: a package for it is not installed, or the file gives other logits.
        OSError: it cannot be written.
    """
    kind = FORMATS[target.suffix.lower()]
    notes = {
        "classes": json.dumps(list(class_names or model.class_names)),
        "images": f"uint8 (N, {', '.join(map(str, model.image_shape))}), grey levels 0 to 255, not normalised",
    }
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        try:
            kind.write(model, notes, temporary)
            difference = max_difference(kind.load(temporary), model)
        except ImportError as error:
            raise UserError(
                f"{kind.name} needs a package that is not installed ({error.name}): pip install "
                f"{' '.join(kind.packages)}"
            ) from None
        if not difference <= TOLERANCE:
            raise UserError(
                f"{target} was not written: its logits differ by {difference:.1e} of the largest one, and "
                f"{TOLERANCE:.0e} is allowed"
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def max_difference(exported: Classifier, model: TrainedModel) -> float:
    """Return by how much logits differ, as a share of the largest one where that is above 1.

    Noise, ramps, black and white are the images; in one batch, and one alone.
    """
    height, width, channels = model.image_shape
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_CHECK_IMAGES, height, width, channels), dtype=np.uint8)
    images[0], images[1] = 0, 255
    images[2] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    images[3] = np.linspace(0, 255, height, dtype=np.uint8)[:, None, None]
    differences = []
    for batch in (images, images[-1:]):
        expected = model(torch.from_numpy(batch)).numpy()
        found = exported(batch)
        if found.shape != expected.shape:
            return float("inf")
        differences.append(float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
    return float(np.max(differences))  # NaN stays NaN


class _Graph(nn.Module):
    """What is recorded: a trained model without its checks, which are Python."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.logits(images)


@contextlib.contextmanager
def _without_gradients(model: TrainedModel) -> Iterator[tuple[_Graph, Tensor]]:
    """Give what is to be recorded and images for it, and have nobody record gradients or speak of what is to come."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    exporters = logging.getLogger("torch.onnx")
    level = exporters.level
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        exporters.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of deprecation, and that checks of shapes become constants
            yield _Graph(model).eval(), torch.zeros(2, *model.image_shape, dtype=torch.uint8)
    finally:
        exporters.setLevel(level)
        for parameter in learning:
            parameter.requires_grad_(True)


# --- TorchScript -----------------------------------------------------------------------------------------------------


class _OnlyBytes(nn.Module):
    """Refuses images of another type or shape, in TorchScript too, where a recorded graph takes any."""

    def __init__(self, graph: nn.Module, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.graph = graph
        self.height, self.width, self.channels = image_shape

    def forward(self, images: Tensor) -> Tensor:
        shape = [self.height, self.width, self.channels]
        if images.dtype != torch.uint8 or images.dim() != 4 or list(images.shape[1:]) != shape:
            raise ValueError("needs uint8 images (N, H, W, C) of the size that the model was trained on")
        logits: Tensor = self.graph(images)
        return logits


def _write_torchscript(model: TrainedModel, notes: Mapping[str, str], path: Path) -> None:
    with _without_gradients(model) as (graph, images):
        traced = torch.jit.trace(graph, images, check_trace=False)  # type: ignore[no-untyped-call]
        script = torch.jit.script(_OnlyBytes(traced, model.image_shape))
        torch.jit.save(script, path, _extra_files={name: text.encode() for name, text in notes.items()})


def _load_torchscript(path: Path) -> Classifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def classify(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = script(torch.from_numpy(images)).numpy()
        return logits

    return classify


# --- ONNX ------------------------------------------------------------------------------------------------------------


def _write_onnx(model: TrainedModel, notes: Mapping[str, str], path: Path) -> None:
    import onnx
    import onnxscript  # noqa: F401  torch asks for it, in other words

    with _without_gradients(model) as (graph, images):
        program = torch.onnx.export(
            graph,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    written = program.model_proto
    onnx.helper.set_model_props(written, dict(notes))
    onnx.save_model(written, path)


def _load_onnx(path: Path) -> Classifier:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def classify(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(["logits"], {"images": images})[0]
        return logits

    return classify


FORMATS: dict[str, Format] = {
    ".onnx": Format("ONNX", _write_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime")),
    ".ts": Format("TorchScript", _write_torchscript, _load_torchscript),
}
