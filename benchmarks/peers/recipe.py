"""What both recipes share: a trial as most people write it, with torchvision's transforms and a DataLoader.

The space, the CNN, the loss and the images are the product's own, so that what differs is how trials are run.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FixedTrial
from torch.utils.data import DataLoader

from benchmarks.throughput import Data, PILImages
from search_spaces import SEARCH_SPACES
from trainables.data import load_training_data
from trainables.losses import LOSSES
from trainables.registry import MODELS, build_model

__all__ = ["LOSS", "SPACE", "Task", "Told", "train"]

LOSS = "arcface"
SPACE = SEARCH_SPACES[LOSS]
BATCH_SIZE = 256


@dataclass(frozen=True)
class Task:
    """What is searched on; the same for all.

    Args:
        data_dir: that holds the data sets.
        images: to train on.
        trials: of a search.
        epochs: of a full trial.
        grace_epochs: before a trial may be stopped.
        reduction_factor: of ASHA.
        seed: of draws, split and weights.
        cores: of the machine.
        dataset: its name.
        model: a name in MODELS.
    """

    data_dir: str
    images: int
    trials: int
    epochs: int
    grace_epochs: int
    reduction_factor: int
    seed: int
    cores: int
    dataset: str = "mnist"
    model: str = "ArcFaceCNN_w24"

    def load(self) -> tuple[Data, Data, int]:
        """Return training and validation images, split as the product splits them, and the number of classes."""
        loaded = load_training_data(self.dataset, Path(self.data_dir), train_size=self.images, seed=self.seed)
        spec, cpu = loaded.spec, torch.device("cpu")
        parts = [Data(cpu, part.images, part.labels, spec.mean, spec.std) for part in (loaded.train, loaded.validation)]
        return parts[0], parts[1], spec.num_classes


class Told:
    """Writes down when which accuracy was known, a line an epoch.

    Args:
        path: of the file; several processes append to it.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, accuracy: float) -> None:
        """Write down an accuracy that is known by now."""
        with self._path.open("a") as file:
            file.write(json.dumps({"time": time.time(), "val_accuracy": accuracy}) + "\n")


def _loaders(task: Task, train: Data, validation: Data, workers: int) -> tuple[DataLoader[Any], DataLoader[Any]]:
    shared: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    flips = task.dataset.startswith("cifar")
    augmented = PILImages(train, horizontal_flip=flips)
    plain = PILImages(validation, horizontal_flip=False)
    plain.transform.transforms = plain.transform.transforms[-2:]  # ToTensor and Normalize
    return (
        DataLoader(augmented, BATCH_SIZE, shuffle=True, drop_last=True, **shared),
        DataLoader(plain, 1000, **shared),
    )


def train(
    task: Task,
    data: tuple[Data, Data, int],
    drawn: Mapping[str, Any],
    told: Callable[[float], None],
    *,
    workers: int,
    seed: int,
) -> None:
    """Train one configuration; what is raised by `told` ends it.

    Args:
        task: of the search.
        data: as :meth:`Task.load` gives it.
        drawn: values of the space's parameters.
        told: gets the validation accuracy of each epoch.
        workers: processes that load images.
        seed: of this trial.
    """
    torch.manual_seed(seed)
    training, validation, classes = data
    config = SPACE.suggest(FixedTrial(dict(drawn)))
    spec = MODELS[task.model]
    height, width, channels = training.images.shape[1:]
    model = build_model(task.model, (height, width, channels), spec.embedding_dim)
    loss = LOSSES[LOSS](spec.embedding_dim, classes, label_smoothing=config["label_smoothing"], **config["loss_args"])
    rate = config["learning_rate"]
    head_rate = rate * config["head_learning_rate_multiplier"]
    optimizer = torch.optim.SGD(
        [
            {"params": list(model.parameters()), "weight_decay": config["weight_decay"]},
            {"params": list(loss.parameters())},
        ],
        lr=rate,
        momentum=0.9,
        nesterov=True,
    )
    loader, judged = _loaders(task, training, validation, workers)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[rate, head_rate], total_steps=task.epochs * len(loader), pct_start=0.25
    )
    for _ in range(task.epochs):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()
            schedule.step()
        told(_accuracy(model, loss, judged))


@torch.no_grad()
def _accuracy(model: torch.nn.Module, loss: Any, judged: DataLoader[Any]) -> float:
    model.eval()
    correct = total = 0
    for images, labels in judged:
        correct += int((loss.logits(model(images)).argmax(1) == labels).sum())
        total += len(labels)
    return correct / total
