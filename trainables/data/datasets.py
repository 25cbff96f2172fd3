"""Data sets: where they lie, decoded once to uint8 arrays, split reproducibly.

The search sees `load_training_data` only. It opens no test file; `load_test_data` is for the confirmation, once.
"""

import difflib
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.data.cache import Cached, cache_folders, decode_once, fingerprint, source_signature
from trainables.data.inventory import LeftOut, Repeats, left_out_of, repeats_of
from trainables.data.readers import read_digits, reading
from trainables.data.sources import Source, download, find_folder_source, find_source
from trainables.data.specs import DATASETS, DataError, DatasetSpec, Shape

__all__ = [
    "DATASETS",
    "DataError",
    "DatasetSpec",
    "Split",
    "TrainingData",
    "check_dataset_name",
    "check_test_data",
    "default_data_dir",
    "load_test_data",
    "load_training_data",
    "resolve_dataset",
    "stratified_choice",
]

_DEFAULT_VALIDATION_SIZE = 5_000
_SMALL_SET_SHARE = 6  # at most a sixth of a small training set is kept for validation, or for a test it lacks
_HOLDOUT_SEED = 2_019  # any number, but never another: it fixes the test part of data that has none


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Args:
        images: (N, H, W, C) uint8, C-contiguous.
        labels: (N,) int64.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TrainingData:
    """All that a search may see of a data set.

    Args:
        spec: What is known of the data set.
        train: What the trials train on.
        validation: What they are compared on.
        fingerprint: SHA-256 of the decoded official training set, whatever it was decoded from.
        split_sha256: SHA-256 of which of its images are in `train` and which in `validation`.
        source: What the images were read from, in words.
        left_out: Files of a user's own folder that are not read.
        repeats: Images of a user's own folder that are there more than once, or None.
        note: What was done to the images of a user's own folder, in a line; empty where they are as they were.
    """

    spec: DatasetSpec
    train: Split
    validation: Split
    fingerprint: str
    split_sha256: str
    source: str
    left_out: tuple[LeftOut, ...] = ()
    repeats: Repeats | None = None
    note: str = ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of the data, a line each: nothing of it is left out in silence."""
        lines = [self.note] if self.note else []
        lines += [f"left out of the data: {files}" for files in self.left_out]
        if unseen := self.spec.classes_missing_in(self.train.labels):
            lines.append(f"{unseen} no image to train on")
        if self.repeats is not None:
            lines.append(f"the data repeats itself: {self.repeats}")
        return tuple(lines)


def default_data_dir() -> Path:
    """The environment variable ADALOSS_DATA, or `data` in the working directory."""
    return Path(os.environ.get("ADALOSS_DATA") or "data")


def check_dataset_name(name: str) -> None:
    """Raise DataError if `name` is neither in DATASETS nor a folder; reads no data."""
    if name not in DATASETS and not (name.isprintable() and name and Path(name).expanduser().is_dir()):
        raise DataError(_unknown(name))


def resolve_dataset(name: str, *, cache_dir: Path | None = None) -> DatasetSpec:
    """What is known of a data set: a registry name's entry, or what the images of a folder tell.

    Raises:
        DataError: `name` is neither, or the folder's data is broken.
    """
    if name in DATASETS:
        return DATASETS[name]
    return _official_training_set(name, None, cache_dir, download_missing=False)[0]


def load_training_data(
    dataset: str,
    data_dir: Path | None,
    *,
    validation_size: int | None = None,
    train_size: int | None = None,
    seed: int = 0,
    cache_dir: Path | None = None,
    download: bool = True,
) -> TrainingData:
    """The official training set, split into training and validation data; no test file is opened.

    Args:
        dataset: A name in DATASETS, or the path of a folder of parquet files or class folders.
        data_dir: Where the data sets lie or are downloaded to; None for `default_data_dir()`.
        validation_size: Number of images; by default 5,000, and at most a sixth of a small training set.
        train_size: Number of images, a stratified part of the rest; by default all of the rest.
        seed: Of the split, and of nothing else.
        cache_dir: Where decoded arrays are kept; by default beside the data, else in the user's cache folder.
        download: Whether torchvision may download what is missing.

    Raises:
        DataError: The data set is unknown, missing or broken, or a size is out of range.
    """
    spec, whole, official, source = _official_training_set(dataset, data_dir, cache_dir, download_missing=download)
    labels = whole.labels[official]
    chosen = _split_indices(labels, validation_size, train_size, seed)
    train, validation = (
        Split(np.ascontiguousarray(whole.images[official[part]]), np.ascontiguousarray(labels[part])) for part in chosen
    )
    left_out: tuple[LeftOut, ...] = ()
    repeats = None
    if source is not None and dataset not in DATASETS:
        folder = Path(dataset).expanduser()
        with reading(folder):
            left_out = left_out_of(folder, [*source.files("train"), *source.files("test")], source.suffixes)
        test = np.setdiff1d(np.arange(len(whole.labels)), official, assume_unique=True)
        repeats = repeats_of(whole.images, whole.labels, (*(official[part] for part in chosen), test))
    kind = "scikit-learn" if source is None else source.kind
    return TrainingData(
        spec, train, validation, whole.fingerprint, _split_hash(*chosen), kind, left_out, repeats, whole.note
    )


def check_test_data(dataset: str, data_dir: Path | None, *, download: bool = True) -> None:
    """Raise DataError if there is no test set to be read; opens no test file.

    The arguments are those of `load_test_data`.
    """
    if dataset != "digits":
        source, spec = _find(dataset, data_dir, download_missing=download)
        _check_test_files(dataset, source, spec)


def _check_test_files(dataset: str, source: Source, spec: DatasetSpec | None) -> None:
    if spec is not None and not source.files("test"):
        raise DataError(f"{source.folder} holds no test files of {dataset}; put them there, or choose another data set")


def load_test_data(
    dataset: str, data_dir: Path | None, *, cache_dir: Path | None = None, download: bool = True
) -> Split:
    """The official test set; read it once, when everything is chosen.

    Where a folder or `digits` brings no test set, it is a fixed stratified part that no seed moves and that
    `load_training_data` leaves out. The arguments are those of `load_training_data`.

    Raises:
        DataError: The data set is unknown, missing or broken.
    """
    if dataset == "digits":
        digits = read_digits()
        return _take(digits.images, digits.labels, _holdout(digits.labels, DATASETS["digits"].test_size)[1])
    source, spec = _find(dataset, data_dir, download_missing=download)
    _check_test_files(dataset, source, spec)
    if source.files("test"):
        known = spec or _official_training_set(dataset, data_dir, cache_dir, download_missing=False)[0]
        whole = _decode(source, "test", known.image_shape, known.num_classes, cache_dir)
        if spec is not None:
            _check_count(source, "test", len(whole.labels), spec.test_size)
        return _take(whole.images, whole.labels, np.arange(len(whole.labels)))
    whole = _decode(source, "train", None, None, cache_dir)
    return _take(whole.images, whole.labels, _holdout(whole.labels)[1])


# --- The official training set ---------------------------------------------------------------------------------------


def _official_training_set(
    dataset: str, data_dir: Path | None, cache_dir: Path | None, *, download_missing: bool
) -> tuple[DatasetSpec, Cached, np.ndarray, Source | None]:
    """What is known of the set, its arrays, the indices that are its training set, and its files if it has any."""
    if dataset == "digits":
        digits = read_digits()
        official = _holdout(digits.labels, DATASETS["digits"].test_size)[0]
        content = fingerprint(digits.images[official], digits.labels[official])
        return DATASETS["digits"], Cached(digits.images, digits.labels, (), content), official, None
    source, spec = _find(dataset, data_dir, download_missing=download_missing)
    if spec is not None:
        whole = _decode(source, "train", spec.image_shape, spec.num_classes, cache_dir)
        _check_count(source, "train", len(whole.labels), spec.train_size)
        _check_classes(source, whole.labels, spec.num_classes)
        return spec, whole, np.arange(len(whole.labels)), source
    whole = _decode(source, "train", None, None, cache_dir)
    official, test_size = np.arange(len(whole.labels)), 0
    if not source.files("test"):
        official, test = _holdout(whole.labels)
        test_size = len(test)
        content = fingerprint(whole.images[official], whole.labels[official])
        whole = replace(whole, fingerprint=content)
    return _folder_spec(dataset, source, whole, official, test_size), whole, official, source


def _find(dataset: str, data_dir: Path | None, *, download_missing: bool) -> tuple[Source, DatasetSpec | None]:
    """Where the data set lies, and its registry entry where `dataset` is a name rather than a folder."""
    spec = DATASETS.get(dataset)
    if spec is None:
        folder = Path(dataset).expanduser()
        with reading(folder):
            if not dataset or not folder.is_dir():
                raise DataError(_unknown(dataset))
        return find_folder_source(folder), None
    folder = (default_data_dir() if data_dir is None else data_dir).expanduser()
    with reading(folder):
        is_file = folder.exists() and not folder.is_dir()
    if is_file:
        raise DataError(f"{folder} is a file where the folder of the data sets is needed; give another --data-dir")
    source = find_source(spec, folder)
    if source is None and download_missing:
        download(spec, folder)
        source = find_source(spec, folder)
    if source is None:
        raise DataError(
            f"{dataset} is not in {folder}: put its files into {folder / dataset} (train-*.parquet or IDX files), "
            "allow the download, or use digits, which needs neither"
        )
    return source, spec


def _unknown(dataset: str) -> str:
    known = ", ".join(DATASETS)
    if any(mark in dataset for mark in ("/", os.sep, "~")) or dataset.startswith("."):
        return f"there is no folder {dataset}: give an existing folder, or one of {known}"
    nearest = difflib.get_close_matches(dataset.lower().replace("-", "_"), DATASETS, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown data set {dataset!r}: {hint}known are {known}, or give the path of a folder"


def _decode(source: Source, part: str, shape: Shape | None, num_classes: int | None, cache_dir: Path | None) -> Cached:
    signature = source_signature(source.kind, source.folder, source.files(part))
    # What is expected is part of the signature: a cache made for another registry entry is not trusted.
    signature |= {"expected_shape": list(shape or ()), "expected_classes": num_classes}
    folders = cache_folders(source.folder, cache_dir)
    return decode_once(folders, part, signature, lambda: source.read(part, shape, num_classes))


def _check_count(source: Source, part: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"{source.folder} holds {found:,} {part} images where {expected:,} are expected: fetch the whole data set; "
            "for a part of it use --train-size, for other data give its folder as --dataset"
        )


def _check_classes(source: Source, labels: np.ndarray, num_classes: int) -> None:
    present = np.unique(labels)
    if len(present) < num_classes:
        missing = next(label for label in range(num_classes) if label not in present)
        raise DataError(
            f"{source.folder}: no image to train on has label {missing}; each of the labels 0 to {num_classes - 1} "
            "needs at least one, two where the test images are taken from the same files"
        )


def _folder_spec(dataset: str, source: Source, whole: Cached, official: np.ndarray, test_size: int) -> DatasetSpec:
    num_classes = len(whole.class_names) or int(whole.labels.max()) + 1
    if num_classes < 2:
        raise DataError(f"{source.folder} holds one class; at least two are needed")
    _check_classes(source, whole.labels[official], num_classes)
    height, width, channels = whole.images.shape[1:]
    mean, std = _channel_statistics(whole.images, official)
    if min(std) == 0.0:
        raise DataError(f"{source.folder}: a colour channel has one value in all images; there is nothing to learn")
    return DatasetSpec(
        name=Path(dataset).expanduser().resolve().name,
        image_shape=(height, width, channels),
        num_classes=num_classes,
        class_names=whole.class_names or tuple(map(str, range(num_classes))),
        mean=mean,
        std=std,
        train_size=len(official),
        test_size=test_size,
        horizontal_flip=False,  # nobody knows what a mirrored image means here
    )


def _channel_statistics(images: np.ndarray, indices: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of images scaled to [0, 1], exact, a block at a time."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for block in np.array_split(indices, max(1, len(indices) // 1_000)):
        pixels = images[block].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[:, channel], minlength=256)
    values = np.arange(256) / 255
    total = counts[0].sum()
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(variance, 0)).tolist())


# --- Splits ----------------------------------------------------------------------------------------------------------


def stratified_choice(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `size` images, sorted, with every class within 1 of its proportional number."""
    classes, counts = np.unique(labels, return_counts=True)
    take, remainder = np.divmod(size * counts, len(labels))
    # The images that rounding down leaves over go to the largest remainders, ties at random.
    order = np.lexsort((rng.permutation(len(classes)), -remainder))
    take[order[: size - take.sum()]] += 1
    chosen = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label, count in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _split_indices(
    labels: np.ndarray, validation_size: int | None, train_size: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The sorted indices of the training and of the validation images."""
    total = len(labels)
    if validation_size is None:
        validation_size = max(1, min(_DEFAULT_VALIDATION_SIZE, total // _SMALL_SET_SHARE))
    _check_size("validation", validation_size, total - 1)
    if seed < 0:
        raise DataError(f"the seed is {seed}; choose 0 or more")
    rng = np.random.Generator(np.random.PCG64(seed))
    validation = stratified_choice(labels, validation_size, rng)
    train = np.setdiff1d(np.arange(total), validation, assume_unique=True)
    if train_size is not None:
        _check_size("train", train_size, len(train))
        train = train[stratified_choice(labels[train], train_size, rng)]
    return train, validation


def _check_size(name: str, size: int, most: int) -> None:
    if not 1 <= size <= most:
        option = "--train-size: " if name == "train" else ""
        raise DataError(f"{option}a {name} size of {size:,} images is not possible here: choose 1 to {most:,}")


def _split_hash(train: np.ndarray, validation: np.ndarray) -> str:
    digest = hashlib.sha256()
    for name, indices in (("validation", validation), ("train", train)):
        digest.update(f"{name} {len(indices)} ".encode())
        digest.update(np.ascontiguousarray(indices, "<i8").tobytes())
    return digest.hexdigest()


def _holdout(labels: np.ndarray, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The fixed division of data without a test set into training and test indices."""
    rng = np.random.Generator(np.random.PCG64(_HOLDOUT_SEED))
    test = stratified_choice(labels, max(1, len(labels) // _SMALL_SET_SHARE) if size is None else size, rng)
    return np.setdiff1d(np.arange(len(labels)), test, assume_unique=True), test


def _take(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Split:
    return Split(np.ascontiguousarray(images[indices]), np.ascontiguousarray(labels[indices]))
