"""A disk that fills up in mid-run: recognised wherever it is met, and said in one line with what to do."""

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["DiskFullError", "LeaveRay", "full_disk_said", "is_full_disk", "leaving", "leaving_when_full"]

_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_IN_TEXT = re.compile("|".join(rf"\[Errno {number}\]" for number in _ERRNOS), re.IGNORECASE)
_GIBIBYTE = 2**30
# A write that fails where more than this is free was somewhere else: on another machine of the cluster.
_PLENTY = _GIBIBYTE


class DiskFullError(Exception):
    """The run cannot go on before there is space: the message is one line that says where, and how to go on."""


class LeaveRay(BaseException):
    """Leaves Ray's loop at once; not an Exception, so that nothing on the way takes it for a trial's."""


def is_full_disk(error: BaseException | str | None) -> bool:
    """Return whether an error, what caused it, or what it was raised in the handling of, is a full disk.

    Args:
        error: an exception, or the text of one of another process.
    """
    if isinstance(error, str):
        return _IN_TEXT.search(error) is not None
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _ERRNOS:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def leaving_when_full(trial_error: str | None = None) -> Iterator[None]:
    """Leave Ray's loop when something in this context meets a full disk, or a trial did.

    An exception would have Ray stop each of its trials in good order first, and write about it.

    Args:
        trial_error: what a worker process says of a trial that broke. If that is a full disk, it is no result of the
            trial, and nothing in the context is done.
    """
    if is_full_disk(trial_error):
        raise LeaveRay from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        yield
    except Exception as error:
        if is_full_disk(error):
            raise LeaveRay from error
        raise


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """Leave Ray's loop with whatever is raised in this context: it is the run's own, and no business of Ray's."""
    try:
        yield
    except Exception as error:
        raise LeaveRay from error


@contextlib.contextmanager
def full_disk_said(folder: Path, go_on: Callable[[], str], storage: str | None = None) -> Iterator[None]:
    """Turn a full disk into the error that says so.

    Args:
        folder: of the run.
        go_on: gives the command with which the user goes on.
        storage: where checkpoints go, or None for the folder.

    Raises:
        DiskFullError: a disk was full.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        local = [Path(storage)] if storage is not None and "://" not in storage else []
        where = _fullest([folder, *local, Path(tempfile.gettempdir())])
        raise DiskFullError(f"{where}; free some space, then go on with: {go_on()}") from None


def _fullest(places: Sequence[Path]) -> str:
    free = {place: shutil.disk_usage(place).free for place in places if place.exists()}
    place = min(free, key=lambda place: free[place])
    if free[place] > _PLENTY:
        return "a disk of the cluster is full"
    return f"the disk of {place} is full ({free[place] / 2**20:.1f} MiB left)"
