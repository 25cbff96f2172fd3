"""`run.json`: what a run is and where its results came from; and the lock that keeps two writers apart."""

import contextlib
import fcntl
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search_spaces import SEARCH_SPACES
from trainables.data import TrainingData
from trainables.errors import UserError
from tune import provenance
from tune.cluster.slots import Slots
from tune.records import read_json, write_file, write_json
from tune.records.schema import ADDED_LOSSES, REPEATED_TEST_IMAGES, RUN_FILE, RUN_FORMAT, loss_file
from tune.run_config import write_config
from tune.settings import ConfirmSettings, SearchSettings

__all__ = ["add_confirmation", "locked", "note_repeated_test_images", "running_command", "write_run_file"]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second search out of the run's folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock_file = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--output: {folder} cannot be written: {error.strerror}") from None
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another search is writing to {folder}; wait for it, or choose another --name") from None
        yield


def write_run_file(
    settings: SearchSettings,
    confirmation: ConfirmSettings | None,
    data: TrainingData,
    studies: Mapping[str, str],
    command: Mapping[str, Any],
    *,
    resume: bool,
) -> int:
    """Write what the run is; a resumed one must have the same data, and gets one more invocation.

    Args:
        settings: of the search.
        confirmation: what will be asked for when the search is finished.
        data: of the search.
        studies: names of the Optuna studies by loss.
        command: what runs it, as :func:`running_command` says.
        resume: whether the run exists.

    Returns:
        The number of this invocation, from 1.

    Raises:
        UserError: the data is not what the run was started with.
    """
    path = settings.folder / RUN_FILE
    earlier = _checked(path, settings, data) if resume else {"invocations": []}
    known = earlier.get("settings", {}).get("losses", settings.losses)
    added = {loss: {"time": time.time()} for loss in settings.losses if loss not in known}
    spaces = {
        loss: {"dimensions": len(SEARCH_SPACES[loss].parameters), "parameters": SEARCH_SPACES[loss].describe()}
        for loss in settings.losses
    }
    run = {
        **earlier,
        "format": RUN_FORMAT,
        "settings": settings.to_dict(),
        "dataset": {**earlier.get("dataset", {}), **_dataset(settings, data)},
        "search_spaces": spaces,
        "studies": dict(studies),
        ADDED_LOSSES: {**earlier.get(ADDED_LOSSES, {}), **added},
        "invocations": [*earlier["invocations"], {"part": "search", "resumed": resume, "time": time.time(), **command}],
    }
    if confirmation is not None:  # on record already now, so that a search that is killed knows what was to follow
        run["confirmation"] = {**asdict(confirmation), "history": run.get("confirmation", {}).get("history", [])}
    for code in settings.own_losses:
        if code.source is not None:
            write_file(settings.folder / loss_file(code.name), code.source.encode())
    write_json(path, run)
    if settings.again is None:  # one trial once more is no search that somebody would repeat
        write_config(settings.folder, run)
    return len(run["invocations"])


def add_confirmation(
    settings: SearchSettings,
    confirmation: ConfirmSettings,
    data: TrainingData,
    command: Mapping[str, Any],
) -> int:
    """Note in a run's file what its confirmation is asked for, and that it begins or goes on.

    Every request stays on record: seeds that were added after a look at the results are seen there.

    Returns:
        The number of this invocation, from 1.

    Raises:
        UserError: the data is not what the run was started with.
    """
    path = settings.folder / RUN_FILE
    run = _checked(path, settings, data)
    history = run.get("confirmation", {}).get("history", [])
    asked = asdict(confirmation)
    run["confirmation"] = {**asked, "history": [*history, {"time": time.time(), **asked}]}
    run["invocations"].append({"part": "confirmation", "resumed": bool(history), "time": time.time(), **command})
    write_json(path, run)
    write_config(settings.folder, run)
    return len(run["invocations"])


def note_repeated_test_images(settings: SearchSettings, count: int) -> None:
    """Note in a run's file how many test images are among those that are trained on."""
    path = settings.folder / RUN_FILE
    run = read_json(path)
    if run["dataset"].get(REPEATED_TEST_IMAGES) != count:
        run["dataset"][REPEATED_TEST_IMAGES] = count
        write_json(path, run)


def _checked(path: Path, settings: SearchSettings, data: TrainingData) -> dict[str, Any]:
    run = read_json(path)
    for key, value in _dataset(settings, data).items():
        if key in {"fingerprint", "split_sha256"} and run["dataset"][key] != value:
            raise UserError(f"the data of {settings.dataset} is not what the run was started with ({key} differs)")
    return run


def _dataset(settings: SearchSettings, data: TrainingData) -> dict[str, Any]:
    return {
        "name": settings.dataset,
        "source": data.source,
        "fingerprint": data.fingerprint,
        "split_sha256": data.split_sha256,
        "train_images": len(data.train.labels),
        "validation_images": len(data.validation.labels),
        "test_images": data.spec.test_size,
        "classes": list(data.spec.class_names),
        "partial": settings.train_size is not None,
        "left_out": [
            {"reason": files.reason, "files": len(files.paths), "example": files.paths[0]} for files in data.left_out
        ],
        "images": data.note,
        "repeats": None if data.repeats is None else asdict(data.repeats),
    }


def running_command(slots: Slots) -> dict[str, Any]:
    """Return what runs this command, for the record of each part of it: versions, revision, hardware, slots."""
    return {
        "command": shlex.join(sys.argv),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "hardware": provenance.hardware(),
        "slots": {
            "cpus_per_trial": slots.cpus_per_trial,
            "gpus_per_trial": slots.gpus_per_trial,
            "concurrent": slots.concurrent,
            "nodes": slots.nodes,
            "gpu": slots.gpu,
            "gpu_bytes_per_trial": slots.gpu_bytes,
        },
    }
