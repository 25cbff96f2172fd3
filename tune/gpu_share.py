"""Which part of a GPU a trial gets: as many share one as its memory holds, and as are worth it."""

from dataclasses import replace

import optuna
from rich.console import Console

from search_spaces import SEARCH_SPACES
from trainables.data import TrainingData
from trainables.devices import is_out_of_memory
from trainables.errors import UserError
from trainables.memory import MemoryNeed, measure_need
from trainables.models import MODELS
from tune.cluster import Slots, plan_slots
from tune.settings import SearchSettings
from tune.trials import search_data, trial_config

__all__ = ["share_of", "slots_for"]

MEASURING_TIMEOUT_S = 180.0  # on a cluster whose GPUs are all busy, nothing is measured
_GIBIBYTE = 2**30


def slots_for(settings: SearchSettings, data: TrainingData, console: Console) -> Slots:
    """Return how a run's trials share the connected cluster, GPUs by measured memory unless the user said how.

    Raises:
        UserError: no machine has what a trial needs, or a GPU's memory is too small for one.
    """
    need = _measured(settings, data, console) if settings.gpus_per_trial is None else None
    gpus = settings.gpus_per_trial if need is None else share_of(need, settings.model)
    slots = plan_slots(settings.model, settings.cpus_per_trial, gpus, settings.max_concurrent)
    return slots if need is None else replace(slots, gpu=need.device, gpu_bytes=need.trial_bytes)


def share_of(need: MemoryNeed, model: str) -> float:
    """Return the part of a GPU for a trial: its memory decides, but no smaller one than the model fills with work."""
    worth_it = round(1 / MODELS[model].gpus_per_trial)
    return 1 / max(1, min(need.trials, worth_it))


def _measured(settings: SearchSettings, data: TrainingData, console: Console) -> MemoryNeed | None:
    """Return what a trial needs of a GPU; None where there is none, or where it cannot be measured, which is said."""
    import ray

    if not ray.cluster_resources().get("GPU"):
        return None
    configs = [trial_config(settings, data.spec, _known_good(loss)).to_dict() for loss in settings.losses]
    test_bytes = data.spec.test_size * data.train.images[0].nbytes
    measure = ray.remote(num_cpus=1, num_gpus=1, max_retries=0, max_calls=1)(measure_need)
    task = measure.remote(configs, ray.put(search_data(data)), test_bytes)
    try:
        need: MemoryNeed = ray.get(task, timeout=MEASURING_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        reason = f"no GPU was free for {MEASURING_TIMEOUT_S:g} s"
    except ray.exceptions.RayTaskError as error:
        if is_out_of_memory(error.cause):
            raise UserError(
                f"one trial of {settings.model} needs more memory than a GPU has; lower --batch-size "
                f"{settings.batch_size}, or see what else uses the GPU"
            ) from None
        reason = str(error.cause).strip().partition("\n")[0]
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0]
    else:
        shown = f"{need.trial_bytes / _GIBIBYTE:.1f} of {need.total_bytes / _GIBIBYTE:.1f} GiB"
        console.print(f"a trial needs {shown} of a GPU ({need.device}), measured", markup=False, highlight=False)
        return need
    console.print(f"GPU memory of a trial: not measured ({reason})", markup=False, highlight=False, soft_wrap=True)
    return None


def _known_good(loss: str) -> dict[str, object]:
    space = SEARCH_SPACES[loss]
    return space.suggest(optuna.trial.FixedTrial(space.first_points[0]))  # type: ignore[arg-type]
