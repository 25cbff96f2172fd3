"""How much accuracy a CNN of a given width gets out of the arithmetic that it is given.

    python -m benchmarks.widths --dataset cifar10 --data-dir DIR [--widths 16,32,64] [--epochs 2,4,8] [--json]

Each width is trained with ArcFace at its known good settings (`search_spaces/arcface.py`) by the product's own training
loop, for each number of epochs with a learning rate schedule of that length, and judged by the validation images. Work
is counted by torch's flop counter on one training step and one evaluation, a multiplication and an addition being two.
What a search asks of a width is the accuracy that it has after the work of a short trial, and how fast that grows.
"""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import optuna
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import SEARCH_SPACES
from trainables import models
from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.data import TrainingData, load_training_data
from trainables.devices import device_name
from trainables.registry import MODELS, ModelSpec
from trainables.training import Trainer

BATCH_SIZE = 256
LOSS = "arcface"
CNNS = {"mnist": models.ArcFaceCNN, "cifar10": models.ArcFaceCNN_CIFAR10}
SHAPES = {"mnist": ((28, 28, 1),), "cifar10": ((32, 32, 3),)}


@dataclass(frozen=True)
class Point:
    """One training run.

    Args:
        dataset: what it was trained on.
        width: channels of the CNN's first convolution.
        epochs: of the run.
        seed: of weights, order and augmentation.
        weights: trained numbers of model and loss.
        pflop: 10^15 operations that it took.
        seconds: that it took on the device.
        val_accuracy: after its last epoch.
    """

    dataset: str
    width: int
    epochs: int
    seed: int
    weights: int
    pflop: float
    seconds: float
    val_accuracy: float


def register(dataset: str, width: int) -> str:
    """Make a width of a data set's CNN a model of the registry, and return its name."""
    cnn = CNNS[dataset]
    known = next(spec for spec in MODELS.values() if spec.image_shapes == SHAPES[dataset])
    name = f"{cnn.__name__} of width {width}"
    MODELS[name] = ModelSpec(lambda dim, _: cnn(dim, width), known.image_shapes, known.gpus_per_trial)
    return name


def points(
    data: TrainingData, widths: list[int], lengths: list[int], seeds: int, device: torch.device
) -> Iterator[Point]:
    """Train each width for each number of epochs with each seed, the short ones first."""
    train, validation = (
        ResidentImages(split.images, split.labels, data.spec.mean, data.spec.std, device)
        for split in (data.train, data.validation)
    )
    drawn = SEARCH_SPACES[LOSS].suggest(optuna.trial.FixedTrial(SEARCH_SPACES[LOSS].first_points[0]))  # type: ignore[arg-type]
    for epochs in lengths:
        for width in widths:
            model = register(data.spec.name, width)
            for seed in range(seeds):
                config = TrialConfig(
                    model=model,
                    max_epochs=epochs,
                    batch_size=BATCH_SIZE,
                    horizontal_flip=data.spec.horizontal_flip,
                    seed=seed,
                    **drawn,
                )
                trainer = Trainer(config, train, validation, data.spec.num_classes)
                step_flop, image_flop = work_of(trainer, train)
                began = time.perf_counter()
                for _ in range(epochs):
                    record = trainer.train_epoch()
                yield Point(
                    dataset=data.spec.name,
                    width=width,
                    epochs=epochs,
                    seed=seed,
                    weights=sum(p.numel() for part in (trainer.model, trainer.loss) for p in part.parameters()),
                    pflop=epochs * (trainer.steps_per_epoch * step_flop + len(validation) * image_flop) / 1e15,
                    seconds=time.perf_counter() - began,
                    val_accuracy=record["val_accuracy"],
                )


def work_of(trainer: Trainer, images: ResidentImages) -> tuple[int, float]:
    """Return the operations of a training step, and of judging an image."""
    batch, labels = next(images.batches(BATCH_SIZE))
    trainer.model.train()
    with FlopCounterMode(display=False) as step:
        trainer.loss(trainer.model(batch), labels).backward()
    trainer.optimizer.zero_grad()
    trainer.model.eval()
    with FlopCounterMode(display=False) as judged, torch.no_grad():
        trainer.loss.logits(trainer.model(batch))
    return step.get_total_flops(), judged.get_total_flops() / len(labels)


def table(found: list[Point]) -> str:
    """Return the points as Markdown, means over seeds."""
    lines = [
        "| epochs | width | weights | PFLOP | seconds | val. acc. |",
        "|---|---|---|---|---|---|",
    ]
    for epochs, width in sorted({(point.epochs, point.width) for point in found}):
        mine = [point for point in found if (point.epochs, point.width) == (epochs, width)]
        accuracy = sum(point.val_accuracy for point in mine) / len(mine)
        seconds = sum(point.seconds for point in mine) / len(mine)
        lines.append(
            f"| {epochs} | {width} | {mine[0].weights:,} | {mine[0].pflop:.3g} | {seconds:.0f} | "
            f"{100 * accuracy:.2f} % |"
        )
    return "\n".join(lines)


def main(
    dataset: Annotated[str, typer.Option(help="mnist or cifar10")],
    data_dir: Annotated[Path, typer.Option(help="where it lies")],
    widths: Annotated[str, typer.Option(help="of the first convolution")] = "16,24,32,48,64",
    epochs: Annotated[str, typer.Option(help="lengths of a run")] = "2,4,8",
    seeds: Annotated[int, typer.Option(help="runs of each")] = 1,
    threads: Annotated[int, typer.Option(help="of the arithmetic")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    json_: Annotated[bool, typer.Option("--json", help="a line a run instead of the table")] = False,
) -> None:
    """Measure accuracy and work of a CNN's widths."""
    torch.set_num_threads(threads)
    data = load_training_data(dataset, data_dir, download=False)
    where = torch.device(device)
    found = []
    for point in points(data, _numbers(widths), _numbers(epochs), seeds, where):
        found.append(point)
        if json_:
            print(json.dumps(asdict(point)), flush=True)
    if not json_:
        print(f"{device_name(where)}, {threads} threads, torch {torch.__version__}, Python {platform.python_version()}")
        print(table(found))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    typer.run(main)
