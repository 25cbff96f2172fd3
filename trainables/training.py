"""The epoch loop of one trial: precision, optimizer, schedule, evaluation. It knows nothing of Ray."""

import inspect
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.evaluation import examine
from trainables.losses import LOSSES, ClassifierLoss
from trainables.optimizer import EagerSGD
from trainables.registry import build_model
from trainables.seeds import stream_seed

__all__ = ["Trainer", "build_loss", "one_cycle", "resolve_precision"]

EVALUATION_BATCH_SIZE = 1000
FINITE_CHECK_STEPS = 32  # on a GPU each check waits for the device
STATISTICS_BATCHES = 10  # that give the untrained model's batch norms their statistics


def resolve_precision(precision: str, device: torch.device) -> str:
    """Replace "auto" by what the hardware computes in natively: bf16, else fp16 on a GPU, else float32."""
    if precision != "auto":
        if precision == "fp16" and device.type != "cuda":
            raise ValueError("precision fp16 needs a CUDA device; use bf16 or float32 on a CPU")
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "float32"


def one_cycle(progress: float, warmup_fraction: float) -> float:
    """Return the learning rate, as a part of its peak, at `progress` in [0, 1] of the schedule.

    Linear up to the peak, then linear down to zero (Smith and Topin, arXiv:1708.07120, without the last flat part).
    """
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return max(0.0, (1 - progress) / (1 - warmup_fraction))


def build_loss(config: TrialConfig, num_classes: int, steps_per_epoch: int) -> ClassifierLoss:
    """Build the loss of a trial with freshly drawn weights, from torch's global generator.

    Raises:
        ValueError: there is no such loss, or an argument is out of range.
    """
    if config.loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {config.loss!r}")
    cls = LOSSES[config.loss]
    arguments = dict(config.loss_args)
    offered = {"steps_per_epoch": steps_per_epoch, "label_smoothing": config.label_smoothing}
    taken = inspect.signature(cls).parameters
    arguments |= {name: value for name, value in offered.items() if name in taken}
    return cls(embedding_dim=config.embedding_dim, num_classes=num_classes, **arguments)


@dataclass
class _Totals:
    """Sums over an epoch, kept on the device so that no step waits for it."""

    loss: Tensor
    correct: Tensor
    images: int = 0
    margins_rad: list[Tensor] = field(default_factory=list)  # (1,) each, applied in the steps of an epoch

    @classmethod
    def zeros(cls, device: torch.device) -> "_Totals":
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def add(self, mean_loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += mean_loss.detach() * len(labels)
        self.correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)

    @property
    def mean_loss(self) -> float:
        return self.loss.item() / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        return self.correct.item() / max(self.images, 1)

    def margin_trace(self) -> dict[str, list[float]]:
        """Return the applied margins under the name that records know them by, or nothing where none was traced.

        Each is the shortest decimal number that rounds to its float32.
        """
        if not self.margins_rad:
            return {}
        return {"margin_steps_rad": [float(str(margin)) for margin in torch.cat(self.margins_rad).cpu().numpy()]}


