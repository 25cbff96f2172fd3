"""The epoch loop of one trial: precision, optimizer, schedule, evaluation. It knows nothing of Ray."""

import inspect
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.augmentation import ResidentImages, stream_seed
from trainables.config import TrialConfig
from trainables.losses import LOSSES
from trainables.models import build_model

__all__ = ["Trainer", "one_cycle", "resolve_precision"]

EVALUATION_BATCH_SIZE = 1000
FINITE_CHECK_STEPS = 32  # on a GPU each check waits for the device


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


@dataclass
class _Totals:
    """Sums over an epoch, kept on the device so that no step waits for it."""

    loss: Tensor
    correct: Tensor
    images: int = 0

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


class Trainer:
    """Trains one model with one loss, an epoch at a time.

    The initial weights depend on `config.seed` alone, the body's not on the loss; so trials with the same seed and
    different losses start from the same body and see the same batches.

    Args:
        config: the trial.
        train: training images on the device.
        validation: images on which each epoch is judged.
        num_classes: C.
    """

    def __init__(
        self, config: TrialConfig, train: ResidentImages, validation: ResidentImages, num_classes: int
    ) -> None:
        self.config = config
        self.device = train.device
        self.precision = resolve_precision(config.precision, self.device)
        self.epoch = 0
        self._train, self._validation = train, validation
        self._batch_size = min(config.batch_size, len(train))
        self.steps_per_epoch = len(train) // self._batch_size

        height, width, channels = train.images.shape[1:]
        torch.manual_seed(stream_seed(config.seed, 0))
        model = build_model(config.model, (height, width, channels), config.embedding_dim)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.loss = self._build_loss(num_classes).to(self.device)
        self.optimizer = self._build_optimizer()
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def _build_loss(self, num_classes: int) -> nn.Module:
        cls = LOSSES[self.config.loss]
        arguments = dict(self.config.loss_args)
        if "steps_per_epoch" in inspect.signature(cls).parameters:
            arguments["steps_per_epoch"] = self.steps_per_epoch
        torch.manual_seed(stream_seed(self.config.seed, 3))
        return cls(
            embedding_dim=self.config.embedding_dim,
            num_classes=num_classes,
            label_smoothing=self.config.label_smoothing,
            **arguments,
        )

    def _build_optimizer(self) -> torch.optim.SGD:
        body = list(self.model.parameters())
        decayed = [p for p in body if p.ndim > 1]
        plain = [p for p in body if p.ndim <= 1]
        head_rate = self.config.learning_rate * self.config.head_learning_rate_multiplier
        return torch.optim.SGD(
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
            What ``epochs.jsonl`` says of the epoch. Accuracies are fractions from margin-free logits, margins
            radians, times seconds. A loss that is not finite ends the epoch early and gives NaN accuracies.
        """
        started = time.perf_counter()
        totals = self._train_steps()
        train_loss, train_accuracy = totals.mean_loss, totals.accuracy
        train_seconds = time.perf_counter() - started
        finite = math.isfinite(train_loss)
        if finite:
            validation = self._evaluate(self._validation)
            val_loss, val_accuracy = validation.mean_loss, validation.accuracy
            finite = math.isfinite(val_loss)
        if not finite:
            train_accuracy = val_loss = val_accuracy = math.nan
        self.epoch += 1
        return {
            "epoch": self.epoch,
            "val_accuracy": val_accuracy,
            "val_loss": val_loss,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            **self.loss.diagnostics(),  # type: ignore[operator]
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
        batches = self._train.augmented_batches(
            self._batch_size,
            crop_padding=config.crop_padding,
            horizontal_flip=config.horizontal_flip,
            seed=config.seed,
            epoch=self.epoch,
        )
        for step, (images, labels) in enumerate(batches):
            self._set_learning_rate(self._progress(step + 0.5))
            self._train_step(images, labels, totals)
            if step % FINITE_CHECK_STEPS == 0 and not torch.isfinite(totals.loss):
                break
        return totals

    def _train_step(self, images: Tensor, labels: Tensor, totals: _Totals) -> None:
        with self._autocast():
            embeddings = self.model(images)  # (B, D)
        loss = self.loss(embeddings, labels)
        with torch.no_grad():  # before the step: afterwards the head has learnt this very batch
            totals.add(loss, self.loss.logits(embeddings), labels)  # type: ignore[operator]
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self.optimizer)
        self._scaler.update()

    @torch.no_grad()
    def _evaluate(self, split: ResidentImages) -> _Totals:
        self.model.eval()
        self.loss.eval()
        totals = _Totals.zeros(self.device)
        for images, labels in split.batches(EVALUATION_BATCH_SIZE):
            with self._autocast():
                embeddings = self.model(images)
            logits = self.loss.logits(embeddings)  # type: ignore[operator]
            totals.add(F.cross_entropy(logits, labels), logits, labels)
        return totals

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
