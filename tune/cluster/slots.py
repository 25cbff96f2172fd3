"""How trials share the hardware of the connected cluster: planned before a search, counted again while it runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainables.errors import UserError
from trainables.registry import MODELS
from tune.cluster.nodes import Machines, machines

__all__ = ["Capacity", "Slots", "plan_slots"]

COUNT_INTERVAL_S = 5.0


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


def plan_slots(
    model: str,
    cpus_per_trial: float | None,
    gpus_per_trial: float | None,
    max_concurrent: int | None,
    here: Machines | None = None,
) -> Slots:
    """Share out what the connected cluster has: by default every core or GPU is busy, GPUs shared by small trials.

    Machines count that are up and those that the cluster's autoscaler may still add.

    Args:
        model: of the trials.
        cpus_per_trial: or None for the default.
        gpus_per_trial: likewise.
        max_concurrent: trials at a time, or None for as many as fit.
        here: machines to share out in the place of the connected cluster's.

    Raises:
        UserError: no machine of the cluster has what a trial needs; such a search would wait for ever.
    """
    here = here or machines()
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
