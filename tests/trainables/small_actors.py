"""Small trials run by the Ray trainable, without a cluster: what its tests have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.trainables.small_trials import LOSS_ARGS
from trainables.data import TrainingData
from trainables.trainable import SHOULD_CHECKPOINT, MarginTrainable
from trainables.trial_data import TrialData

EPOCHS = 3
NOT_THE_TRIALS_OWN = {"seconds", "images_per_s", SHOULD_CHECKPOINT}

Actor = Callable[[dict[str, Any]], MarginTrainable]


def trial_data(digits: TrainingData, *, judged: bool = True, tested: bool = False) -> TrialData:
    """150 images to train on, 60 to judge epochs by, 100 of the same to stand for a test split."""
    validation, spec = digits.validation, digits.spec
    arrays = {
        "train_images": digits.train.images[:150],
        "train_labels": digits.train.labels[:150],
        "validation_images": validation.images[:60] if judged else None,
        "validation_labels": validation.labels[:60] if judged else None,
        "test_images": validation.images[60:160] if tested else None,
        "test_labels": validation.labels[60:160] if tested else None,
    }
    for array in arrays.values():
        if array is not None:
            array.flags.writeable = False  # as Ray's object store hands them out
    return TrialData(**arrays, mean=spec.mean, std=spec.std, num_classes=spec.num_classes)


def actor_of(data: TrialData) -> Actor:
    class WithData(MarginTrainable):
        """Is given its data with each trial, without an object store."""

        def setup(self, config: dict[str, Any]) -> None:
            super().setup({**config, "data": data})

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return super().reset_config({**new_config, "data": data})

    return WithData


def trial(
    loss: str = "arcface", *, trial_id: str = "t1", checkpoint: str | None = None, threads: int = 1, **changes: Any
) -> dict[str, Any]:
    settings = {"max_epochs": EPOCHS, "batch_size": 32, "embedding_dim": 16, "precision": "float32", **changes}
    values = {"loss": loss, "loss_args": LOSS_ARGS.get(loss, {}), "model": "narrow", **settings}
    return {"trial": values, "trial_id": trial_id, "checkpoint": checkpoint, "threads": threads}


def steps(running: MarginTrainable, count: int = EPOCHS) -> list[dict[str, Any]]:
    """Step without Ray's own bookkeeping, and leave out what belongs to the clock."""
    return [{k: v for k, v in running.step().items() if k not in NOT_THE_TRIALS_OWN} for _ in range(count)]


def saved(running: MarginTrainable, folder: Path) -> Path:
    folder.mkdir()
    running.save_checkpoint(str(folder))
    return folder


def weights(running: MarginTrainable) -> list[torch.Tensor]:
    assert running._trainer is not None
    state = running._trainer.state_dict()
    return [*state["model"].values(), *state["loss"].values()]
