"""Data sets: where they come from, how they are read, cached and split."""

from trainables.data.datasets import (
    DATASETS,
    DataError,
    DatasetSpec,
    Split,
    TrainingData,
    check_dataset_name,
    check_test_data,
    default_data_dir,
    load_test_data,
    load_training_data,
    resolve_dataset,
    stratified_choice,
)
from trainables.data.inventory import count_among

__all__ = [
    "DATASETS",
    "DataError",
    "DatasetSpec",
    "Split",
    "TrainingData",
    "check_dataset_name",
    "check_test_data",
    "count_among",
    "default_data_dir",
    "load_test_data",
    "load_training_data",
    "resolve_dataset",
    "stratified_choice",
]
