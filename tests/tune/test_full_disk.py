"""A full disk, met by each of those who write; `test_full_disk_run.py` has whole searches on one."""

import errno
import os
import shutil
import signal
import sqlite3
import tempfile
from types import SimpleNamespace

import optuna
import pytest
import sqlalchemy
from ray.tune import TuneError

from tests.tune.execution.invented_stages import Workers, alone, stage_of, under_way
from trainables.errors import UserError
from tune.execution.scheduler import StudyCallback, StudyScheduler
from tune.execution.searcher import StudySearcher
from tune.full_disk import DiskFullError, LeaveRay, full_disk_said, is_full_disk, leaving_when_full
from tune.records import RecordFile, read_json, read_records, write_json
from tune.study import Suggestion, TrialCounts

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
RAY_SAYS = (
    "ray::ResourceTrainable.save() (pid=7, ip=10.0.0.2)\n  File ...\nOSError: [Errno 28] Error writing bytes to file. "
    "Detail: [errno 28] No space left on device"
)


# --- It is recognised ------------------------------------------------------------------------------------------------


def raised(error, within=None, cause=None):
    """An error as an `except` clause meets it."""
    try:
        if within is None:
            raise error from cause
        try:
            raise within
        except type(within):
            raise error  # noqa: B904  so does Ray: what came before is the context alone
    except type(error) as met:
        return met


