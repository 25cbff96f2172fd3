"""What the files of a run are called and what each of their records holds: one place for who writes and who reads.

Readers rely on it. A record that is otherwise is a damaged, edited or foreign file: RecordError names the file, the
line and the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tune.records.roles import ROLES

__all__ = [
    "ADDED_LOSSES",
    "CALIBRATION_FIELDS",
    "CONFIG_FILE",
    "ENDINGS",
    "EPOCHS_FILE",
    "EPOCH_FIELDS",
    "PACKED",
    "PLACE_FIELDS",
    "PROGRESS_FIELDS",
    "PROGRESS_FILE",
    "REPEATED_TEST_IMAGES",
    "REPORT_FILE",
    "RUN_FIELDS",
    "RUN_FILE",
    "RUN_FILE_FIELDS",
    "RUN_FORMAT",
    "SEED_EPOCHS_FILE",
    "SEED_EPOCH_FIELDS",
    "SEED_RUNS_FILE",
    "STUDY_FILE",
    "TRIALS_FILE",
    "TRIAL_EPOCH_FIELDS",
    "TRIAL_EVENT_FIELDS",
    "WINNER_FIELDS",
    "Fields",
    "RecordError",
    "best_file",
    "check_fields",
    "seed_run_fields",
    "weights_file",
    "winner_file",
    "winner_weights_file",
]


class RecordError(ValueError):
    """A file of a run holds something that no run writes; the message names it."""


RUN_FILE = "run.json"
RUN_FORMAT = 1  # of run.json
CONFIG_FILE = "run.yaml"
ADDED_LOSSES = "added_losses"  # in run.json: by loss, when a run that had begun was given it
REPEATED_TEST_IMAGES = "test_images_trained_on"  # of the data set in run.json: how many, pixel for pixel
STUDY_FILE = "study.db"
TRIALS_FILE = "trials.jsonl"  # in a folder a loss, as the next
EPOCHS_FILE = "epochs.jsonl"
SEED_RUNS_FILE = "confirm.jsonl"
SEED_EPOCHS_FILE = "confirm/epochs.jsonl"
PACKED = ".xz"  # after the name of a file of lines that was compressed, in a copy that nobody writes to
REPORT_FILE = "report.html"
PROGRESS_FILE = "progress.json"  # where a part of the run stands, for who looks on; nothing depends on it


def best_file(loss: str) -> str:
    """Return the name of the file with the search's best configuration of a loss."""
    return f"best_{loss}.json"


def weights_file(loss: str) -> str:
    """Return the name of the file with the weights of the search's best trial of a loss."""
    return f"best_{loss}.pt"


def winner_file(loss: str) -> str:
    """Return the name of the file with the configuration of a loss that won on fresh seeds."""
    return f"winner_{loss}.json"


def winner_weights_file(loss: str) -> str:
    """Return the name of the file with the weights of a loss's winner, trained on its first paired seed."""
    return f"winner_{loss}.pt"


def loss_file(loss: str) -> str:
    """Return the name of the file with the code of a loss that is not part of this project, as the run used it."""
    return f"loss_{loss}.py"


ENDINGS = ("finished", "stopped", "failed")  # events with which a trial is over
# What an epoch says, as far as there is something to say.
EPOCH_FIELDS = (
    "epoch",
    "val_accuracy",
    "val_loss",
    "train_accuracy",
    "train_loss",
    "margin_rad",
    "margin_raw_rad",
    "margin_per_class_rad",
    "difficulty",
    "competence",
    "scale",
    "learning_rate",
    "seconds",
    "images_per_s",
)

CALIBRATION_FIELDS = ("ece", "mean_confidence")  # of a tested run; the first versions recorded none
PLACE_FIELDS = ("device", "precision", "gpus")  # where a trial ran: processor or GPU, of the body, share of a GPU

ANGLE_BINS = 90  # over [0, pi] rad
_LARGEST = 2.0**63  # no count is near it; beyond it, tables of integers overflow


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST


