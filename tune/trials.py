"""What a trial is given: its whole configuration, and the images of its stage."""

from typing import Any

import numpy as np
import optuna

from search_spaces import SEARCH_SPACES
from trainables.config import TrialConfig
from trainables.data import DatasetSpec, Split, TrainingData
from trainables.loss_code import LossCode
from trainables.registry import MODELS
from trainables.trial_data import TrialData
from tune.settings import SearchSettings

__all__ = ["first_config", "search_data", "test_data", "trial_config"]


def trial_config(
    settings: SearchSettings, spec: DatasetSpec, drawn: dict[str, Any], seed: int | None = None
) -> TrialConfig:
    """Return the whole configuration of a trial.

    Args:
        settings: of the run.
        spec: of the data set.
        drawn: what differs between trials: the loss and what is tuned.
        seed: None for the run's own, which all trials of a search have: they differ in what is tuned and nothing else.
    """
    return TrialConfig(
        model=settings.model,
        embedding_dim=MODELS[settings.model].embedding_dim,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        horizontal_flip=spec.horizontal_flip,
        precision=settings.precision,
        seed=settings.seed if seed is None else seed,
        **drawn,
    )


def first_config(loss: str) -> dict[str, Any]:
    """Return what is drawn for the first trial of a loss: settings that are known to be good."""
    space = SEARCH_SPACES[loss]
    return space.suggest(optuna.trial.FixedTrial(space.first_points[0]))  # type: ignore[arg-type]


def search_data(data: TrainingData, losses: tuple[LossCode, ...]) -> TrialData:
    """Return what trials see that are judged by the validation part, with the code of losses that are not ours."""
    return TrialData(
        train_images=data.train.images,
        train_labels=data.train.labels,
        validation_images=data.validation.images,
        validation_labels=data.validation.labels,
        mean=data.spec.mean,
        std=data.spec.std,
        num_classes=data.spec.num_classes,
        class_names=data.spec.class_names,
        are_photos=bool(data.note),
        losses=losses,
    )


def test_data(data: TrainingData, test: Split, losses: tuple[LossCode, ...]) -> TrialData:
    """Return what trials see that train on training and validation images and are tested once, at their end."""
    return TrialData(
        train_images=np.concatenate([data.train.images, data.validation.images]),
        train_labels=np.concatenate([data.train.labels, data.validation.labels]),
        validation_images=None,
        validation_labels=None,
        test_images=test.images,
        test_labels=test.labels,
        mean=data.spec.mean,
        std=data.spec.std,
        num_classes=data.spec.num_classes,
        class_names=data.spec.class_names,
        are_photos=bool(data.note),
        losses=losses,
    )
