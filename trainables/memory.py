"""How much of a GPU's memory a trial needs: measured by training a few steps, not guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.devices import device_for, device_name
from trainables.loss_code import register_losses
from trainables.placed_data import PlacedData
from trainables.training import EVALUATION_BATCH_SIZE, Trainer
from trainables.trial_data import TrialData

__all__ = ["MemoryNeed", "measure_need", "train_a_little"]

STEPS = 4
# Of what a process holds beside its tensors; whatever is more is held by other programs.
LARGEST_CONTEXT_BYTES = 2**30
# Fragments, and kernels that ask for more working space than those of the measured steps.
MARGIN = 1.15


@dataclass(frozen=True)
class MemoryNeed:
    """What a trial was seen to use of a GPU.

    Args:
        device: name of the GPU.
        total_bytes: that it has.
        free_bytes: that were left while the trial held its memory.
        held_bytes: that torch held for it at that moment.
        most_bytes: that torch ever held for it.
    """

    device: str
    total_bytes: int
    free_bytes: int
    held_bytes: int
    most_bytes: int

    @property
    def trial_bytes(self) -> int:
        """Memory that a trial needs, with its CUDA context and a margin."""
        return int(MARGIN * (self.most_bytes + self._context_bytes))

    @property
    def trials(self) -> int:
        """How many such trials fit side by side, beside what other programs hold."""
        others = self._unexplained_bytes - self._context_bytes
        return (self.total_bytes - others) // self.trial_bytes

    @property
    def _unexplained_bytes(self) -> int:
        return max(0, self.total_bytes - self.free_bytes - self.held_bytes)

    @property
    def _context_bytes(self) -> int:
        return min(self._unexplained_bytes, LARGEST_CONTEXT_BYTES)


def measure_need(configs: Sequence[Mapping[str, Any]], data: TrialData, further_bytes: int = 0) -> MemoryNeed:
    """Train each configuration a little on this process's GPU, and return what the hungriest needed.

    Args:
        configs: fields of TrialConfig.
        data: of the trials; all of it lies on the GPU, as a trial has it.
        further_bytes: that trials of a later stage will have there.

    Raises:
        NoCudaDeviceError: torch finds no GPU.
        torch.OutOfMemoryError: not even one trial fits.
    """
    register_losses(data.losses)
    device = device_for(gpus=1)
    torch.backends.cudnn.deterministic = True  # as in a trial: it decides which kernels, and their working space
    kept = (PlacedData.of(data, device), torch.empty(further_bytes, dtype=torch.uint8, device=device))
    for config in configs:
        train_a_little(TrialConfig.from_dict(config), data, device)
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    need = MemoryNeed(
        device_name(device),
        total_bytes,
        free_bytes,
        torch.cuda.memory_reserved(device),
        torch.cuda.max_memory_reserved(device),
    )
    del kept  # held until here
    return need


def train_a_little(config: TrialConfig, data: TrialData, device: torch.device) -> dict[str, Any]:
    """Train a few full batches and evaluate one, and return the record of that very short epoch."""
    train, validation = first_images(data, STEPS * config.batch_size, EVALUATION_BATCH_SIZE, device)
    return Trainer(config, train, validation, data.num_classes).train_epoch()


def first_images(
    data: TrialData, trained: int, judged: int, device: torch.device
) -> tuple[ResidentImages, ResidentImages]:
    """Return the first training and the first validation images, at most so many, on a device."""
    assert data.validation_images is not None
    assert data.validation_labels is not None

    def first(images: np.ndarray, labels: np.ndarray, count: int) -> ResidentImages:
        return ResidentImages(images[:count], labels[:count], data.mean, data.std, device)

    return (
        first(data.train_images, data.train_labels, trained),
        first(data.validation_images, data.validation_labels, judged),
    )
