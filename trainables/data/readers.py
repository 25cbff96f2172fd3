"""Decode one split from its files into uint8 images and int64 labels, and name the file where that fails."""

import gzip
import importlib.util
import io
import json
import math
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from trainables.data.photos import PHOTO_SHAPE, Header, Photos, fitted
from trainables.data.specs import DataError, Shape

_BATCH = 1_024  # images decoded at once: enough for the threads, little memory
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
_IMAGE_MODES = {1: "L", 3: "RGB"}
_DECODE_ERRORS = (  # all that Pillow raises for a damaged image
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Decoded:
    """One decoded split.

    Args:
        images: (N, H, W, C) uint8, C-contiguous.
        labels: (N,) int64.
        class_names: One name a class; empty where the files do not name them.
        note: What was done to the images, in a line; empty where they are as the files have them.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    note: str = ""


def one_line(error: BaseException) -> str:
    """The message of an error, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into one that names `path`."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: permission denied; change its permissions or owner") from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise DataError(f"{path} cannot be read ({reason}); check the file, or fetch it again") from error


def _row_of(path: Path, first: int = 0) -> Callable[[int], str]:
    """Names the i-th row after `first` in an error."""
    return lambda i: f"{path}, row {first + i}"


def check_labels(labels: np.ndarray, num_classes: int | None, where: Callable[[int], str]) -> None:
    """Raise a DataError for the first label outside 0 .. num_classes - 1."""
    wrong = labels < 0
    if num_classes is not None:
        wrong |= labels >= num_classes
    if wrong.any():
        row = int(wrong.argmax())
        allowed = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        raise DataError(f"{where(row)}: the label is {labels[row]} where {allowed} is allowed; correct or remove it")


# --- Images ----------------------------------------------------------------------------------------------------------


def decode_image(data: bytes | Path, shape: Shape | None, where: str) -> np.ndarray:
    """Decode one image to (H, W, C) uint8; `shape` is the one it must have, None for any."""
    # The size is checked before the pixels are decoded: a damaged header must not ask for gigabytes.
    with _opened(data, where) as image:
        channels = {mode: count for count, mode in _IMAGE_MODES.items()}.get(image.mode)
        found = (image.height, image.width, channels)
        if channels is None or (shape is not None and found != shape):
            raise DataError(_wrong_image(where, image, shape))
        return np.asarray(image).reshape(image.height, image.width, channels)


@contextmanager
def _opened(data: bytes | Path, where: str) -> Iterator[Image.Image]:
    """Open an image without decoding its pixels, and name it where anything in the context fails."""
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=_IMAGE_FORMATS) as image:
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format != "MPO":  # a photo with a preview or a second lens; the first is the photo
                raise DataError(f"{where}: the file holds {count} images; keep the one that is meant")
            yield image
    except PermissionError as error:
        raise DataError(f"{where} cannot be read: permission denied; change its permissions or owner") from error
    except _DECODE_ERRORS as error:
        reason = "no known image format" if isinstance(error, UnidentifiedImageError) else one_line(error)
        raise DataError(
            f"{where}: the image cannot be decoded ({reason}); fetch the file again or remove it"
        ) from error


def _wrong_image(where: str, image: Image.Image, shape: Shape | None) -> str:
    found = f"{image.height}x{image.width} pixels of mode {image.mode}"
    if shape is None:
        return f"{where}: the image has {found} where mode L (grey) or RGB is needed; convert it"
    expected = f"{shape[0]}x{shape[1]} pixels of mode {_IMAGE_MODES.get(shape[2], '?')}"
    return f"{where}: the image has {found} where {expected} is needed; all images must have this shape"


class _Decoder:
    """Decodes batches in threads (Pillow releases the interpreter's lock) straight into their place."""

    def __init__(self, shape: Shape | None, total: int, *, are_photos: bool = False):
        self.shape = PHOTO_SHAPE if are_photos else shape
        self._are_photos = are_photos
        self.images: np.ndarray | None = None
        self._total = total
        self._workers = min(8, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._workers)

    def __enter__(self) -> "_Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def decode(self, start: int, batch: Sequence[bytes | Path], where: Callable[[int], str]) -> None:
        """Put the batch at images[start:]; `where` names its i-th image in an error."""
        if self.images is None:
            if self.shape is None:
                height, width, channels = decode_image(batch[0], None, where(0)).shape
                self.shape = (height, width, channels)
            self.images = np.empty((self._total, *self.shape), np.uint8)
        images, shape = self.images, self.shape

        def decode_every_nth(first: int) -> None:
            for i in range(first, len(batch), self._workers):
                if self._are_photos:
                    images[start + i] = fit_image(batch[i], where(i))
                else:
                    images[start + i] = decode_image(batch[i], shape, where(i))

        list(self._pool.map(decode_every_nth, range(self._workers)))

    def result(self) -> np.ndarray:
        assert self.images is not None, "callers refuse empty sources"
        return self.images