def error_of_a_full_database(tmp_path):
    """What Optuna makes of a database that may not grow, as on a full disk."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")

    def stop_growing(connection, _):
        connection.execute("PRAGMA max_page_count = 1")

    sqlalchemy.event.listen(storage.engine, "connect", stop_growing)
    storage.engine.dispose()

    def write():
        for number in range(1000):
            storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "x" * 400 + str(number))

    with pytest.raises(optuna.exceptions.StorageInternalError) as error:
        write()
    return error.value


def test_a_full_disk_is_recognised_whoever_reports_it(tmp_path):
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    for error in (
        FULL,
        quota,
        raised(TuneError("Traceback (most recent call last) ..."), within=FULL),
        raised(UserError("results cannot be written"), within=quota),
        raised(RuntimeError("saving failed"), cause=FULL),
        error_of_a_full_database(tmp_path),
        RAY_SAYS,
    ):
        assert is_full_disk(error), repr(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        "",
        "OSError: [Errno 2] No such file or directory",
        "ValueError: 28",
        OSError(errno.EACCES, "denied"),
        sqlite3.OperationalError("no such table"),
        raised(TuneError("a trial broke"), within=ValueError("a bug")),
    ],
)
def test_other_errors_are_not_taken_for_one(error):
    assert not is_full_disk(error)


def test_errors_that_refer_to_each_other_are_looked_at_once():
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert not is_full_disk(first)


# --- It is said ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disks(monkeypatch):
    """Disks with so many free bytes: folder -> free."""

    def give(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free.get(os.fspath(place), 2**40)))

    return give


def said(folder, storage=None, error=FULL):
    with pytest.raises(DiskFullError) as met, full_disk_said(folder, lambda: "python do.py --resume", storage):
        raise error
    return str(met.value)


@pytest.mark.parametrize("which", ["run", "checkpoints", "temporary"])
def test_the_line_names_the_disk_and_how_to_go_on(tmp_path, disks, monkeypatch, which):
    for name in ("run", "checkpoints", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    disks({str(tmp_path / "run"): 2**33, str(tmp_path / which): 3 * 2**20})
    line = said(tmp_path / "run", str(tmp_path / "checkpoints"))
    assert line == (
        f"the disk of {tmp_path / which} is full (3.0 MiB left); free some space, then go on with: "
        "python do.py --resume"
    )


@pytest.mark.parametrize("storage", [None, "s3://bucket/checkpoints"])
def test_where_this_machine_has_space_it_was_another_ones_disk(tmp_path, disks, storage):
    disks({})
    assert said(tmp_path, storage).startswith("a disk of the cluster is full; ")


def test_a_folder_that_could_not_be_made_is_no_hindrance(tmp_path):
    assert "python do.py --resume" in said(tmp_path / "new")


def test_other_errors_pass(tmp_path):
    with pytest.raises(ValueError, match="a bug"), full_disk_said(tmp_path, lambda: "go on"):
        raise ValueError("a bug")


# --- It ends Ray's loop ----------------------------------------------------------------------------------------------


class Study:
    """Notes what it is told, onto a disk that is full or not."""

    def __init__(self, full):
        self._full, self.told = full, []
        self.counts = TrialCounts(1)

    def _note(self, what):
        if self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.told.append(what)

    def ask(self):
        self._note("ask")
        return Suggestion(0, "t", {})

    def is_running(self, number):
        return True

    def on_epoch(self, number, result):
        self._note("epoch")
        return True

    def on_checkpoint(self, number):
        self._note("checkpoint")

    def on_restart(self, number, error):
        self._note("restarted")

    def on_error(self, number, error):
        self._note("given up")


def ray_trial(tmp_path, error=""):
    (tmp_path / "error.txt").write_text(error)
    return SimpleNamespace(config={"study": "arcface", "number": 0, "trial_id": "t"}, local_path=str(tmp_path))


def searcher_of(study):
    return StudySearcher(under_way(stage_of({"arcface": study})), lambda *_: {}, lambda: False, lambda: 1, Workers())


def hooks(study, tmp_path, error=""):
    """Everything by which Ray tells the study something."""
    stages, trial = alone(study), ray_trial(tmp_path, error)
    scheduler, callback = StudyScheduler(stages, Workers()), StudyCallback(stages)
    result = {"epoch": 1} | ({"error": error} if error else {})
    return {
        "epoch": lambda: scheduler.on_trial_result(None, trial, result),
        "checkpoint": lambda: callback.on_trial_save(0, [], trial),
        "restarted": lambda: callback.on_trial_recover(0, [], trial),
        "given up": lambda: callback.on_trial_error(0, [], trial),
        "ask": lambda: searcher_of(study).suggest("t"),
    }


@pytest.mark.parametrize("hook", ["epoch", "checkpoint", "restarted", "given up", "ask"])
def test_a_book_that_cannot_write_ends_it_at_once(tmp_path, hook):
    with pytest.raises(LeaveRay) as met:
        hooks(Study(full=True), tmp_path)[hook]()
    assert is_full_disk(met.value.__cause__)


@pytest.mark.parametrize("hook", ["epoch", "restarted", "given up"])
def test_a_trial_that_could_not_be_saved_ends_it_and_is_no_result_of_the_trial(tmp_path, hook):
    study = Study(full=False)
    with pytest.raises(LeaveRay) as met:
        hooks(study, tmp_path, RAY_SAYS)[hook]()
    assert is_full_disk(met.value.__cause__)
    assert study.told == []


@pytest.mark.parametrize("hook", ["epoch", "checkpoint", "restarted", "given up", "ask"])
def test_what_else_breaks_a_trial_is_told_to_the_book(tmp_path, hook):
    study = Study(full=False)
    hooks(study, tmp_path, "RayActorError: the worker died")[hook]()
    assert study.told == [hook]


def test_a_fault_of_the_program_is_left_to_ray():
    with pytest.raises(ValueError, match="a bug"), leaving_when_full():
        raise ValueError("a bug")


# --- Nothing half-written stays --------------------------------------------------------------------------------------


@pytest.fixture
def largest_file():
    """Lets files of this process grow to so many bytes: a write takes what fits, the next one fails."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path, largest_file):
    file = RecordFile(tmp_path / "a.jsonl")
    file.append({"a": 1})
    size = file.path.stat().st_size
    largest_file(size + 5)
    with pytest.raises(OSError, match="too large"):
        file.append({"b": 2})
    largest_file(None)
    assert file.path.stat().st_size == size
    file.append({"c": 3})
    assert read_records(file.path) == [{"a": 1}, {"c": 3}]


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, largest_file):
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})
    largest_file(5)
    with pytest.raises(OSError, match="too large"):
        write_json(path, {"new": 2})
    largest_file(None)
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
