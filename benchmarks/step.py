"""Where the time of a training step goes, how much of the processor it uses, and what changes of it would bring.

    python -m benchmarks.step [--model ArcFaceCNN_w24 ...] [--precision auto] [--threads 1] [--rounds 7] [--json]

use      operations of a step, by torch's flop counter, in the seconds that it takes, beside those of a product of two
         large matrices in the precision that the step computes in.
kinds    share of a step by kind of operation, by torch's profiler.
changes  ways to compute the same that were tried, old and new taking turns; a ratio above 1 says that new is slower.

Times are processor time of this process: on a machine that does other work too they vary less than seconds do. Images
are noise.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.throughput import BATCH_SIZE, CROP_PADDING, LOSS_ARGS
from benchmarks.widths import work_of
from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.processor import cpu_name
from trainables.registry import MODELS, build_model
from trainables.training import EVALUATION_BATCH_SIZE, Trainer, resolve_precision

CNNS = ("ArcFaceCNN_w24", "ArcFaceCNN", "ArcFaceCNN_CIFAR10_w24", "ArcFaceCNN_CIFAR10")
STEPS = 5  # of a round
PRODUCT = 2048  # rows and columns of the matrices
PART = 250  # images

# Kinds of operations, by how the names of torch's begin; the first that fits.
KINDS = {
    "convolution, backward": ("aten::convolution_backward",),
    "convolution, forward": ("aten::mkldnn_convolution", "aten::convolution", "aten::_slow_conv"),
    "max pooling": ("aten::max_pool2d", "aten::fill_"),  # whose gradient begins as zeros
    "batch norm": ("aten::native_batch_norm", "aten::batch_norm"),
    "ReLU": ("aten::threshold_backward", "aten::clamp_min", "aten::relu"),
    "matrix products": ("aten::mm", "aten::addmm"),
    "optimizer": ("Optimizer",),
}


def trainer_of(model: str, precision: str) -> tuple[Trainer, ResidentImages]:
    """Return a trainer on a few steps' images of the shape that a model takes."""
    shape = MODELS[model].image_shapes[0]
    rng = np.random.default_rng(0)
    count, channels = BATCH_SIZE * STEPS, shape[2]
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    mean, std, device = (0.5,) * channels, (0.3,) * channels, torch.device("cpu")
    train = ResidentImages(images, rng.integers(0, 10, count), mean, std, device)
    config = TrialConfig(
        loss="arcface",
        loss_args=LOSS_ARGS,
        model=model,
        max_epochs=1000,  # far more than are run: the schedule stays in its warm-up
        learning_rate=0.05,
        batch_size=BATCH_SIZE,
        crop_padding=CROP_PADDING,
        horizontal_flip=channels == 3,
        precision=precision,
    )
    return Trainer(config, train, None, num_classes=10), train


def seconds(call: Callable[[], Any]) -> float:
    """Return the processor time that a call takes."""
    started = time.process_time()
    call()
    return time.process_time() - started


