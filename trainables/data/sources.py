"""Find where a data set lies, without opening its files, and let torchvision download it where it does not."""

import contextlib
import re
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from trainables.data.readers import (
    Decoded,
    one_line,
    photos_among,
    read_cifar_pickles,
    read_class_folders,
    read_idx,
    read_parquet,
    reading,
)
from trainables.data.specs import DataError, DatasetSpec, Shape

_TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_IDX_FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
_PICKLE_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
_DOWNLOAD_TIMEOUT_S = 30.0  # without an answer; torchvision itself would wait for ever
_DOWNLOAD_ERRORS = (OSError, RuntimeError, ValueError, EOFError, HTTPException, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class Source:
    """One way in which a data set lies on the disk.

    Args:
        kind: What it is, in words, as results record it.
        folder: The folder that all its files are in.
        files: The files of the part "train" or "test", by name; empty where the part is not there.
        read: Decodes a part, given the shape and the number of classes, each None where the data is to tell.
        suffixes: What names of its files end in, in small letters.
    """

    kind: str
    folder: Path
    files: Callable[[str], list[Path]]
    read: Callable[[str, Shape | None, int | None], Decoded]
    suffixes: frozenset[str] = frozenset()


def find_source(spec: DatasetSpec, data_dir: Path) -> Source | None:
    """The data set `spec` in `data_dir`, in the first layout that is there."""
    folders = _named_folders(spec.name, data_dir)
    roots = [data_dir, *folders]
    idx = [root / _IDX_FOLDERS[spec.name] for root in roots if spec.name in _IDX_FOLDERS]
    finders: list[Iterator[Source | None]] = [
        (_cifar_pickles(root, spec.name) for root in roots),
        (_idx_files(folder, "torchvision") for folder in idx),
        (_parquet_snapshot(folder) for folder in folders),
        (_idx_files(place, "idx") for folder in folders for place in (folder, folder / "raw") if place not in idx),
        (_class_folders(folder, spec.class_names) for folder in folders),
    ]
    return next((source for finder in finders for source in finder if source is not None), None)


def find_folder_source(folder: Path) -> Source:
    """The user's own data set in `folder`."""
    source = _parquet_snapshot(folder) or _idx_files(folder, "idx") or _class_folders(folder, ())
    if source is None:
        raise DataError(
            f"{folder} holds no data set: put train-*.parquet files or images as {folder}/train/<class>/*.png there"
        )
    return source


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no such folder."""
    try:
        with reading(folder):
            return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return []
        raise


def _subfolders(folder: Path) -> list[Path]:
    with reading(folder):
        return [path for path in _entries(folder) if path.is_dir()]


def _named_folders(name: str, data_dir: Path) -> list[Path]:
    """The folders that may hold the data set: <data-dir>/<name>, spelled otherwise, and the data folder itself."""

    def is_named(folder: Path) -> bool:
        return re.sub("[^a-z0-9]", "", folder.name.lower()).removeprefix("dataset") == name.replace("_", "")

    folders = [data_dir / name]
    folders += [path for path in _subfolders(data_dir) if is_named(path) and path.name != name]
    if is_named(data_dir.absolute()):
        folders.append(data_dir)
    return folders


# --- Layouts ---------------------------------------------------------------------------------------------------------


def _cifar_pickles(root: Path, name: str) -> Source | None:
    folder = root / _PICKLE_FOLDERS.get(name, "")
    if name not in _PICKLE_FOLDERS or not _entries(folder):
        return None

    def batches(part: str) -> list[tuple[Path, str]]:
        from torchvision import datasets

        torchvision_class = getattr(datasets, _TORCHVISION_CLASSES[name])
        listed = torchvision_class.train_list if part == "train" else torchvision_class.test_list
        return [(folder / file, md5) for file, md5 in listed]

    def files(part: str) -> list[Path]:
        # Only their names: importing torchvision to look into its list would cost a cached load most of its memory.
        return [path for path in _entries(folder) if path.is_file() and _is_batch_of(part, path.name)]

    def read(part: str, shape: Shape | None, num_classes: int | None) -> Decoded:
        assert shape is not None, "these layouts are only looked for by name"
        assert num_classes is not None, "these layouts are only looked for by name"
        return read_cifar_pickles(batches(part), shape, num_classes)

    return Source("torchvision", folder, files, read)


def _is_batch_of(part: str, file_name: str) -> bool:
    return file_name.startswith("data_batch" if part == "train" else "test_batch") or file_name == part


def _parquet_snapshot(folder: Path) -> Source | None:
    def shards(place: Path, part: str) -> list[Path]:
        return [path for path in _entries(place) if path.match(f"{part}-*.parquet")]

    places = [folder] if shards(folder, "train") else [path for path in _subfolders(folder) if shards(path, "train")]
    if not places:
        return None
    if len(places) > 1:
        names = ", ".join(place.name for place in places)
        raise DataError(f"{folder} has parquet files in several subfolders ({names}); keep the one to use")
    place = places[0]

    def files(part: str) -> list[Path]:
        found = shards(place, part)
        _check_all_shards(found)
        return found

    def read(part: str, shape: Shape | None, num_classes: int | None) -> Decoded:
        return read_parquet(files(part), shape, num_classes)

    return Source("parquet snapshot", place, files, read, frozenset({".parquet"}))


def _check_all_shards(files: Sequence[Path]) -> None:
    """Raise a DataError where names such as train-00000-of-00002 tell that a file is missing."""
    numbered = [(path, re.search(r"-(\d+)-of-(\d+)", path.name)) for path in files]
    shards = {(int(match[1]), int(match[2])) for _, match in numbered if match}
    totals = {total for _, total in shards}
    if len(totals) > 1:
        raise DataError(f"{files[0].parent} mixes snapshots of {sorted(totals)} files; keep the files of one")
    for total in totals:
        missing = sorted(set(range(total)) - {number for number, _ in shards})
        if missing:
            raise DataError(f"{files[0].parent}: of {total} files like {files[0].name}, number {missing[0]} is missing")


def _idx_files(folder: Path, kind: str) -> Source | None:
    def files(part: str) -> list[Path]:
        prefix = "train" if part == "train" else "t10k"
        found = [
            next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
            for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        ]
        if found == [None, None] or (None in found and kind == "torchvision"):
            return []  # what torchvision left half downloaded, it can complete
        if None in found:
            missing = ("images-idx3", "labels-idx1")[found.index(None)]
            raise DataError(f"{folder} lacks {prefix}-{missing}-ubyte[.gz] beside its other half; put it there")
        return [path for path in found if path is not None]

    def read(part: str, shape: Shape | None, num_classes: int | None) -> Decoded:
        images, labels = files(part)
        return read_idx(images, labels, shape, num_classes)

    with reading(folder):
        return Source(kind, folder, files, read, frozenset({"", ".gz"})) if files("train") else None


def _class_folders(folder: Path, class_names: tuple[str, ...]) -> Source | None:
    """<folder>/train/<class>/*.png with test/ beside it, or <folder>/<class>/*.png."""

    is_split = bool(_subfolders(folder / "train"))  # else a folder called train is a class of that name
    top = {"train": folder / "train", "test": folder / "test"} if is_split else {"train": folder}
    found = [path.name for path in _subfolders(top["train"])]
    if not found or not any(_images(top["train"] / name) for name in found):
        return None
    names = _class_order(top["train"], found, class_names)

    def labelled(part: str) -> list[tuple[Path, int]]:
        files = []
        for place in _subfolders(top[part]) if part in top else []:
            if place.name not in names:
                raise DataError(f"{place}: there is no class of this name in {top['train']}; rename or remove it")
            images = _images(place)
            if not images:
                raise DataError(f"{place} holds no images; add some or remove the folder")
            files += [(path, names.index(place.name)) for path in images]
        return files

    def files(part: str) -> list[Path]:
        return [path for path, _ in labelled(part)]

    def read(part: str, shape: Shape | None, _: int | None) -> Decoded:
        # What the training images are, test images are as well; those of a data set that is known have one shape.
        photos = None if class_names else photos_among(files("train"))
        return read_class_folders(labelled(part), shape, class_names or tuple(names), photos)

    return Source("class folders", folder, files, read, IMAGE_SUFFIXES)


def _images(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def _class_order(folder: Path, found: list[str], class_names: tuple[str, ...]) -> list[str]:
    """The folders' names in the order of their labels; numbers sort as numbers."""
    if set(found) == set(class_names):
        return list(class_names)
    numbered = [str(label) for label in range(len(found))]
    if set(found) == set(numbered) and len(class_names) in (0, len(found)):
        return numbered
    if class_names:
        wrong = sorted(set(found) ^ set(class_names))[0]
        raise DataError(f"{folder}: its class folders are not those of the data set, see {wrong!r}; rename them")
    return found


# --- Download --------------------------------------------------------------------------------------------------------


def download(spec: DatasetSpec, data_dir: Path) -> None:
    """Let torchvision download the data set into `data_dir`, where all of it appears at once or nothing."""
    try:
        from torchvision import datasets

        data_dir.mkdir(parents=True, exist_ok=True)
        # Downloaded beside its place and moved there: a broken download leaves nothing, and two at once do no harm.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as temporary, _timeout():
            getattr(datasets, _TORCHVISION_CLASSES[spec.name])(temporary, train=True, download=True)
            for path in Path(temporary).iterdir():
                if path.is_dir():  # not the archive
                    _move(path, data_dir / path.name)
    except (*_DOWNLOAD_ERRORS, ImportError) as error:
        raise DataError(
            f"{spec.name} is not in {data_dir} and its download failed ({one_line(error)}): put its files into "
            f"{data_dir / spec.name} (train-*.parquet or IDX files), or use digits, which needs no download"
        ) from error


def _move(source: Path, target: Path) -> None:
    """Move a folder where it is not yet, and of one that is there what it lacks."""
    try:
        source.rename(target)
    except OSError:  # it is there, and not empty
        if not target.is_dir():
            raise
        for path in source.iterdir():
            if path.is_dir() or not (target / path.name).exists():
                _move(path, target / path.name)


@contextlib.contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
