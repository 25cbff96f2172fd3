"""Ray: joining a cluster, or starting one on this machine for as long as a command lasts."""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from tune.cluster.private_ray import private_to_this_user, starting_process_groups, without_bystanders
from tune.storage.url import hidden_secrets

__all__ = ["connect", "is_local"]

# Read when ray is imported, hence set before that.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_prestart_worker_first_driver": "0",  # one a core, of which trials use none: Tune gives theirs an environment
    "RAY_worker_niceness": "0",  # beside other work, Ray's own 15 leaves trials a third of a core; --niceness is ours
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records are the log
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the progress says what was lost, the records why
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours treats SIGTERM alike
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from Ray's snapshot
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_AIR_NEW_OUTPUT": "0",
}
for _name, _value in _RAY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
# Ray writes its next snapshot while it copies the last one, and reports the file that is gone then as an error.
logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)

_MEBIBYTE = 2**20
_TEMPORARY_PREFIX = "adaloss-ray-"
_LONGEST_TEMPORARY_PARENT = 12  # a socket's path has at most 107 bytes, and Ray's are up to 95 long below this
_PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def connect(address: str | None, data_bytes: int) -> Iterator[None]:
    """Connect to a Ray cluster, or start Ray on this machine for as long as the context lasts.

    Args:
        address: "local", "auto", a cluster's address, or None for the cluster of which this machine is a node, else
            this machine.
        data_bytes: what the object store will have to hold.

    Raises:
        UserError: there is no such cluster.
    """
    address = address or (_surrounding_cluster() or "local")
    with _local_ray(data_bytes) if address == "local" else _joined_cluster(address):
        yield


def is_local(address: str | None) -> bool:
    """Return whether :func:`connect` would start Ray on this machine."""
    return (address or _surrounding_cluster() or "local") == "local"


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}


@contextlib.contextmanager
def _joined_cluster(address: str) -> Iterator[None]:
    import ray

    if address == "auto":
        address = _surrounding_cluster() or ""
        if not address:
            raise UserError("--address auto: this machine is no node of a running Ray cluster; start one, or use local")
    if not _answers(address):  # Ray itself would try for minutes
        raise UserError(f"--address {address}: no Ray cluster answers there; give host:port of its head, or use local")
    try:
        ray.init(address=address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--address {address}: no Ray cluster answers there ({reason})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _answers(address: str, timeout_s: float = 5.0) -> bool:
    """Return whether something listens at host:port, with or without a scheme before it."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s):
            return True
    except (OSError, ValueError, OverflowError):
        return False


@contextlib.contextmanager
def _local_ray(data_bytes: int) -> Iterator[None]:
    import ray

    # Workers inherit this; an installed project needs it not, a mere checkout does.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH"))))
    # A folder of its own: other programs on this machine do not take this for a cluster to join, and nothing of it
    # stays behind.
    _remove_abandoned()
    temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY_PREFIX}{os.getpid()}-", dir=_temporary_parent()))
    try:
        with private_to_this_user(temporary):
            try:
                # Trials need no database, and whoever can look into a worker needs no password.
                with starting_process_groups(), without_bystanders(), hidden_secrets():
                    ray.init(
                        address="local",
                        include_dashboard=False,
                        object_store_memory=2 * data_bytes + 256 * _MEBIBYTE,
                        _temp_dir=str(temporary / "r"),
                        **_QUIET,
                    )
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_parent() -> str:
    """Return the folder for temporary files, or /tmp where its name is too long for the sockets that Ray puts there."""
    parent = tempfile.gettempdir()
    return parent if len(os.fsencode(parent)) <= _LONGEST_TEMPORARY_PARENT else "/tmp"  # noqa: S108  mkdtemp is safe


def _remove_abandoned() -> None:
    """Delete what searches left that were killed."""
    for folder in Path(_temporary_parent()).glob(f"{_TEMPORARY_PREFIX}*"):
        process = folder.name.removeprefix(_TEMPORARY_PREFIX).partition("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _surrounding_cluster() -> str | None:
    """Return the address of the cluster that this machine is a node of, if one answers."""
    address = os.environ.get("RAY_ADDRESS")
    if address:
        return address
    note = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    try:
        address = note.read_text().strip()
    except OSError:
        return None
    return address if _answers(address, timeout_s=2) else None  # the note may be stale
