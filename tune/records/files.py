"""What a run writes: append-only lines of JSON that survive a crash and are read without Ray.

A line is in the file as soon as it is appended, so a live reader sees it and a kill loses at most the line in flight.
A torn last line is ignored by readers and cut off by the next writer.
"""

import json
import lzma
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tune.records.schema import EPOCHS_FILE, PACKED, TRIALS_FILE, Fields, RecordError, check_fields

__all__ = [
    "LossRecords",
    "RecordFile",
    "checked_records",
    "current_epochs",
    "read_json",
    "read_records",
    "write_file",
    "write_json",
]

# Of one compressed file, and of unpacking it: what wants more is no record of a run.
_MOST_BYTES, _MOST_MEMORY = 2**30, 2**28


def _plain(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class RecordFile:
    """A file of JSON lines that only grows.

    Args:
        path: the file; made with its folder when the first line is appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            _cut_torn_line(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one line and hand it to the operating system at once.

        Raises:
            OSError: the file cannot be written, for example because the disk is full.
        """
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:  # O_APPEND and a single write: never interleaved
            end = file.tell()
            try:
                while line:  # a disk that fills up takes a part of a line without an error
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(end)
                raise


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, [] where there is no such file; a torn last line is left out.

    A published copy of a run has the file compressed, under its name with ".xz".

    Raises:
        RecordError: a line before the last is no JSON object, or a compressed file is damaged.
    """
    content = _content(path)
    if content is None:
        return []
    lines = content.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise RecordError(f"{path}, line {number}: not a JSON object; the file was damaged or edited") from None
            continue  # what follows the last line break: nothing, or a torn line
        if not isinstance(record, dict):
            raise RecordError(f"{path}, line {number}: not a JSON object; the file was damaged or edited")
        records.append(record)
    return records


def _content(path: Path) -> bytes | None:
    if path.exists():
        return path.read_bytes()
    packed = path.with_name(path.name + PACKED)
    if not packed.exists():
        return None
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    try:
        content = unpacker.decompress(packed.read_bytes(), max_length=_MOST_BYTES)
    except lzma.LZMAError as error:
        raise RecordError(f"{packed}: cannot be unpacked ({error}); the file was damaged") from None
    if not unpacker.eof:
        raise RecordError(f"{packed}: is cut off, or has more than {_MOST_BYTES // 2**20} MiB in it")
    return content


def checked_records(path: Path, fields: Fields) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines, [] where there is none; a torn last line is left out.

    Raises:
        RecordError: the file cannot be read, or a line does not hold what it must.
    """
    try:
        records = read_records(path)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RecordError(f"{path}: a line is nested too deeply; the file was damaged or edited") from None
    for number, record in enumerate(records, start=1):
        check_fields(f"{path}, line {number}", record, fields)
    return records


def current_epochs(records: Iterable[dict[str, Any]], key: str = "trial_id") -> list[dict[str, Any]]:
    """Return each trial's epochs once: one that was repeated after a resume replaces the earlier one.

    Args:
        records: of epochs, in the order in which they were written.
        key: which field tells the trials apart.
    """
    newest = {(record[key], record["epoch"]): record for record in records}
    return list(newest.values())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, as :func:`write_file`."""
    write_file(path, (json.dumps(_plain(value), indent=2, allow_nan=False) + "\n").encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a kill or a full disk meets the old one or the new one and nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RecordError: the file cannot be read or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: holds no JSON object")
    return value


class LossRecords:
    """The records of one loss: ``trials.jsonl`` has events, ``epochs.jsonl`` has epochs.

    Args:
        folder: ``results/<name>/<loss>``.
    """

    def __init__(self, folder: Path) -> None:
        self._trials = RecordFile(folder / TRIALS_FILE)
        self._epochs = RecordFile(folder / EPOCHS_FILE)

    def event(self, trial_id: str, event: str, **details: Any) -> None:
        """Append an event: started, stopped, finished, failed, resumed, interrupted."""
        self._trials.append({"trial_id": trial_id, "event": event, "time": time.time(), **details})

    def epoch(self, trial_id: str, record: Mapping[str, Any]) -> None:
        """Append an epoch of a trial."""
        self._epochs.append({"trial_id": trial_id, "time": time.time(), **record})

    def read_events(self) -> list[dict[str, Any]]:
        """Return all events, oldest first."""
        return read_records(self._trials.path)

    def read_epochs(self) -> list[dict[str, Any]]:
        """Return each epoch of each trial once."""
        return current_epochs(read_records(self._epochs.path))
