"""Follows runs that somebody else is writing: what is new in their files is read once, and nothing twice."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from analysis.loading import _TRIAL_COLUMNS, Run, _load_info, _seed_runs, _trials, _winners
from tune.records import RecordError, checked_records, current_epochs, read_json
from tune.records.schema import (
    EPOCHS_FILE,
    PACKED,
    PROGRESS_FIELDS,
    PROGRESS_FILE,
    RUN_FILE,
    SEED_EPOCH_FIELDS,
    SEED_EPOCHS_FILE,
    SEED_RUNS_FILE,
    TRIAL_EPOCH_FIELDS,
    TRIAL_EVENT_FIELDS,
    TRIALS_FILE,
    Fields,
    check_fields,
    winner_file,
)

__all__ = ["FollowedFile", "FollowedRun", "runs_in"]

_TAIL_BYTES = 256  # of what was read: a file that was written anew in place, by another program, ends differently there

_Signature = tuple[int, int, int, int]


def _signature(path: Path) -> _Signature | None:
    """Return what changes when a file does, None where there is no such file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class FollowedFile:
    """A growing file of JSON lines.

    Args:
        path: the file; it need not exist yet.
        fields: what each line must hold.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self.records: list[dict[str, Any]] = []  # of complete lines, oldest first
        self.problem: str | None = None
        self._path, self._fields = path, fields
        self._packed = path.with_name(path.name + PACKED)
        self._seen: _Signature | None = None
        self._generation = 0  # how often it was read anew
        self._forget()

    def update(self) -> bool:
        """Take in what is new and return whether anything is.

        Only complete lines count. A file that became shorter or another one is read anew. Of one with a problem no
        record is kept: it is read anew when it changes.
        """
        before = (len(self.records), self._generation, self.problem)
        try:
            seen = _signature(self._path)
            is_packed = seen is None and self._packed.exists()
            if is_packed:
                seen = _signature(self._packed)
            if seen == self._seen:
                return False
            self._seen, self.problem = seen, None
            if seen is None:
                self._forget()
            elif is_packed:  # a published copy, which does not grow
                self._forget()
                self.records = checked_records(self._path, self._fields)
            else:
                with self._path.open("rb") as file:
                    self._take_in(file)
        except OSError as error:
            self._fail(f"{self._path}: cannot be read: {error.strerror}")
        except RecordError as error:
            self._fail(str(error))
        return before != (len(self.records), self._generation, self.problem)

    def _forget(self) -> None:
        self._generation += bool(self.records)
        self.records = []
        self._offset = 0  # of the first line that was not complete yet
        self._tail = b""
        self._identity: tuple[int, int] | None = None

    def _fail(self, problem: str) -> None:
        self._forget()
        self.problem = problem

    def _take_in(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity or not self._is_continued(file):
            self._forget()
            self._identity = identity
        file.seek(self._offset)
        content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        for line in complete.split(b"\n")[:-1]:
            self.records.append(self._parsed(line))
        self._offset += len(complete)
        self._tail = (self._tail + complete)[-_TAIL_BYTES:]

    def _is_continued(self, file: BinaryIO) -> bool:
        file.seek(self._offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _parsed(self, line: bytes) -> dict[str, Any]:
        place = f"{self._path}, line {len(self.records) + 1}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise RecordError(f"{place}: not a JSON object; the file was damaged or edited")
        check_fields(place, record, self._fields)
        return record


class FollowedRun:
    """A run, whatever state its folder is in: not there yet, being written, finished, damaged.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run: Run | None = None  # as it was when it could last be read
        self.problem: str | None = None
        self.memo: tuple[Run, Any] | None = None  # what a reader made of a state of the run, and of which
        self.progress: dict[str, Any] | None = None  # what a search that is under way says of its time
        self._files: dict[Path, FollowedFile] = {}
        self._info: dict[str, Any] | None = None
        self._signatures: dict[str, _Signature | None] = {}
        self._seed_runs: tuple[object, pd.DataFrame] | None = None  # and what they were read from

    def update(self) -> bool:
        """Take in what is new and return whether anything is."""
        run, problem = self.run, self.problem
        self._look_at_progress()
        try:
            self._read()
            self.problem = None
        except RecordError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{error.filename}: cannot be read: {error.strerror}"
        return self.run is not run or self.problem != problem

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a file that grows, such as ``arcface/trials.jsonl``, oldest first."""
        file = self._files.get(self.folder / name)
        return file.records if file else []

    def last_record_time(self) -> float | None:
        """Return when the newest line was written, in unix time."""
        newest = [file.records[-1].get("time") for file in self._files.values() if file.records]
        return max((time for time in newest if isinstance(time, int | float)), default=None)

    def _read(self) -> None:
        is_new = self.problem is not None
        if self._has_changed(RUN_FILE) or self._info is None:
            self._info, is_new = None, True
            if not self.folder.is_dir():
                raise RecordError(f"{self.folder}: there is no such folder")
            if not (self.folder / RUN_FILE).is_file():
                raise RecordError(f"{self.folder}: holds no run yet (run.json is missing)")
            self._info = _load_info(self.folder / RUN_FILE)
            self._open_files(self._info["settings"]["losses"])
        losses = self._info["settings"]["losses"]
        changed = [file.update() for file in self._files.values()]  # all of them
        changed += [self._has_changed(name) for name in (SEED_RUNS_FILE, *map(winner_file, losses))]
        for file in self._files.values():
            if file.problem:
                raise RecordError(file.problem)
        if is_new or any(changed):
            self.run = self._assembled(self._info, losses)

    def _look_at_progress(self) -> None:
        """Read how long it will take; one that cannot be read says nothing, and everything else is shown."""
        if self._has_changed(PROGRESS_FILE):
            self.progress = None
            try:
                progress = read_json(self.folder / PROGRESS_FILE)
                check_fields(PROGRESS_FILE, progress, PROGRESS_FIELDS)
            except (RecordError, RecursionError):
                return
            self.progress = progress

    def _has_changed(self, name: str) -> bool:
        """Return whether a file is another one than when this was last asked."""
        before = self._signatures.get(name)
        self._signatures[name] = _signature(self.folder / name)
        return self._signatures[name] != before

    def _open_files(self, losses: list[str]) -> None:
        wanted = {self.folder / SEED_EPOCHS_FILE: SEED_EPOCH_FIELDS}
        for loss in losses:
            wanted[self.folder / loss / EPOCHS_FILE] = TRIAL_EPOCH_FIELDS
            wanted[self.folder / loss / TRIALS_FILE] = TRIAL_EVENT_FIELDS
        self._files = {path: self._files.get(path) or FollowedFile(path, fields) for path, fields in wanted.items()}

    def _assembled(self, info: dict[str, Any], losses: list[str]) -> Run:
        """Return what load_run would, of lines that have been read already."""
        trials, epochs = [], []
        for loss in losses:
            loss_epochs = current_epochs(self.lines(f"{loss}/{EPOCHS_FILE}"))
            epochs += [{"loss": loss, **record} for record in loss_epochs]
            trials += _trials(loss, self.lines(f"{loss}/{TRIALS_FILE}"), loss_epochs)
        seed_epochs = current_epochs(self.lines(SEED_EPOCHS_FILE), key="run_id")
        return Run(
            self.folder,
            info,
            pd.DataFrame(trials, columns=_TRIAL_COLUMNS),
            pd.DataFrame(epochs),
            self._confirmed(info),
            pd.DataFrame(seed_epochs, columns=None if seed_epochs else ["run_id", "epoch"]),
            _winners(self.folder, losses),
        )

    def _confirmed(self, info: dict[str, Any]) -> pd.DataFrame:
        """Return the runs of the confirmation; their file grows seldom and is then read whole."""
        source = (self._signatures[SEED_RUNS_FILE], self._signatures[RUN_FILE])
        if self._seed_runs is None or self._seed_runs[0] != source:
            self._seed_runs = (source, _seed_runs(self.folder / SEED_RUNS_FILE, info))
        return self._seed_runs[1]


def runs_in(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of runs: those given, and in the place of one that holds runs, all of them by name.

    One that is neither a run nor holds any is returned as it is: a run may come to be there.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        within = [] if (folder / RUN_FILE).exists() else sorted(folder.glob(f"*/{RUN_FILE}"))
        found.update(dict.fromkeys([path.parent for path in within] or [folder]))
    return list(found)
