"""What of a user's own folder is not used, and what is there more than once: nothing of it is lost in silence."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

__all__ = ["LeftOut", "Repeats", "count_among", "left_out_of", "repeats_of"]

OWN_FOLDERS = frozenset({".cache"})  # where decoded arrays are kept
_LARGEST_KINDS = 4  # that are named


@dataclass(frozen=True)
class LeftOut:
    """Files of a folder that are not read, for one reason.

    Args:
        reason: in words, to follow "3 files ".
        paths: of the files, relative to the folder, sorted.
    """

    reason: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        files = "1 file" if len(self.paths) == 1 else f"{len(self.paths):,} files"
        return f"{files} {self.reason}, such as {self.paths[0]}"


@dataclass(frozen=True)
class Repeats:
    """Images that are there more than once, pixel for pixel.

    Args:
        images: how many of them are copies of an earlier one.
        contradictions: how many of these have another label than that one.
        validation: images of the validation part of which the training part has a copy.
        test: images of the test part of which the training or validation part has one.
    """

    images: int
    contradictions: int
    validation: int
    test: int

    def __str__(self) -> str:
        parts = [f"{self.images:,} images are copies of others, pixel for pixel"]
        if self.contradictions:
            parts.append(f"{self.contradictions:,} of them with another label")
        if self.validation:
            parts.append(f"{self.validation:,} validation images are trained on as well")
        if self.test:
            parts.append(f"{self.test:,} test images are trained or validated on as well")
        return ", ".join(parts)


def left_out_of(folder: Path, used: Iterable[Path], suffixes: Iterable[str]) -> tuple[LeftOut, ...]:
    """Return the files below a folder that are not used, by reason; the largest number first.

    Args:
        folder: of the data set. Folders that it reaches by symbolic links are not entered, unless used files lie there.
        used: files that are read.
        suffixes: of names that would be read in the right place, in small letters.
    """
    used_names = {os.fspath(path.relative_to(folder)) for path in used}
    places = {_place_of(name) for name in used_names}
    entered = {os.fspath(above) for place in places for above in (Path(place), *Path(place).parents)}
    known = frozenset(suffixes)
    found: dict[str, list[str]] = {}
    kinds: Counter[str] = Counter()
    for name in _files(folder, entered):
        if name in used_names:
            continue
        suffix = PurePath(name).suffix.lower()
        if f"{os.sep}." in f"{os.sep}{name}":
            reason = "with a hidden name"
        elif suffix not in known:
            reason = "of other kinds"
            kinds[suffix or "no suffix"] += 1
        elif _place_of(name) in places:
            reason = "beside those that are read"
        else:
            reason = "in folders that are not read"
        found.setdefault(reason, []).append(name)
    named = ", ".join(sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:_LARGEST_KINDS])
    more = ", ..." if len(kinds) > _LARGEST_KINDS else ""
    result = [
        LeftOut(f"{reason} ({named}{more})" if reason == "of other kinds" else reason, tuple(sorted(names)))
        for reason, names in found.items()
    ]
    return tuple(sorted(result, key=lambda item: (-len(item.paths), item.reason)))


def _place_of(name: str) -> str:
    return name.rpartition(os.sep)[0]


def _files(folder: Path, entered: set[str]) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it; of folders behind links only those of `entered`.

    A folder that may not be looked into, such as lost+found, stands for what is in it.
    """
    pending = [""]
    while pending:
        place = pending.pop()
        try:
            with os.scandir(folder / place) as scanned:
                entries = list(scanned)
        except PermissionError:
            yield place
            continue
        for entry in entries:
            name = f"{place}{os.sep}{entry.name}" if place else entry.name
            if name in OWN_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=name in entered):
                pending.append(name)
            else:
                yield name


def repeats_of(images: np.ndarray, labels: np.ndarray, parts: Sequence[np.ndarray]) -> Repeats | None:
    """Return what is there more than once, or None where nothing is.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) int64.
        parts: indices of the training, the validation and the test part; the last is empty where test images are files
            of their own, which a search does not open.
    """
    digests = _digests(images)
    first: dict[bytes, int] = {}
    copies = contradictions = 0
    for index, digest in enumerate(digests):
        original = first.setdefault(digest, index)
        copies += original != index
        contradictions += original != index and labels[original] != labels[index]
    if not copies:
        return None
    train, validation, test = ([digests[index] for index in part] for part in parts)
    trained = set(train)
    seen = trained | set(validation)
    return Repeats(
        copies,
        int(contradictions),
        sum(digest in trained for digest in validation),
        sum(digest in seen for digest in test),
    )


def count_among(images: np.ndarray, *others: np.ndarray) -> int:
    """Return how many images (N, H, W, C) uint8 are among others as well, pixel for pixel."""
    known = {digest for part in others for digest in _digests(part)}
    return sum(digest in known for digest in _digests(images))


def _digests(images: np.ndarray) -> list[bytes]:
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images]
