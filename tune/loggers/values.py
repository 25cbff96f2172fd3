"""What the loggers copy of a trial: the numbers of an epoch, and the values that were drawn."""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial

from search_spaces.common import SHARED
from tune.records.schema import EPOCH_FIELDS

__all__ = ["drawn_of", "metrics_of"]

_METRICS = frozenset({*EPOCH_FIELDS, "test_accuracy", "test_loss"} - {"epoch"})


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch under the names of the records, finite ones only."""
    numbers = {key: value for key, value in result.items() if key in _METRICS and isinstance(value, int | float)}
    return {key: float(value) for key, value in numbers.items() if math.isfinite(value)}


def drawn_of(trial: Trial) -> dict[str, Any]:
    """Return what distinguishes a trial: its loss, the values that were drawn, and its seed."""
    config = trial.config["trial"]
    shared = {parameter.name: config[parameter.name] for parameter in SHARED}
    own = {name: value for name, value in config["loss_args"].items() if isinstance(value, str | int | float)}
    return {"loss": config["loss"], **shared, **own, "seed": config["seed"]}
