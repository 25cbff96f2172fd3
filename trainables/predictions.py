"""What a trained model says of image files, which are decoded as those were on which it was trained."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.data import DataError
from trainables.data.photos import PHOTO_SHAPE
from trainables.data.readers import decode_image, fit_image, reading
from trainables.data.sources import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from trainables.trained import TrainedModel

__all__ = ["Prediction", "image_files", "predict", "read_image"]

_BATCH = 256  # images at a time: enough for the threads that decode, little memory


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image file.

    Args:
        file: as it was given.
        label: of the most probable class, None where the file is no image that the model takes.
        class_name: of that class; the label where the model does not know the names of its classes.
        probability: of that class, softmax of the logits without a margin: it ranks images well and is not calibrated.
        error: why there is no prediction, in one line, or None.
    """

    file: Path
    label: int | None
    class_name: str | None
    probability: float | None
    error: str | None = None


def predict(
    model: "TrainedModel", files: Sequence[Path], class_names: Sequence[str] | None = None
) -> Iterator[Prediction]:
    """Yield what a model says of each file, in their order; one that is broken keeps no other from being read.

    Args:
        model: as ``trainables.trained.load_model`` gives it.
        files: image files.
        class_names: a name a class; by default those that the model has.
    """
    import torch

    names = tuple(class_names or model.class_names) or tuple(map(str, range(model.num_classes)))
    device = model.mean.device
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            read = list(pool.map(lambda file: _read_or_error(model, file), batch))
            images = [image for image in read if not isinstance(image, str)]
            found: Iterator[tuple[float, int]] = iter(())
            if images:
                shares = model(torch.from_numpy(np.stack(images)).to(device)).double().softmax(1)  # (N, C)
                best = shares.max(dim=1)
                found = iter(zip(best.values.tolist(), best.indices.tolist(), strict=True))
            for file, image in zip(batch, read, strict=True):
                if isinstance(image, str):
                    yield Prediction(file, None, None, None, image)
                    continue
                probability, label = next(found)
                if math.isnan(probability):
                    yield Prediction(file, None, None, None, f"{file}: the model's logits are not finite; it diverged")
                else:
                    yield Prediction(file, label, names[label], probability)


def read_image(model: "TrainedModel", file: Path) -> np.ndarray:
    """Return an image file as the model takes it, (H, W, C) uint8.

    A model of small colour images takes any photo, as a user's own photos are taken for training: turned upright, made
    RGB, cropped to its middle square and scaled. Where it was trained on images of its own size as they are, a file of
    this size and kind is taken as it is. A model of grey images takes no others: there is no right way to make a photo
    a digit.

    Raises:
        DataError: the file is missing, broken, or no image for this model.
    """
    with reading(file):
        file.stat()  # what is missing is said as that, and not as an image that cannot be decoded
    if model.image_shape != PHOTO_SHAPE:
        return decode_image(file, model.image_shape, str(file))
    if model.are_photos is False:
        try:
            return decode_image(file, model.image_shape, str(file))
        except DataError:
            pass  # of another size or mode; if it is broken, the next line says so
    return fit_image(file, str(file))


def _read_or_error(model: "TrainedModel", file: Path) -> np.ndarray | str:
    try:
        return read_image(model, file)
    except DataError as error:
        return str(error)


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and the folders in it, by path; hidden ones and other kinds are left out.

    Raises:
        DataError: it cannot be read.
    """
    with reading(folder):
        found = []
        for place, folders, names in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in IMAGE_SUFFIXES)


def _raise(error: OSError) -> None:
    raise error
