"""Training speed of the product beside its ceiling and beside a plain DataLoader.

    python -m benchmarks.throughput [--data-dir DIR] [--device cpu] [--threads 1] [--workers 0] [--rounds 7] [--json]

Three ways to train the same model with the same loss, optimizer and precision take turns, so that whatever else the
machine does hits all of them alike; a ratio is the median over rounds of ratios within a round.

product     one epoch of Trainer: augmentation, schedule, optimizer and metrics.
ceiling     the bare training step on one batch that never changes: no data work, no schedule, no metrics.
dataloader  Trainer again, but its batches come from PIL images through torchvision's transforms and a DataLoader.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.data import load_training_data
from trainables.devices import device_name
from trainables.losses import LOSSES
from trainables.registry import build_model
from trainables.training import Trainer, resolve_precision

BATCH_SIZE = 256
BATCHES_PER_ROUND = 20
CROP_PADDING = 2
LOSS_ARGS = {"scale": 16.0, "margin_rad": 0.2}


@dataclass(frozen=True)
class Workload:
    """One model on one data set.

    Args:
        model: a name in MODELS.
        dataset: whose shapes, or images, are used.
        image_shape: (H, W, C).
        horizontal_flip: whether the data set's training flips.
        target_of_ceiling: product / ceiling that counts as passed.
        target_of_loader: product / dataloader that counts as passed.
    """

    model: str
    dataset: str
    image_shape: tuple[int, int, int]
    horizontal_flip: bool
    target_of_ceiling: float
    target_of_loader: float


WORKLOADS = (
    Workload("ArcFaceCNN", "mnist", (28, 28, 1), False, 0.90, 1.3),
    Workload("ArcFaceCNN_CIFAR10", "cifar10", (32, 32, 3), True, 0.90, 1.1),
)


@dataclass(frozen=True)
class Data:
    """What is trained on: (N, H, W, C) uint8, (N,) int64, and (C,) mean and deviation of images scaled to [0, 1]."""

    device: torch.device
    images: np.ndarray
    labels: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resident(self, count: int | None = None) -> ResidentImages:
        """Return the first `count` images as the product keeps them."""
        return ResidentImages(self.images[:count], self.labels[:count], self.mean, self.std, self.device)


def load_data(workload: Workload, data_dir: Path | None, device: torch.device) -> Data:
    """Read one round's images, or draw them where there is no folder."""
    count = BATCH_SIZE * BATCHES_PER_ROUND
    if data_dir is not None:
        data = load_training_data(workload.dataset, data_dir, download=False)
        return Data(device, data.train.images[:count], data.train.labels[:count], data.spec.mean, data.spec.std)
    rng = np.random.default_rng(0)
    channels = workload.image_shape[2]
    images = rng.integers(0, 256, (count, *workload.image_shape), np.uint8)
    return Data(device, images, rng.integers(0, 10, count), (0.5,) * channels, (0.3,) * channels)


