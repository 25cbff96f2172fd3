"""Invented training runs and the searches that are made of them; see example_run."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search_spaces import SEARCH_SPACES, Parameter
from tests.analysis.example_study import write_study
from tune.records import LossRecords, write_json
from tune.search.rungs import Rungs

NODES = ("10.0.0.1", "10.0.0.2")
START_TIME = 1_760_000_000.0  # unix time at which every example begins

CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": tuple(f"class {number}" for number in range(100)),
}
# best accuracy, accuracy at untuned defaults, seconds an epoch, test images, effect and its deviation in pp
LEVELS = {
    "mnist": (0.9935, 0.9890, 12.0, 10_000, 0.10, 0.06),
    "fashion_mnist": (0.930, 0.920, 12.0, 10_000, 0.3, 0.2),
    "cifar10": (0.900, 0.862, 25.0, 10_000, 0.4, 0.3),
    "cifar100": (0.660, 0.600, 25.0, 10_000, 0.8, 0.6),
    "digits": (0.985, 0.970, 0.3, 297, 0.5, 0.4),
}


@dataclass
class Shape:
    """How one training run goes: its last accuracy, how fast it gets there and what its margin does.

    Args:
        final: accuracy after the last epoch.
        chance: accuracy before the first.
        tau_epochs: epochs after which a 1/e-th of the way is left.
        margin_rad: (start, end) of the margin before the competence gate, None where there is no margin.
        gated: whether the competence gate multiplies it.
        classes: number of margins where there is one a class, else 0.
    """

    final: float
    chance: float
    tau_epochs: float
    margin_rad: tuple[float, float] | None = None
    gated: bool = False
    classes: int = 0


@dataclass
class Example:
    """What the writer keeps at hand."""

    folder: Path
    dataset: str
    losses: tuple[str, ...]
    max_epochs: int
    rng: np.random.Generator
    clocks: list[float] = field(default_factory=lambda: [START_TIME] * len(NODES))  # of slots, one a node
    slot: int = 0
    finished: list[tuple[str, int, float, dict[str, Any]]] = field(default_factory=list)  # loss, number, accuracy, ...

    def __post_init__(self) -> None:
        levels = LEVELS.get(self.dataset, LEVELS["fashion_mnist"])
        self.best, self.untuned, self.seconds, self.test_images, self.effect_pp, self.sd_pp = levels
        self.classes = CLASSES.get(self.dataset, tuple(str(number) for number in range(10)))
        self.chance = 1 / len(self.classes)

    @property
    def time(self) -> float:
        return max(self.clocks)

    def place(self, seconds: float) -> dict[str, Any]:
        """Return when and where an epoch ends that takes so long."""
        self.clocks[self.slot] += seconds
        return {"time": self.clocks[self.slot], "node_ip": NODES[self.slot]}

    def take_slot(self) -> None:
        """Let what comes run where it is free first."""
        self.slot = min(range(len(self.clocks)), key=self.clocks.__getitem__)


# --- Training runs ---------------------------------------------------------------------------------------------------


def epochs_of_run(example: Example, shape: Shape, count: int, *, validated: bool) -> list[dict[str, Any]]:
    """Return the epochs of a run whose accuracy after the last is exactly `shape.final`."""
    rng, rows = example.rng, []
    full = 1 - math.exp(-count / shape.tau_epochs)
    for epoch in range(1, count + 1):
        way = (1 - math.exp(-epoch / shape.tau_epochs)) / full  # 0 at the start, 1 after the last epoch
        noise = 0.0 if epoch == count else rng.normal(0, 0.15 * (1 - way) * max(shape.final - shape.chance, 0.01))
        accuracy = float(np.clip(shape.chance + (shape.final - shape.chance) * way + noise, 0.0, 1.0))
        train = float(np.clip(accuracy + 0.03 * way * (shape.final - shape.chance), 0.0, 1.0))
        row: dict[str, Any] = {"epoch": epoch}
        if validated:
            row |= {"val_accuracy": accuracy, "val_loss": loss_at(accuracy)}
        row |= {"train_accuracy": train, "train_loss": 1.2 * loss_at(train)}
        if shape.margin_rad is not None:
            row |= _margins(shape, way, train, rng)
        seconds = float(example.seconds * rng.uniform(0.95, 1.1))
        peak = min(epoch / max(count * 0.2, 1), (count - epoch + 1) / max(count * 0.8, 1))
        row |= {"learning_rate": 0.2 * min(peak, 1.0), "seconds": seconds, "images_per_s": 45_000 / seconds}
        rows.append(row)
    return rows


def loss_at(accuracy: float) -> float:
    return float(-math.log(max(min(accuracy, 0.999), 1e-3)) + 0.02)


def _margins(shape: Shape, way: float, train: float, rng: np.random.Generator) -> dict[str, Any]:
    assert shape.margin_rad is not None
    start, end = shape.margin_rad
    raw = start + (end - start) * way
    if not shape.gated:
        return {"margin_rad": raw}
    row: dict[str, Any] = {"margin_rad": train * raw, "margin_raw_rad": raw, "difficulty": 1 - train}
    row["competence"] = train
    if shape.classes:
        spread = np.linspace(0.7, 1.3, shape.classes) + rng.normal(0, 0.01, shape.classes)
        row["margin_per_class_rad"] = (train * raw * spread).tolist()
    return row


def shape_of(example: Example, loss: str, config: dict[str, Any], final: float) -> Shape:
    """Return how a run of a loss goes that ends with an accuracy of `final`."""
    margin = config["loss_args"].get("margin_rad")
    adaptive = loss.startswith("adaloss")
    return Shape(
        final,
        example.chance,
        tau_epochs=example.max_epochs / (6.0 if adaptive else 5.0),
        margin_rad=None if margin is None else (margin, margin + 0.15 if adaptive else margin),
        gated=adaptive,
        classes=len(example.classes) if loss == "adaloss_per_class" else 0,
    )


# --- Search ----------------------------------------------------------------------------------------------------------


def _draw(parameter: Parameter, rng: np.random.Generator) -> Any:
    match parameter.distribution:
        case FloatDistribution(low=low, high=high, log=True):
            return float(np.clip(math.exp(rng.uniform(math.log(low), math.log(high))), low, high))
        case FloatDistribution(low=low, high=high):
            return float(rng.uniform(low, high))
        case CategoricalDistribution(choices=choices):
            return choices[rng.integers(len(choices))]
    raise TypeError(parameter.distribution)


def draw_all(loss: str, rng: np.random.Generator) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for parameter in SEARCH_SPACES[loss].parameters:
        if parameter.when is None or drawn[parameter.when[0]] == parameter.when[1]:
            drawn[parameter.name] = _draw(parameter, rng)
    return drawn


def config_of(loss: str, params: dict[str, Any]) -> dict[str, Any]:
    return SEARCH_SPACES[loss].suggest(FixedTrial(params))  # type: ignore[arg-type]


def quality(example: Example, config: dict[str, Any]) -> float:
    """Return the accuracy that a configuration comes to; a strong fixed margin at a large scale ends at chance."""
    arguments = config["loss_args"]
    loss = (
        abs(math.log10(config["learning_rate"] / 0.15)) * 0.06 + abs(math.log10(config["weight_decay"] / 5e-4)) * 0.01
    )
    loss += abs(math.log10(arguments.get("scale", 12.0) / 12.0)) * 0.03 + abs(example.rng.normal(0, 0.004))
    if config["loss"] == "arcface" and arguments["scale"] * arguments["margin_rad"] > 12:
        return example.chance
    return example.best * (1 - loss * (1 - example.best + 0.05) * 6)


def _sampled(example: Example, loss: str, number: int) -> dict[str, Any]:
    """Return a draw that gets better as a sampler learns: the best of more and more random ones, up to 50."""
    draws = [draw_all(loss, example.rng) for _ in range(min(1 + number // 2, 10))]
    return max(draws, key=lambda params: quality(example, config_of(loss, params)))


def write_search(example: Example, loss: str, trials: int, grace: int, finished: bool, study: bool) -> None:
    records, rungs = LossRecords(example.folder / loss), Rungs(grace, example.max_epochs, 3.0)
    frozen = []
    for number in range(trials):
        params = SEARCH_SPACES[loss].first_points[number] if number < 2 else _sampled(example, loss, number)
        config = config_of(loss, params)
        breaks = number == 4  # one trial of each loss diverges
        running = not finished and number == trials - 1
        trial_id = f"{loss}-{number:04d}"
        example.take_slot()
        records.event(trial_id, "started", config=config)
        values: dict[int, float] = {}
        shape = shape_of(example, loss, config, quality(example, config))
        event = "finished"
        for row in epochs_of_run(example, shape, example.max_epochs, validated=True):
            if breaks and row["epoch"] == 2:
                row |= {"val_accuracy": math.nan, "val_loss": math.nan, "train_loss": math.nan}
            records.epoch(trial_id, {**row, **example.place(row["seconds"])})
            if breaks and row["epoch"] == 2:
                event = "failed"
                rungs.diverged(number, 2)
                break
            values[row["epoch"]] = row["val_accuracy"]
            if running:
                if row["epoch"] > example.max_epochs // 2:
                    break
            elif row["epoch"] < example.max_epochs and not rungs.goes_on(number, row["epoch"], row["val_accuracy"]):
                event = "stopped"
                break
        last = values[max(values)]
        if running:
            continue
        details = {"error": "diverged: the loss was not finite in epoch 2"} if event == "failed" else {}
        records.event(trial_id, event, epoch=max(values), val_accuracy=last, **details)
        if event == "finished":
            example.finished.append((loss, number, last, config))
        frozen.append(_frozen(loss, trial_id, params, values, event))
    best = max((item for item in example.finished if item[0] == loss), key=lambda item: item[2], default=None)
    if best is not None:
        content = {"trial_id": f"{loss}-{best[1]:04d}", "val_accuracy": best[2], "epoch": example.max_epochs}
        write_json(example.folder / f"best_{loss}.json", {**content, "config": best[3]})
    if study:
        write_study(example.folder / "study.db", f"{example.dataset}-{loss}", frozen)


_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


def _frozen(loss: str, trial_id: str, params: dict[str, Any], values: dict[int, float], event: str) -> FrozenTrial:
    by_name = {parameter.name: parameter.distribution for parameter in SEARCH_SPACES[loss].parameters}
    return create_trial(
        state=_STATES[event],
        value=values[max(values)] if event == "finished" else None,
        params=params,
        distributions={name: by_name[name] for name in params},
        intermediate_values=values,
        user_attrs={"trial_id": trial_id, **({"reason": "below the rung's cutoff"} if event == "stopped" else {})},
    )
