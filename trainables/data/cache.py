"""Decoded arrays on disk: written atomically, trusted only while whole and while their source is unchanged."""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.readers import Decoded, reading

_FORMAT = 2  # raise it when decoding changes: older caches are then rebuilt
_ABANDONED_S = 3_600.0  # a temporary file older than this was left by a killed process


@dataclass(frozen=True)
class Cached:
    """A decoded split and the SHA-256 of its content; the arrays may be read-only views of files."""

    images: np.ndarray  # (N, H, W, C) uint8
    labels: np.ndarray  # (N,) int64
    class_names: tuple[str, ...]
    fingerprint: str
    note: str = ""  # see Decoded


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over shape, pixels and labels: the same for the same images, wherever they came from."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(np.ascontiguousarray(images).reshape(-1).data)
    digest.update(np.ascontiguousarray(labels, "<i8").data)
    return digest.hexdigest()


def source_signature(kind: str, root: Path, files: Sequence[Path]) -> dict[str, Any]:
    """What tells whether the files of a source changed: their names, sizes and modification times."""
    digest = hashlib.sha256()
    total = 0
    for path in files:
        with reading(path):
            status = path.stat()
        total += status.st_size
        digest.update(json.dumps([str(path.relative_to(root)), status.st_size, status.st_mtime_ns]).encode())
    return {"kind": kind, "files": len(files), "bytes": total, "sha256": digest.hexdigest()}


def cache_folders(folder: Path, cache_dir: Path | None) -> list[Path]:
    """Where the cache of the data set in `folder` may lie, best place first."""
    absolute = folder.absolute()
    private = f"{absolute.name}-{hashlib.sha256(os.fsencode(absolute)).hexdigest()[:12]}"
    if cache_dir is not None:
        return [cache_dir / private]
    folders = [folder / ".cache"]
    with suppress(RuntimeError):  # no home folder
        home = os.environ.get("XDG_CACHE_HOME", "")
        user = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
        folders.append(user / "adaloss-search" / private)
    return folders


def decode_once(folders: Sequence[Path], part: str, signature: dict[str, Any], decode: Callable[[], Decoded]) -> Cached:
    """The decoded split from the first of `folders` that holds it whole, else decoded and kept in one of them."""
    signature = {"format": _FORMAT, **signature}
    for folder in folders:
        hit = _load(folder, part, signature)
        if hit is not None:
            return hit
    decoded = decode()
    content = fingerprint(decoded.images, decoded.labels)
    fresh = Cached(decoded.images, decoded.labels, decoded.class_names, content, decoded.note)
    for folder in folders:
        with suppress(OSError):  # read-only or full: try the next one, or go without
            _store(folder, part, signature, fresh)
            break
    return fresh


def _paths(folder: Path, part: str) -> tuple[Path, Path, Path]:
    return folder / f"{part}.images.npy", folder / f"{part}.labels.npy", folder / f"{part}.json"


def _load(folder: Path, part: str, signature: dict[str, Any]) -> Cached | None:
    images_path, labels_path, about_path = _paths(folder, part)
    try:
        about = json.loads(about_path.read_text("utf-8"))
        if about["source"] != signature:
            return None
        images = np.load(images_path, mmap_mode="r")
        labels = np.load(labels_path)
        # Hashing costs a tenth of a second for 150 MB, and no torn or mixed files get past it.
        if images.dtype != np.uint8 or labels.dtype != np.int64 or fingerprint(images, labels) != about["content"]:
            return None
        return Cached(images, labels, tuple(about["class_names"]), about["content"], about["note"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError, OverflowError):
        return None


def _store(folder: Path, part: str, signature: dict[str, Any], cached: Cached) -> None:
    if folder.parent.exists() and not folder.parent.stat().st_mode & 0o222:
        # root could write here all the same, and should not
        raise PermissionError(f"{folder.parent} is marked read-only")
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    images_path, labels_path, about_path = _paths(folder, part)
    about = {"source": signature, "content": cached.fingerprint, "class_names": cached.class_names}
    about["note"] = cached.note
    _write(images_path, lambda file: np.save(file, cached.images))
    _write(labels_path, lambda file: np.save(file, cached.labels))
    _write(about_path, lambda file: file.write(json.dumps(about, indent=1).encode()))  # last: it vouches for the others


def _write(path: Path, write: Callable[[Any], object]) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