class Trainer:
    """Trains one model with one loss, an epoch at a time.

    The initial weights depend on `config.seed` alone, the body's not on the loss; so trials with the same seed and
    different losses start from the same body and see the same batches.

    Args:
        config: the trial.
        train: training images on the device.
        validation: images on which each epoch is judged; None trains without judging.
        num_classes: C.
    """

    def __init__(
        self, config: TrialConfig, train: ResidentImages, validation: ResidentImages | None, num_classes: int
    ) -> None:
        self.config = config
        self.device = train.device
        self.precision = resolve_precision(config.precision, self.device)
        self.epoch = 0
        self._train, self._validation = train, validation
        self._batch_size = min(config.batch_size, len(train))
        self.steps_per_epoch = len(train) // self._batch_size

        self.model = self._build_model()
        torch.manual_seed(stream_seed(self.config.seed, 3))
        self.loss = build_loss(config, num_classes, self.steps_per_epoch).to(self.device)
        self.optimizer = self._build_optimizer()
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    @property
    def is_complete(self) -> bool:
        """Whether the schedule is at its end."""
        return self.epoch >= self.config.max_epochs

    def _build_model(self) -> nn.Module:
        height, width, channels = self._train.images.shape[1:]
        torch.manual_seed(stream_seed(self.config.seed, 0))
        model = build_model(self.config.model, (height, width, channels), self.config.embedding_dim)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def _build_optimizer(self) -> torch.optim.SGD:
        body = list(self.model.parameters())
        decayed = [p for p in body if p.ndim > 1]
        plain = [p for p in body if p.ndim <= 1]
        head_rate = self.config.learning_rate * self.config.head_learning_rate_multiplier
        return EagerSGD(
            [
                {"params": decayed, "peak": self.config.learning_rate, "weight_decay": self.config.weight_decay},
                {"params": plain, "peak": self.config.learning_rate},
                {"params": list(self.loss.parameters()), "peak": head_rate},
            ],
            lr=0.0,  # set by the schedule at every step
            momentum=self.config.momentum,
            nesterov=self.config.momentum > 0,
        )

    def train_epoch(self) -> dict[str, Any]:
        """Train for one epoch and evaluate.

        Returns:
            What ``epochs.jsonl`` says of the epoch, and for a loss with one margin that moves ``margin_steps_rad``,
            the margin that each step applied. Accuracies are fractions from margin-free logits, margins radians,
            times seconds. A loss that is not finite ends the epoch early and gives NaN accuracies. Without
            validation images there is no ``val_accuracy`` and no ``val_loss``.
        """
        started = time.perf_counter()
        totals = self._train_steps()
        train_loss, train_accuracy = totals.mean_loss, totals.accuracy
        train_seconds = time.perf_counter() - started
        finite = math.isfinite(train_loss)
        val_loss = val_accuracy = math.nan
        if finite and self._validation is not None:
            validation = self._evaluate(self._validation)
            val_loss, val_accuracy = validation.mean_loss, validation.accuracy
            finite = math.isfinite(val_loss)
        if not finite:
            train_accuracy = val_loss = val_accuracy = math.nan
        self.epoch += 1
        return {
            "epoch": self.epoch,
            **({} if self._validation is None else {"val_accuracy": val_accuracy, "val_loss": val_loss}),
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            **self.loss.diagnostics(),
            **totals.margin_trace(),
            "learning_rate": self.config.learning_rate * one_cycle(self._progress(), self.config.warmup_fraction),
            "seconds": time.perf_counter() - started,
            "images_per_s": totals.images / train_seconds,
        }

    def _train_steps(self) -> _Totals:
        config = self.config
        # Anything random in a model (dropout, say) must not depend on how often the trial was interrupted.
        torch.manual_seed(stream_seed(config.seed, 4, self.epoch))
        self.model.train()
        self.loss.train()
        totals = _Totals.zeros(self.device)
        for step, (images, labels) in enumerate(self._training_batches(self.epoch)):
            self._set_learning_rate(self._progress(step + 0.5))
            self._train_step(images, labels, totals)
            if step % FINITE_CHECK_STEPS == 0 and not torch.isfinite(totals.loss):
                break
        return totals

    def _training_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self._train.augmented_batches(
            self._batch_size,
            crop_padding=self.config.crop_padding,
            horizontal_flip=self.config.horizontal_flip,
            seed=self.config.seed,
            epoch=epoch,
        )

    def _train_step(self, images: Tensor, labels: Tensor, totals: _Totals) -> None:
        margin_rad = self.loss.applied_margin_rad()
        if margin_rad is not None:
            totals.margins_rad.append(margin_rad)
        with self._autocast():
            embeddings = self.model(images)  # (B, D)
        loss = self.loss(embeddings, labels)
        with torch.no_grad():  # before the step: afterwards the head has learnt this very batch
            totals.add(loss, self.loss.logits(embeddings), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self.optimizer)
        self._scaler.update()

    @torch.no_grad()
    def _evaluate(self, split: ResidentImages) -> _Totals:
        self.loss.eval()
        totals = _Totals.zeros(self.device)
        for embeddings, labels in self._embedded(self.model, split):
            logits = self.loss.logits(embeddings)
            totals.add(F.cross_entropy(logits, labels), logits, labels)
        return totals

    @torch.no_grad()
    def examine(self, test: ResidentImages) -> dict[str, Any]:
        """Judge the model on images that had no part in training or selection, as they are.

        For the comparison of angles it stands beside what it was before training: the weights that the seed gives,
        with batch norms that know the statistics of the first training batches. Those that a batch norm is built
        with, 0 and 1, are not what an untrained network computes with when its training begins.

        Returns:
            As of :func:`trainables.evaluation.examine`.
        """
        self.loss.eval()
        batches = list(self._embedded(self.model, test))
        after, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))  # (N, D), (N,)
        untrained = self._untrained_model()
        before = torch.cat([embeddings for embeddings, _ in self._embedded(untrained, test)])  # (N, D)
        return examine(before, after, self.loss.logits(after), labels)

    def _untrained_model(self) -> nn.Module:
        model = self._build_model()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = None  # the plain mean of the batches' statistics
        model.train()
        for images, _ in itertools.islice(self._training_batches(0), STATISTICS_BATCHES):
            with self._autocast():
                model(images)
        return model

    def _embedded(self, model: nn.Module, split: ResidentImages) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield embeddings (B, D) and labels (B,) of all images, by the model in evaluation."""
        model.eval()
        for images, labels in split.batches(EVALUATION_BATCH_SIZE):
            with self._autocast():
                embeddings = model(images)
            yield embeddings, labels

    def _autocast(self) -> torch.autocast:
        low = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, low, enabled=self.precision != "float32")

    def _progress(self, step: float = 0) -> float:
        """Part of the schedule that is done when `step` steps of the current epoch are."""
        return (self.epoch + step / self.steps_per_epoch) / self.config.max_epochs

    def _set_learning_rate(self, progress: float) -> None:
        factor = one_cycle(progress, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the trial depends on; the random streams follow from seed and epoch."""
        return {
            "config": self.config.to_dict(),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; a state of another configuration raises ValueError."""
        if state["config"] != self.config.to_dict():
            raise ValueError("this checkpoint is of a trial with another configuration")
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.epoch = state["epoch"]
