"""The configuration: frozen, strict, and the same after a trip through JSON."""

import dataclasses
import json
import math
from typing import Any

import pytest

from trainables.config import PRECISIONS, TrialConfig

ARCFACE: dict[str, Any] = {
    "loss": "arcface",
    "loss_args": {"scale": 8.0, "margin_rad": 0.1},
    "model": "ArcFaceCNN",
    "max_epochs": 3,
}

BAD_VALUES = [
    ("model", "ArcFace"),
    ("max_epochs", 0),
    ("max_epochs", 1.5),
    ("batch_size", 1),
    ("batch_size", 64.0),
    ("embedding_dim", 0),
    ("crop_padding", -1),
    ("crop_padding", 0.5),
    ("learning_rate", 0.0),
    ("learning_rate", math.inf),
    ("learning_rate", math.nan),
    ("head_learning_rate_multiplier", 0.0),
    ("head_learning_rate_multiplier", math.nan),
    ("weight_decay", -1e-9),
    ("weight_decay", math.nan),
    ("label_smoothing", -0.1),
    ("label_smoothing", 1.0),
    ("label_smoothing", math.nan),
    ("momentum", -0.1),
    ("momentum", 1.0),
    ("warmup_fraction", -0.1),
    ("warmup_fraction", 1.0),
    ("precision", "float16"),
    ("seed", -1),
    ("seed", 0.5),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*got"):
        TrialConfig(**{**ARCFACE, name: value})


def test_every_field_has_a_bad_value_but_the_loss() -> None:
    # Its name and its arguments are checked when it is built.
    assert {name for name, _ in BAD_VALUES} == {f.name for f in dataclasses.fields(TrialConfig)} - {
        "loss",
        "loss_args",
        "horizontal_flip",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight_decay", 0.0), ("momentum", 0.0), ("warmup_fraction", 0.0), ("crop_padding", 0), ("label_smoothing", 0.0)]
    + [("precision", precision) for precision in PRECISIONS],
)
def test_the_edge_of_a_range_is_allowed(name: str, value: Any) -> None:
    assert getattr(TrialConfig(**{**ARCFACE, name: value}), name) == value


def test_it_is_frozen() -> None:
    config = TrialConfig(**ARCFACE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_the_callers_dict_may_change_afterwards() -> None:
    loss_args = {"scale": 8.0, "margin_rad": 0.1}
    config = TrialConfig(**{**ARCFACE, "loss_args": loss_args})
    loss_args["scale"] = 9.0
    config.to_dict()["loss_args"]["scale"] = 10.0
    assert config.loss_args["scale"] == 8.0


def test_lists_among_the_loss_arguments_are_frozen_too() -> None:
    margins_rad = [0.1, 0.2]
    config = TrialConfig(**{**ARCFACE, "loss": "arcface_schedule", "loss_args": {"margins_rad": margins_rad}})
    margins_rad.append(0.3)
    config.to_dict()["loss_args"]["margins_rad"].append(0.4)
    assert config.loss_args["margins_rad"] == (0.1, 0.2)
    assert config.to_dict()["loss_args"]["margins_rad"] == [0.1, 0.2]
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown configuration key: batchsize, lr$"):
        TrialConfig.from_dict({**ARCFACE, "lr": 0.1, "batchsize": 8})


def test_it_survives_json() -> None:
    config = TrialConfig(**ARCFACE, learning_rate=0.1 + 0.2, seed=7, horizontal_flip=True, precision="bf16")
    values = config.to_dict()
    assert set(values) == {f.name for f in dataclasses.fields(TrialConfig)}
    again = TrialConfig.from_dict(json.loads(json.dumps(values)))
    assert again == config
    assert again.to_dict() == values
