"""What a trial costs in time and bytes: measured by training a few steps of the real thing, not guessed."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.config import TrialConfig
from trainables.devices import device_for
from trainables.loss_code import register_losses
from trainables.memory import first_images
from trainables.training import Trainer
from trainables.trial_data import TrialData

__all__ = ["TrialCost", "measure_costs"]

STEPS = 2  # between two looks at the clock
JUDGED = 256  # images, to tell how long one takes
MEASURED_S = 0.5  # for each configuration, after the steps in which kernels are chosen and memory is found


@dataclass(frozen=True)
class TrialCost:
    """What a trial was seen to take.

    Args:
        step_s: seconds of a training step.
        batch_size: images of a step.
        judged_s: seconds to judge one image.
        checkpoint_bytes: of a checkpoint at full length, with the weights that are kept of the best.
        record_bytes: of what is written of an epoch.
    """

    step_s: float
    batch_size: int
    judged_s: float
    checkpoint_bytes: int
    record_bytes: int

    def epoch_s(self, images: int, judged: int) -> float:
        """Return the seconds of an epoch on so many images, of which others are judged after it."""
        return images // min(self.batch_size, images) * self.step_s + judged * self.judged_s


def measure_costs(configs: Sequence[Mapping[str, Any]], data: TrialData, threads: int, gpus: float) -> list[TrialCost]:
    """Train each configuration for about half a second, as a trial would on its own.

    Args:
        configs: fields of TrialConfig.
        data: of the trials.
        threads: of a trial's arithmetic.
        gpus: share of a GPU that a trial has; with none it is the CPU.

    Raises:
        NoCudaDeviceError: there is a share, and torch finds no GPU.
        torch.OutOfMemoryError: a trial does not fit.
    """
    register_losses(data.losses)
    device = device_for(gpus)
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True  # as in a trial
    try:
        return [_cost(TrialConfig.from_dict(config), data, device) for config in configs]
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]


def _cost(config: TrialConfig, data: TrialData, device: torch.device) -> TrialCost:
    train, validation = first_images(data, STEPS * config.batch_size, JUDGED, device)
    trainer = Trainer(config, train, validation, data.num_classes)
    record = trainer.train_epoch()
    batch_size = min(config.batch_size, len(train))
    images = trainer.steps_per_epoch * batch_size
    epochs, trained_s, whole_s = 0, 0.0, 0.0
    deadline = time.perf_counter() + MEASURED_S
    while not epochs or time.perf_counter() < deadline:
        record = trainer.train_epoch()
        epochs += 1
        trained_s += images / record["images_per_s"]
        whole_s += record["seconds"]
    return TrialCost(
        step_s=trained_s / epochs / trainer.steps_per_epoch,
        batch_size=batch_size,
        judged_s=(whole_s - trained_s) / epochs / len(validation),
        checkpoint_bytes=_checkpoint_bytes(trainer),
        record_bytes=len(json.dumps({key: value for key, value in record.items() if key != "margin_steps_rad"})),
    )


def _checkpoint_bytes(trainer: Trainer) -> int:
    state = trainer.state_dict()
    return _saved_bytes(state) + _saved_bytes({key: state[key] for key in ("model", "loss")})


def _saved_bytes(value: dict[str, Any]) -> int:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.tell()