def fit_image(data: bytes | Path, where: str) -> np.ndarray:
    """Decode one photo to PHOTO_SHAPE uint8, whatever its size, mode and orientation."""
    with _opened(data, where) as image:
        return fitted(image)


def photos_among(files: Sequence[Path]) -> Photos | None:
    """Return what image files are photos, if they are, from their first bytes alone."""

    def header(path: Path) -> Header:
        with _opened(path, str(path)) as image:
            return Header.of(image)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return Photos.among(list(pool.map(header, files)))


def read_class_folders(
    files: Sequence[tuple[Path, int]],
    shape: Shape | None,
    class_names: tuple[str, ...],
    photos: Photos | None = None,
) -> Decoded:
    """Decode image files, given with their labels; without `shape`, the first image sets it for all.

    Photos are made PHOTO_SHAPE.
    """
    with _Decoder(shape, len(files), are_photos=photos is not None) as decoder:
        for start in range(0, len(files), _BATCH):
            batch = [path for path, _ in files[start : start + _BATCH]]
            decoder.decode(start, batch, [str(path) for path in batch].__getitem__)
        labels = np.array([label for _, label in files], np.int64)
        return Decoded(decoder.result(), labels, class_names, str(photos or ""))


# --- Parquet ---------------------------------------------------------------------------------------------------------

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")  # fine_label: the 100 classes of CIFAR-100


def read_parquet(files: Sequence[Path], shape: Shape | None, num_classes: int | None) -> Decoded:
    """Decode the shards of one split of a Hugging Face snapshot, in the order given."""
    import pyarrow.parquet as pq

    shards: list[tuple[Path, Any]] = []
    for path in files:
        with _parquet_errors(path):
            shards.append((path, pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)))
    total = sum(shard.metadata.num_rows for _, shard in shards)
    if total == 0:
        raise DataError(f"{files[0]} holds no rows; fetch it again or remove it")
    names = _class_names(shards[0][1].schema_arrow)
    labels = np.empty(total, np.int64)
    start = 0
    with _Decoder(shape, total) as decoder:
        for path, shard in shards:
            with shard:
                stop = start + shard.metadata.num_rows
                _read_shard(path, shard, decoder, labels[start:stop], start)
                check_labels(labels[start:stop], num_classes or len(names) or None, _row_of(path))
                start = stop
        return Decoded(decoder.result(), labels, names)


def _read_shard(path: Path, shard: Any, decoder: _Decoder, labels: np.ndarray, start: int) -> None:
    image_column, label_column = _columns(path, shard.schema_arrow)
    row = 0
    with _parquet_errors(path):
        for batch in shard.iter_batches(_BATCH, columns=[f"{image_column}.bytes", label_column], use_threads=False):
            blobs = batch.column(image_column).flatten()[0].to_pylist()
            if None in blobs:
                raise DataError(
                    f"{path}, row {row + blobs.index(None)}: there are no image bytes; fetch the file again"
                )
            column = batch.column(label_column)
            if column.null_count:
                null = column.is_null().to_pylist().index(True)
                raise DataError(f"{path}, row {row + null}: the label is missing; correct or remove the row")
            labels[row : row + len(blobs)] = column.cast("int64").to_numpy()
            decoder.decode(start + row, blobs, _row_of(path, row))
            row += len(blobs)
    if row != len(labels):
        raise DataError(f"{path} holds {row} rows where its footer says {len(labels)}; fetch it again")


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        with reading(path):
            yield
    except (pa.ArrowException, ValueError, EOFError) as error:
        reason = one_line(error)
        raise DataError(f"{path} is no whole parquet file ({reason}); fetch it again") from error


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """The names of the image and the label column."""
    import pyarrow as pa

    image, label = (next((n for n in names if n in schema.names), "") for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
    for found, wanted in ((image, _IMAGE_COLUMNS), (label, _LABEL_COLUMNS)):
        if not found:
            has = ", ".join(schema.names) or "none"
            raise DataError(f"{path} has no column {' or '.join(wanted)} (columns: {has}); rename the column")
    kind = schema.field(image).type
    if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)):
        raise DataError(f"{path}: column {image} is {kind} where struct<bytes: binary, path: string> is needed")
    if not pa.types.is_integer(schema.field(label).type):
        raise DataError(f"{path}: column {label} holds {schema.field(label).type} where whole numbers are needed")
    return image, label


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _class_names(schema: Any) -> tuple[str, ...]:
    """The class names that the `datasets` library stores beside the schema, if it did."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = next(features[column]["names"] for column in _LABEL_COLUMNS if column in features)
    except (TypeError, LookupError, ValueError, StopIteration):
        return ()
    return tuple(map(str, names))


# --- IDX -------------------------------------------------------------------------------------------------------------

_IDX_UBYTE = 0x08  # the type byte of unsigned bytes; the byte after it counts the dimensions
_GZIP_LIMIT = 1_100  # deflate makes nothing smaller than 1/1032


def read_idx(images_path: Path, labels_path: Path, shape: Shape | None, num_classes: int | None) -> Decoded:
    """Decode MNIST's own format: a big-endian header, then unsigned bytes."""
    images = _read_idx_array(images_path, 3)[..., np.newaxis]
    labels = _read_idx_array(labels_path, 1).astype(np.int64)
    if len(images) != len(labels):
        raise DataError(f"{labels_path} holds {len(labels)} labels for the {len(images)} images of {images_path.name}")
    if shape is not None and images.shape[1:] != shape:
        found, wanted = ("x".join(map(str, s)) for s in (images.shape[1:], shape))
        raise DataError(f"{images_path} holds images of {found} where {wanted} is needed; is it of another data set?")
    check_labels(labels, num_classes, _row_of(labels_path))
    return Decoded(images, labels)


