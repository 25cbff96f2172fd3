"""Ray: connecting, what there is to run on, and signals."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from trainables.errors import UserError
from trainables.models import MODELS
from tune.cluster.nodes import Machines, machines
from tune.cluster.private_ray import private_to_this_user, starting_process_groups
from tune.storage.url import hidden_secrets

__all__ = ["Capacity", "Interruption", "Slots", "connect", "plan_slots"]

# Read when ray is imported, hence set before that.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_prestart_worker_first_driver": "0",  # one a core, of which trials use none: Tune gives theirs an environment
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
COUNT_INTERVAL_S = 5.0
_LONGEST_TEMPORARY_PARENT = 12  # a socket's path has at most 107 bytes, and Ray's are up to 95 long below this
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Slots:
    """How trials share the hardware.

    Args:
        cpus_per_trial: CPU cores of one trial, and threads of its arithmetic.
        gpus_per_trial: GPUs of one trial; a fraction shares one.
        concurrent: trials at a time, as things are when the search starts.
        nodes: machines that are up then.
        limit: trials at a time that are never exceeded, or None.
        gpu: name of the GPU on which a trial's memory was measured, or None.
        gpu_bytes: what a trial needs of its memory, or None.
    """

    cpus_per_trial: float
    gpus_per_trial: float
    concurrent: int
    nodes: int
    limit: int | None = field(default=None, compare=False)
    gpu: str | None = None
    gpu_bytes: int | None = None

    @property
    def threads(self) -> int:
        """Threads of one trial."""
        return max(1, int(self.cpus_per_trial))

    def halved(self) -> "Slots | None":
        """Return slots in which half as many trials share the memory, or None where each has its own already."""
        if self.gpus_per_trial >= 1 or self.concurrent == 1:
            return None
        concurrent = self.concurrent // 2
        limit = self.limit if self.gpus_per_trial else concurrent  # memory of the host is in no machine's account
        return replace(self, gpus_per_trial=min(1, 2 * self.gpus_per_trial), concurrent=concurrent, limit=limit)


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
                with starting_process_groups(), hidden_secrets():
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


def plan_slots(
    model: str, cpus_per_trial: float | None, gpus_per_trial: float | None, max_concurrent: int | None
) -> Slots:
    """Share out what the connected cluster has: by default every core or GPU is busy, GPUs shared by small trials.

    Machines count that are up and those that the cluster's autoscaler may still add.

    Raises:
        UserError: no machine of the cluster has what a trial needs; such a search would wait for ever.
    """
    here = machines()
    nodes = here.all
    total_gpus = sum(node.get("GPU", 0) for node in nodes)
    gpus = gpus_per_trial if gpus_per_trial is not None else (MODELS[model].gpus_per_trial if total_gpus else 0)
    if cpus_per_trial is None:
        per_gpu = sum(n.get("CPU", 0) for n in nodes if n.get("GPU")) / total_gpus if total_gpus else 0
        cpus = float(max(1, int(min(per_gpu * gpus, 4)))) if gpus else 1.0
    else:
        cpus = cpus_per_trial
    concurrent = _concurrent(here, cpus, gpus, max_concurrent)
    if not concurrent:
        raise UserError(_too_much(here, cpus, gpus))
    return Slots(cpus, gpus, concurrent, len(here.up), max_concurrent)


class Capacity:
    """How many trials the cluster takes at a time, while machines join it and leave it.

    Args:
        slots: of each trial.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._count, self._counted = slots.concurrent, time.monotonic()

    def __call__(self) -> int:
        """Return the number, at least 1: a trial that waits is what an autoscaler goes by."""
        now = time.monotonic()
        if now - self._counted >= COUNT_INTERVAL_S:
            slots = self._slots
            self._count = _concurrent(machines(), slots.cpus_per_trial, slots.gpus_per_trial, slots.limit)
            self._counted = now
        return max(1, self._count)


def _concurrent(here: Machines, cpus: float, gpus: float, limit: int | None) -> int:
    fitting = sum(_fitting(node, cpus, gpus) for node in here.all)
    if limit is None:
        return fitting
    return limit if here.grows_unseen else min(fitting, limit)


def _fitting(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0) / cpus + 1e-6)
    if not gpus:
        return by_cpu
    # Ray gives a trial parts of one GPU, or whole ones.
    by_gpu = int(node.get("GPU", 0)) * int(1 / gpus + 1e-6) if gpus < 1 else int(node.get("GPU", 0) / gpus)
    return min(by_cpu, by_gpu)


def _too_much(here: Machines, cpus: float, gpus: float) -> str:
    if here.grows_unseen:
        return (
            "no machine is up that has room for a trial, and what the autoscaler may add cannot be seen from here: say "
            "with --max-concurrent how many trials shall run at a time, and with --gpus-per-trial what each needs"
        )
    nodes = here.all
    most_gpus = max((node.get("GPU", 0) for node in nodes), default=0)
    if gpus > most_gpus:
        return f"--gpus-per-trial {gpus:g}: no machine has more than {most_gpus:g}; ask for less, or 0 to train on CPUs"
    most_cpus = max((node.get("CPU", 0) for node in nodes if node.get("GPU", 0) >= gpus), default=0)
    which = f" with {gpus:g} GPU" if gpus else ""
    return f"--cpus-per-trial {cpus:g}: no machine{which} has more than {most_cpus:g}; ask for less"


class Interruption:
    """Turns SIGINT and SIGTERM into a request to stop; a second signal ends the program at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the context lasts."""
        previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
