"""Which part of a GPU a trial gets: as many share one as its memory holds, and as are worth it."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from trainables.data import TrainingData
from trainables.errors import UserError
from trainables.registry import MODELS
from tune.cluster.slots import Slots, plan_slots
from tune.settings import SearchSettings
from tune.trials import first_config, search_data, trial_config

if TYPE_CHECKING:
    from trainables.memory import MemoryNeed

__all__ = ["NoAnswerError", "on_worker", "share_of", "slots_for"]

ANSWER_TIMEOUT_S = 180.0  # on a cluster whose GPUs are all busy, none is asked
_GIBIBYTE = 2**30
_Answer = TypeVar("_Answer")


def slots_for(settings: SearchSettings, data: TrainingData, console: Console) -> Slots:
    """Return how a run's trials share the connected cluster, GPUs by measured memory unless the user said how.

    Raises:
        UserError: no machine has what a trial needs, a GPU's memory is too small for one, or torch cannot use a GPU.
    """
    import ray

    def planned(share: float | None) -> Slots:
        return plan_slots(settings.model, settings.cpus_per_trial, share, settings.max_concurrent)

    asked = settings.gpus_per_trial
    slots = planned(asked)
    if asked == 0 or not ray.cluster_resources().get("GPU"):
        return slots
    try:
        if asked:
            from trainables.devices import device_for  # imports torch: only where there is a GPU

            on_worker(asked, device_for, asked)
            return slots
        need = _measured(settings, data)
    except NoAnswerError as reason:
        console.print(f"no GPU was examined: {reason}", markup=False, highlight=False, soft_wrap=True)
        return slots
    shown = f"{need.trial_bytes / _GIBIBYTE:.1f} of {need.total_bytes / _GIBIBYTE:.1f} GiB"
    console.print(f"a trial needs {shown} of a GPU ({need.device}), measured", markup=False, highlight=False)
    return replace(planned(share_of(need, settings.model)), gpu=need.device, gpu_bytes=need.trial_bytes)


def share_of(need: "MemoryNeed", model: str) -> float:
    """Return the part of a GPU for a trial: its memory decides, but no smaller one than the model fills with work."""
    worth_it = round(1 / MODELS[model].gpus_per_trial)
    return 1 / max(1, min(need.trials, worth_it))


def _measured(settings: SearchSettings, data: TrainingData) -> "MemoryNeed":
    import ray

    from trainables import memory

    configs = [trial_config(settings, data.spec, first_config(loss)).to_dict() for loss in settings.losses]
    images = ray.put(search_data(data, settings.own_losses))
    test_bytes = data.spec.test_size * data.train.images[0].nbytes
    try:
        return on_worker(1, memory.measure_need, configs, images, test_bytes)
    except _OutOfMemoryError:
        raise UserError(
            f"one trial of {settings.model} needs more memory than a GPU has; lower --batch-size "
            f"{settings.batch_size}, or see what else uses the GPU"
        ) from None


class NoAnswerError(Exception):
    """Says why a worker could not be asked."""


class _OutOfMemoryError(NoAnswerError):
    """The memory of a GPU was used up."""


def on_worker(share: float, function: Callable[..., _Answer], *arguments: object) -> _Answer:
    """Return what a function answers in a process that has this share of some GPU of the cluster, or none.

    Raises:
        UserError: torch cannot use that GPU.
        _OutOfMemoryError: its memory was used up.
        NoAnswerError: no GPU was free, or the function broke.
    """
    import ray

    from trainables.devices import NoCudaDeviceError, is_out_of_memory

    task = ray.remote(num_cpus=0, num_gpus=share, max_retries=0, max_calls=1)(function).remote(*arguments)
    try:
        answer: _Answer = ray.get(task, timeout=ANSWER_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        raise NoAnswerError(f"none was free for {ANSWER_TIMEOUT_S:g} s") from None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NoCudaDeviceError):
            raise UserError(
                f"Ray found a GPU, but {error.cause}; install a build of torch that the GPU's driver supports, or "
                "train on CPUs with --gpus-per-trial 0"
            ) from None
        if is_out_of_memory(error.cause):
            raise _OutOfMemoryError("memory was used up") from None
        raise NoAnswerError(str(error.cause).strip().partition("\n")[0]) from None
    except ray.exceptions.RayError as error:
        raise NoAnswerError(str(error).strip().partition("\n")[0]) from None
    return answer
