"""Small data sets on disk, in the layouts that the data layer reads."""

import dataclasses
import gc
import gzip
import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.trainables.small_trials import NARROW
from trainables.data import DATASETS, TrainingData, load_training_data
from trainables.registry import MODELS

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class DataWriter:
    """Writes images and labels to disk in one of the layouts; `parts` makes a small data set up."""

    def parts(
        self, shape: tuple[int, ...], sizes: tuple[int, int] = (60, 20), classes: int = 10, seed: int = 0
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        return {
            part: (rng.integers(0, 256, (size, *shape), np.uint8), rng.permutation(np.arange(size) % classes))
            for part, size in zip(("train", "test"), sizes, strict=True)
        }

    def png(self, image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
        return buffer.getvalue()

    def table(
        self,
        images: Sequence[Any],
        labels: Sequence[Any],
        *,
        image: str = "image",
        label: str = "label",
        label_type: Any = None,
    ) -> pa.Table:
        blobs = [self.png(item) if isinstance(item, np.ndarray) else item for item in images]
        rows = [None if blob is None else {"bytes": blob, "path": None} for blob in blobs]
        label_column = pa.array(list(labels), label_type or pa.int64())
        return pa.table({image: pa.array(rows, IMAGE_TYPE), label: label_column})

    def parquet(self, path: Path, images: Sequence[Any], labels: Sequence[Any], **kwargs: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.table(images, labels, **kwargs), path, row_group_size=16)
        return path

    def snapshot(self, folder: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], **kwargs: Any) -> Path:
        for part, (images, labels) in parts.items():
            self.parquet(folder / f"{part}-00000-of-00001.parquet", images, labels, **kwargs)
        return folder

    def idx_bytes(self, array: np.ndarray) -> bytes:
        return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()

    def idx(self, folder: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], *, packed: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part, (images, labels) in parts.items():
            prefix = {"train": "train", "test": "t10k"}[part]
            for name, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels)):
                content = self.idx_bytes(array)
                path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
                path.write_bytes(gzip.compress(content) if packed else content)
        return folder

    def class_folders(self, folder: Path, images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Path:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / names[label] / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.png(image))
        return folder


@pytest.fixture
def write() -> DataWriter:
    return DataWriter()


@pytest.fixture
def small_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry with 60 training and 20 test images a data set, so that tests can write whole ones."""
    for name, spec in list(DATASETS.items()):
        if name != "digits":
            classes = spec.num_classes
            sizes = {"train_size": 60, "test_size": 20} if classes == 10 else {"train_size": 200, "test_size": 100}
            monkeypatch.setitem(DATASETS, name, dataclasses.replace(spec, **sizes))


@pytest.fixture(autouse=True)
def own_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the cache of whoever runs it."""
    folder = tmp_path_factory.mktemp("user-cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def digits() -> TrainingData:
    """The one data set that is always there."""
    return load_training_data("digits", None)


@pytest.fixture
def narrow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of small trials, under the name that they have it by."""
    monkeypatch.setitem(MODELS, "narrow", NARROW)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Numbers that are compared bitwise come from one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def restored_torch_settings() -> Iterator[None]:
    """What a trial sets for its process does not outlive the test."""
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = deterministic


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """Each trial begins with a collection, which would look through all that the test run has imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