def compared(old: Callable[[], Any], new: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Let two calls take turns and return the median time of the old one, and of ratios new / old within a round."""
    times = []
    for number in range(rounds + 1):
        pair = {call: seconds(call) for call in ((old, new) if number % 2 else (new, old))}
        if number:  # the first round warms up
            times.append((pair[old], pair[new]))
    return statistics.median(a for a, _ in times), statistics.median(b / a for a, b in times)


def peak_flop_per_s(precision: str, rounds: int) -> float:
    """Return what a product of two large matrices reaches."""
    matrix = torch.randn(PRODUCT, PRODUCT).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    matrix @ matrix
    return 2 * PRODUCT**3 / min(seconds(lambda: matrix @ matrix) for _ in range(rounds))


def kinds_of(trainer: Trainer) -> dict[str, float]:
    """Return the share of each kind of operation in the time of a few steps."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer.train_epoch()
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        kind = next((kind for kind, begins in KINDS.items() if event.key.startswith(begins)), "all else")
        spent[kind] += event.self_cpu_time_total
    return {kind: time_us / spent.total() for kind, time_us in spent.most_common()}


class ChannelsLastFlatten(nn.Flatten):
    """Gives its gradient on as channels-last: of a strided one, ReLU's gradient takes ten times as long."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all but the first dimension."""
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return super().forward(x)


def changes_of(model: str, precision: str, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Yield name, seconds of the old way, and ratio of the new one, for each change that was tried."""
    (plain, _), (changed, _) = trainer_of(model, precision), trainer_of(model, precision)
    flatten = next(name for name, part in changed.model.named_modules() if isinstance(part, nn.Flatten))
    changed.model.set_submodule(flatten, ChannelsLastFlatten())
    old_s, ratio = compared(plain.train_epoch, changed.train_epoch, rounds)
    yield "a step, flatten's gradient channels-last", old_s / STEPS, ratio

    shape = MODELS[model].image_shapes[0]
    judge = build_model(model, shape, 128).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    images = torch.randn(EVALUATION_BATCH_SIZE, shape[2], *shape[:2]).to(memory_format=torch.channels_last)

    def judged(size: int) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                for part in images.split(size):
                    judge(part)

        return run

    old_s, ratio = compared(judged(EVALUATION_BATCH_SIZE), judged(PART), rounds)
    yield f"{EVALUATION_BATCH_SIZE} images judged, {PART} at a time", old_s, ratio


def measure(model: str, precision: str, rounds: int) -> dict[str, Any]:
    """Return all figures of a model."""
    trainer, images = trainer_of(model, precision)
    step_flop, _ = work_of(trainer, images)
    trainer.train_epoch()
    step_s = statistics.median(seconds(trainer.train_epoch) for _ in range(rounds)) / STEPS
    peak = peak_flop_per_s(precision, rounds)
    return {
        "model": model,
        "precision": precision,
        "step_s": step_s,
        "step_flop": step_flop,
        "peak_flop_per_s": peak,
        "use": step_flop / step_s / peak,
        "kinds": kinds_of(trainer),
        "changes": [
            {"change": name, "old_s": old_s, "ratio": ratio}
            for name, old_s, ratio in changes_of(model, precision, rounds)
        ],
    }


def print_found(found: dict[str, Any]) -> None:
    """Print the figures of a model."""
    step_ms, giga = 1000 * found["step_s"], found["step_flop"] / 1e9
    print(f"{found['model']}, {found['precision']}: {step_ms:.1f} ms a step of {BATCH_SIZE} images, {giga:.1f} GFLOP")
    of_peak = f"of the {found['peak_flop_per_s'] / 1e9:.0f} GFLOP/s of a matrix product"
    print(f"  {giga / found['step_s']:.0f} GFLOP/s, {100 * found['use']:.0f} % {of_peak}")
    for kind, share in found["kinds"].items():
        print(f"  {100 * share:5.1f} %  {kind}")
    for change in found["changes"]:
        print(f"  {change['ratio']:5.2f} x  {change['change']} ({1000 * change['old_s']:.1f} ms before)")


def main(
    model: Annotated[list[str] | None, typer.Option(help="A CNN; given more than once, each; by default four.")] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16 or float32.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a step.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a model.")] = False,
) -> None:
    """Measure the training step on the CPU."""
    unknown = [name for name in model or () if name not in CNNS]
    if unknown:
        raise typer.BadParameter(f"no CNN {unknown[0]!r}; there are {', '.join(CNNS)}")
    torch.set_num_threads(threads)
    precision = resolve_precision(precision, torch.device("cpu"))
    if not as_json:
        print(f"{cpu_name()}, threads: {threads}")
    for name in model or CNNS:
        found = measure(name, precision, rounds)
        if as_json:
            print(json.dumps(found))
        else:
            print_found(found)


if __name__ == "__main__":
    typer.run(main)