def _is_number(value: Any) -> bool:
    """A float may be as large as floats are: a loss that runs away is no damage. NaN is none, and no large integer."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _or_none(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def is_good(value: Any) -> bool:
        return value is None or test(value)

    return is_good


Fields = Mapping[str, tuple[Callable[[Any], bool], str, bool]]  # test, what it wants in words, whether it must be there

_TEXT = (_is_text, "text", True)
_COUNT = (_is_count, "a whole number, 0 or more", True)
_SECONDS = (_is_seconds, "seconds, 0 or more", True)
_OBJECT = (_is_object, "an object", True)
_OPTIONAL_TEXT = (_or_none(_is_text), "text or null", False)
_OPTIONAL_COUNT = (_or_none(_is_count), "a whole number, 0 or more", False)
_OPTIONAL_NUMBER = (_or_none(_is_number), "a number or null", False)
_OPTIONAL_SHARE = (_or_none(_is_share), "a share between 0 and 1 or null", False)
_OPTIONAL_NUMBERS = (_or_none(_is_numbers), "a list of numbers or null", False)

# Whatever an epoch says beside its number; NaN is recorded as null.
_MEASURED: Fields = {
    "val_accuracy": _OPTIONAL_SHARE,
    "train_accuracy": _OPTIONAL_SHARE,
    **dict.fromkeys(
        ("val_loss", "train_loss", "margin_rad", "margin_raw_rad", "difficulty", "competence", "scale"),
        _OPTIONAL_NUMBER,
    ),
    **dict.fromkeys(("learning_rate", "images_per_s", "time"), _OPTIONAL_NUMBER),
    **dict.fromkeys(("margin_per_class_rad", "margin_steps_rad"), _OPTIONAL_NUMBERS),
}
_CURVE_FIELDS: Fields = {"epoch": _COUNT, "seconds": (_or_none(_is_seconds), "seconds or null", False), **_MEASURED}
PROGRESS_FIELDS: Fields = {
    "time": (_is_number, "a number", True),
    "part": _TEXT,
    "seconds_left": (_or_none(_is_seconds), "seconds or null", False),
    "later": (_or_none(_is_text), "text or null", False),
    "seconds_with_later": (_or_none(_is_seconds), "seconds or null", False),
}
SEED_EPOCH_FIELDS: Fields = {"run_id": _TEXT, **_CURVE_FIELDS}
TRIAL_EPOCH_FIELDS: Fields = {
    "trial_id": _TEXT,
    "epoch": _COUNT,
    "seconds": _SECONDS,
    **_MEASURED,
    "val_accuracy": (_or_none(_is_share), "a share between 0 and 1 or null", True),
}
TRIAL_EVENT_FIELDS: Fields = {
    "trial_id": _TEXT,
    "event": _TEXT,
    "config": (_or_none(_is_object), "an object or null", False),
    "error": _OPTIONAL_TEXT,
}
RUN_FIELDS: dict[str, Fields] = {
    "settings": {
        "losses": (_is_texts, "a list of names", True),
        "model": _TEXT,
        **dict.fromkeys(("trials", "max_epochs", "grace_epochs"), _COUNT),
        "reduction_factor": (_is_number, "a number", True),
        "study_storage": _OPTIONAL_TEXT,
        "reference": _OPTIONAL_TEXT,
    },
    "dataset": {
        "name": _TEXT,
        "partial": (lambda value: isinstance(value, bool), "true or false", True),
        "train_images": _COUNT,
        "classes": (_or_none(lambda value: _is_texts(value) and value), "a list of names", False),
        "test_images": _OPTIONAL_COUNT,
        REPEATED_TEST_IMAGES: _OPTIONAL_COUNT,
    },
    "confirmation": {
        "seeds": (_is_count, "a whole number, 0 or more", False),
        "history": (lambda value: isinstance(value, list) and all(map(_is_object, value)), "a list of objects", False),
    },
}


def _is_added(value: Any) -> bool:
    return _is_object(value) and all(_is_object(entry) and _is_number(entry.get("time")) for entry in value.values())


RUN_FILE_FIELDS: Fields = {ADDED_LOSSES: (_or_none(_is_added), "times by loss", False)}  # beside RUN_FIELDS
_CANDIDATE_FIELDS: Fields = {"trial_id": _TEXT, "val_accuracy": _OPTIONAL_SHARE}


def _is_candidates(value: Any) -> bool:
    return isinstance(value, list) and all(_is_object(item) and _is_sound(item, _CANDIDATE_FIELDS) for item in value)


WINNER_FIELDS: Fields = {
    "trial_id": _TEXT,
    "config": _OBJECT,
    "candidates": (_or_none(_is_candidates), "a list of candidates", False),
}


def seed_run_fields(classes: int) -> Fields:
    """Return what a line of confirm.jsonl must hold on a data set of so many classes."""

    def is_confusion(value: Any) -> bool:
        return _is_counts(value, (classes, classes))

    def is_by_class(value: Any) -> bool:
        return isinstance(value, list) and len(value) == classes and all(map(_or_none(_is_share), value))

    return {
        "run_id": _TEXT,
        "role": (lambda value: value in ROLES, f"one of {', '.join(ROLES)}", True),
        "arm": _TEXT,
        "pair": _COUNT,
        "seed": _COUNT,
        "trial_id": _OPTIONAL_TEXT,
        "config": _OBJECT,
        "epochs": _COUNT,
        "seconds": _SECONDS,
        "val_accuracy": _OPTIONAL_SHARE,
        "test_accuracy": _OPTIONAL_SHARE,
        "test_loss": _OPTIONAL_NUMBER,
        **dict.fromkeys(CALIBRATION_FIELDS, _OPTIONAL_SHARE),
        "confusion": (_or_none(is_confusion), f"a table of {classes} x {classes} counts or null", False),
        "class_accuracy": (_or_none(is_by_class), f"a list of {classes} shares between 0 and 1 or null", False),
        "correct_bits": _OPTIONAL_TEXT,
        "angle_histograms": (_or_none(_is_histograms), f"histograms of {ANGLE_BINS} counts or null", False),
        "curve": (_or_none(_is_curve), "a list of epochs or null", False),
        "error": _OPTIONAL_TEXT,
        "time": _OPTIONAL_NUMBER,
    }


def _is_counts(value: Any, shape: tuple[int, ...]) -> bool:
    import numpy as np  # who asks a command for help need not wait for it

    try:
        counts = np.array(value)
    except (ValueError, OverflowError):  # ragged, or a number beyond all measure
        return False
    return counts.dtype.kind == "i" and counts.shape == shape and bool((counts >= 0).all())


def _is_histograms(value: Any) -> bool:
    return _is_object(value) and all(
        _is_object(value.get(when)) and all(_is_counts(value[when].get(to), (ANGLE_BINS,)) for to in _ANGLES_TO)
        for when in ("before", "after")
    )


_ANGLES_TO = ("own", "nearest_other")


def _is_curve(value: Any) -> bool:
    return isinstance(value, list) and all(_is_object(item) and _is_sound(item, _CURVE_FIELDS) for item in value)


def _is_sound(record: Mapping[str, Any], fields: Fields) -> bool:
    return _first_fault(record, fields) is None


def _first_fault(record: Mapping[str, Any], fields: Fields) -> str | None:
    for name, (is_good, wanted, needed) in fields.items():
        if name not in record:
            if needed:
                return f"lacks '{name}'"
        elif not is_good(record[name]):
            return f"'{name}' is {_shortened(record[name])}, not {wanted}"
    return None


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def check_fields(place: str, record: Mapping[str, Any], fields: Fields) -> None:
    """Raise RecordError, beginning with the place, unless a record holds what it must."""
    if fault := _first_fault(record, fields):
        raise RecordError(f"{place}: {fault}; the file was damaged or edited")