def _read_idx_array(path: Path, dimensions: int) -> np.ndarray:
    packed = path.suffix == ".gz"
    try:
        with reading(path), gzip.open(path, "rb") if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions:
                raise DataError(f"{path} is truncated in its header; fetch it again")
            if header[:4] != bytes((0, 0, _IDX_UBYTE, dimensions)):
                raise DataError(f"{path} is no IDX file of {dimensions}-dimensional bytes; fetch it again")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            # A damaged header must not ask for gigabytes that the file cannot hold.
            if size == 0 or size > path.stat().st_size * (_GZIP_LIMIT if packed else 1):
                raise DataError(f"{path} is truncated or damaged: {shape} does not fit its size; fetch it again")
            array = np.empty(shape, np.uint8)
            count = file.readinto(array.reshape(-1).data)
            if count != size or file.read(1):
                raise DataError(
                    f"{path} is {'longer' if count == size else 'shorter'} than its header says; fetch it again"
                )
            return array
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({one_line(error)}); fetch it again") from error


# --- CIFAR's pickles -------------------------------------------------------------------------------------------------


def read_cifar_pickles(files: Iterable[tuple[Path, str]], shape: Shape, num_classes: int) -> Decoded:
    """Decode CIFAR's batches, given with their MD5; only what has the known checksum is unpickled."""
    from torchvision.datasets.utils import check_integrity

    height, width, channels = shape
    images, labels = [], []
    for path, md5 in files:
        with reading(path):
            if not path.is_file() or not check_integrity(path, md5):
                raise DataError(f"{path} is missing or damaged (wrong checksum); remove its folder to fetch it again")
            batch = pickle.loads(path.read_bytes(), encoding="latin1")  # noqa: S301
        flat = np.asarray(batch["data"], np.uint8)
        images.append(flat.reshape(-1, channels, height, width))
        batch_labels = np.asarray(batch.get("labels", batch.get("fine_labels")), np.int64)
        check_labels(batch_labels, num_classes, _row_of(path))
        labels.append(batch_labels)
    decoded = np.empty((sum(map(len, images)), *shape), np.uint8)
    start = 0
    while images:  # drop each batch once copied
        batch_images = images.pop(0)
        decoded[start : start + len(batch_images)] = batch_images.transpose(0, 2, 3, 1)
        start += len(batch_images)
    return Decoded(decoded, np.concatenate(labels))


# --- scikit-learn's digits -------------------------------------------------------------------------------------------


def read_digits() -> Decoded:
    """scikit-learn's 1,797 handwritten digits, enlarged bilinearly from 8x8 to 28x28."""
    pixels_and_label = _digits_table()  # (N, 65)
    small = pixels_and_label[:, :64].reshape(-1, 8, 8)  # 0 .. 16
    # Whole numbers make the enlargement exact, so that the fingerprint is the same on every machine: the weights of
    # each of the 28 positions are fourteenths.
    weights = np.zeros((28, 8), np.int64)
    for position in range(28):
        lower, fraction = divmod(4 * position - 5, 14)  # the middle of the pixel, in fourteenths of a source pixel
        weights[position, max(lower, 0)] += 14 - fraction
        weights[position, min(lower + 1, 7)] += fraction
    large = weights @ small @ weights.T  # (N, 28, 28), 0 .. 16 * 14 * 14
    full = 16 * 14 * 14
    images = ((large * 255 + full // 2) // full).astype(np.uint8)[..., np.newaxis]
    return Decoded(np.ascontiguousarray(images), np.ascontiguousarray(pixels_and_label[:, 64]))


def _digits_table() -> npt.NDArray[np.int64]:
    """Return scikit-learn's table of digits, from its file where that is: to import the package takes two seconds."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",").astype(np.int64)
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.column_stack([data.data, data.target]).astype(np.int64)