class PILImages(Dataset[tuple[Tensor, int]]):
    """As torchvision's data sets do it: an array in memory, an image made of each row, then the transforms."""

    def __init__(self, data: Data, *, horizontal_flip: bool) -> None:
        height, width = data.images.shape[1:3]
        crop = transforms.RandomCrop((height, width), padding=CROP_PADDING, padding_mode="reflect")
        flip = [transforms.RandomHorizontalFlip()] if horizontal_flip else []
        normalise = transforms.Normalize(data.mean, data.std)
        self.transform = transforms.Compose([crop, *flip, transforms.ToTensor(), normalise])
        self.images = data.images[..., 0] if data.images.shape[-1] == 1 else data.images
        self.labels = data.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class LoaderImages(ResidentImages):
    """Takes the place of the product's images in the same training loop, and gets its batches from a DataLoader."""

    def __init__(self, data: Data, *, horizontal_flip: bool, workers: int) -> None:
        super().__init__(data.images, data.labels, data.mean, data.std, data.device)
        self._loader = DataLoader(
            PILImages(data, horizontal_flip=horizontal_flip),
            BATCH_SIZE,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=data.device.type == "cuda",
            persistent_workers=workers > 0,
        )

    def augmented_batches(self, *args: object, **kwargs: object) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the DataLoader yields; it has its own batch size and augmentation."""
        for images, labels in self._loader:
            on_device = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            yield on_device, labels.to(self.device, non_blocking=True)


def trainer_run(config: TrialConfig, train: ResidentImages, validation: ResidentImages) -> Callable[[], float]:
    """Return a function that trains one epoch and returns images/s of its training steps."""
    trainer = Trainer(config, train, validation, num_classes=10)

    def run() -> float:
        result = trainer.train_epoch()
        assert np.isfinite(result["val_accuracy"]), "the run diverged, so it ended early"
        return float(result["images_per_s"])

    return run


def ceiling_run(config: TrialConfig, train: ResidentImages) -> Callable[[], float]:
    """Return a function that repeats the bare step on one batch and returns images/s."""
    height, width, channels = train.images.shape[1:]
    model = build_model(config.model, (height, width, channels), config.embedding_dim)
    device = train.device
    model = model.to(device, memory_format=torch.channels_last)
    loss = LOSSES[config.loss](config.embedding_dim, 10, **config.loss_args).to(device)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in (*model.parameters(), *loss.parameters()) if p.ndim <= 1 or p is loss.weight]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain}],
        lr=config.learning_rate / 100,  # one batch, seen again and again, needs no more
        momentum=config.momentum,
        nesterov=True,
    )
    low = resolve_precision(config.precision, device) == "bf16"
    images, labels = next(train.batches(BATCH_SIZE))

    def run() -> float:
        started = time.perf_counter()
        for _ in range(BATCHES_PER_ROUND):
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                embeddings = model(images)
            optimizer.zero_grad(set_to_none=True)
            loss(embeddings, labels).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()  # as reading an epoch's metrics does
        return BATCH_SIZE * BATCHES_PER_ROUND / (time.perf_counter() - started)

    return run


def measure(workload: Workload, data: Data, *, rounds: int, workers: int, precision: str) -> dict[str, object]:
    """Let the three take turns and return medians and ratios."""
    config = TrialConfig(
        loss="arcface",
        loss_args=LOSS_ARGS,
        model=workload.model,
        max_epochs=1000,  # far more than are run: the schedule stays in its warm-up
        learning_rate=0.05,
        batch_size=BATCH_SIZE,
        crop_padding=CROP_PADDING,
        horizontal_flip=workload.horizontal_flip,
        precision=precision,
    )
    validation = data.resident(BATCH_SIZE)
    loader = LoaderImages(data, horizontal_flip=workload.horizontal_flip, workers=workers)
    runs = {
        "product": trainer_run(config, data.resident(), validation),
        "ceiling": ceiling_run(config, data.resident()),
        "dataloader": trainer_run(config, loader, validation),
    }
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        names = list(runs) if number % 2 else list(runs)[::-1]  # nobody always goes first
        for name in names:
            speed = runs[name]()
            if number > 0:  # the first round warms up
                speeds[name].append(speed)

    def ratio(other: str) -> float:
        return statistics.median(a / b for a, b in zip(speeds["product"], speeds[other], strict=True))

    of_ceiling, of_loader = ratio("ceiling"), ratio("dataloader")
    return {
        "model": workload.model,
        "precision": resolve_precision(precision, data.device),
        "images_per_s": {name: statistics.median(values) for name, values in speeds.items()},
        "product/ceiling": of_ceiling,
        "product/dataloader": of_loader,
        "targets": {"product/ceiling": workload.target_of_ceiling, "product/dataloader": workload.target_of_loader},
        "passed": of_ceiling >= workload.target_of_ceiling and of_loader >= workload.target_of_loader,
    }


def print_table(results: list[dict], about: str) -> None:
    """Print images/s and ratios, one model a line."""
    print(about)
    print(f"{'model':20}{'precision':>10}{'product':>9}{'ceiling':>9}{'loader':>9}{'/ceiling':>18}{'/loader':>18}")
    for result in results:
        speed, target = result["images_per_s"], result["targets"]
        line = f"{result['model']:20}{result['precision']:>10}"
        line += "".join(f"{speed[name]:9.0f}" for name in ("product", "ceiling", "dataloader"))
        for name in ("product/ceiling", "product/dataloader"):
            line += f"{result[name]:.3f} (>= {target[name]:.2f})".rjust(18)
        print(line + ("  passed" if result["passed"] else "  missed"))


def main(
    data_dir: Annotated[Path | None, typer.Option(help="Real MNIST and CIFAR-10; synthetic images without it.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the model trains.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Cores that torch may use.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of the DataLoader.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each of the three.")] = 7,
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Compare the product's training speed with its ceiling and with a DataLoader."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    results = [
        measure(
            workload,
            load_data(workload, data_dir, torch.device(device)),
            rounds=rounds,
            workers=workers,
            precision=precision,
        )
        for workload in WORKLOADS
    ]
    source, name = "synthetic" if data_dir is None else "real", device_name(torch.device(device))
    if as_json:
        about = {"data": source, "device": name, "threads": threads, "workers": workers, "rounds": rounds}
        versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({**about, **versions, "results": results}, indent=2))
    else:
        where = f"{name}, {threads} thread(s), {workers} loader worker(s)"
        print_table(results, f"{source} data, {where}, batch {BATCH_SIZE}, arcface; images/s")


if __name__ == "__main__":
    typer.run(main)
