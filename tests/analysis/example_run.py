"""Writes a whole run folder of invented numbers, for tests and for looking at pages.

python -m tests.analysis.example_run FOLDER --dataset mnist --seeds 10
"""

import argparse
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from search_spaces import SEARCH_SPACES, Parameter
from tune.records import LossRecords, RecordFile, write_json
from tune.rungs import Rungs

START_TIME = 1_760_000_000.0  # unix time at which every example begins
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", "gated", "yoked_replay", "gate_off")
STEPS_PER_EPOCH = 20
CANDIDATES, CANDIDATE_SEEDS = 3, 3

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
    time: float = START_TIME
    finished: list[tuple[str, int, float, dict[str, Any]]] = field(default_factory=list)  # loss, number, accuracy, ...

    def __post_init__(self) -> None:
        levels = LEVELS.get(self.dataset, LEVELS["fashion_mnist"])
        self.best, self.untuned, self.seconds, self.test_images, self.effect_pp, self.sd_pp = levels
        self.classes = CLASSES.get(self.dataset, tuple(str(number) for number in range(10)))
        self.chance = 1 / len(self.classes)

    def now(self, seconds: float) -> float:
        self.time += seconds
        return self.time


def write_example_run(
    folder: Path,
    *,
    dataset: str = "cifar10",
    losses: Sequence[str] = ("arcface", "adaloss", "softmax"),
    seeds: int = 10,
    trials: int = 12,
    max_epochs: int = 16,
    controls: bool = True,
    robustness: int = 0,
    effect_pp: float | None = None,
    sd_pp: float | None = None,
    seed: int = 0,
    finished: bool = True,
    study: bool = True,
) -> Path:
    """Write a run as a search with its confirmation leaves it. Every number is invented and says nothing of any loss.

    Args:
        folder: of the run; made, and must not hold a run yet.
        dataset: any name; sizes and accuracies are plausible for the built-in ones.
        losses: searched ones.
        seeds: paired seeds of the confirmation; 0 for a search without one.
        trials: per loss.
        max_epochs: of a trial.
        controls: whether the variants of AdaLoss were run; needs "adaloss" among the losses.
        robustness: random draws per loss; 0 for none.
        effect_pp: true mean of AdaLoss - ArcFace in percentage points; by data set where None.
        sd_pp: standard deviation of the paired differences in percentage points; likewise.
        seed: of all draws; equal arguments give equal numbers.
        finished: False leaves a search whose last trials run and a confirmation with a third of its seeds, one run
            half trained, every file cut off in the middle of a line.
        study: whether to write ``study.db``, which takes most of the time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assert not (folder / "run.json").exists(), f"{folder} holds a run"
    example = Example(folder, dataset, tuple(losses), max_epochs, np.random.default_rng(seed))
    grace = max(1, max_epochs // 8)
    info = _info(example, trials, grace, seed)
    write_json(folder / "run.json", info)
    for loss in losses:
        _search(example, loss, trials, grace, finished, study)
    if seeds:
        info["confirmation"] = _confirmation(example, seeds, controls, robustness)
        info["dataset"]["test_images"] = example.test_images
        write_json(folder / "run.json", info)
        example.effect_pp = example.effect_pp if effect_pp is None else effect_pp
        example.sd_pp = example.sd_pp if sd_pp is None else sd_pp
        _Confirmation(example, seeds if finished else math.ceil(seeds / 3), finished).write(controls, robustness)
    if not finished:
        for path in folder.rglob("*.jsonl"):
            with path.open("a") as file:
                file.write('{"epoch": 1, "val_acc')
    return folder


def _info(example: Example, trials: int, grace: int, seed: int) -> dict[str, Any]:
    return {
        "format": 1,
        "settings": {
            "dataset": example.dataset,
            "data_dir": None,
            "losses": list(example.losses),
            "model": "ArcFaceCNN_CIFAR10" if example.dataset.startswith("cifar") else "ArcFaceCNN",
            "trials": trials,
            "max_epochs": example.max_epochs,
            "grace_epochs": grace,
            "reduction_factor": 3.0,
            "time_budget_min": None,
            "train_size": None,
            "batch_size": 128,
            "precision": "auto",
            "cpus_per_trial": None,
            "gpus_per_trial": None,
            "max_concurrent": None,
            "output": str(example.folder.parent),
            "name": example.folder.name,
            "storage": None,
            "address": None,
            "seed": seed,
        },
        "dataset": {
            "name": example.dataset,
            "source": "invented",
            "fingerprint": "0" * 64,
            "split_sha256": "0" * 64,
            "train_images": 45_000,
            "validation_images": 5_000,
            "classes": list(example.classes),
            "partial": False,
        },
        "search_spaces": {
            loss: {"dimensions": len(SEARCH_SPACES[loss].parameters), "parameters": SEARCH_SPACES[loss].describe()}
            for loss in example.losses
        },
        "invocations": [
            {
                "time": START_TIME,
                "command": f"tune/run_search.py --dataset {example.dataset} --trials {trials}",
                "resumed": False,
                "versions": {"python": "3.11.0", "optuna": "5.0.0"},
                "git": {"revision": "0" * 40, "dirty": False},
                "hardware": {"host": "example", "platform": "Linux", "cpu": "invented", "cpus": 2, "gpus": []},
                "slots": {"cpus_per_trial": 1.0, "gpus_per_trial": 0, "concurrent": 2, "nodes": 1},
            }
        ],
    }


def _confirmation(example: Example, seeds: int, controls: bool, robustness: int) -> dict[str, Any]:
    asked = {
        "seeds": seeds,
        "candidates": CANDIDATES,
        "candidate_seeds": CANDIDATE_SEEDS,
        "controls": controls,
        "robustness": robustness,
    }
    return {**asked, "history": [{"time": example.time, **asked}]}


# --- Training runs ---------------------------------------------------------------------------------------------------


def _epochs(example: Example, shape: Shape, count: int, *, validated: bool) -> list[dict[str, Any]]:
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
            row |= {"val_accuracy": accuracy, "val_loss": _loss(accuracy)}
        row |= {"train_accuracy": train, "train_loss": 1.2 * _loss(train)}
        if shape.margin_rad is not None:
            row |= _margins(shape, way, train, rng)
        seconds = float(example.seconds * rng.uniform(0.95, 1.1))
        peak = min(epoch / max(count * 0.2, 1), (count - epoch + 1) / max(count * 0.8, 1))
        row |= {"learning_rate": 0.2 * min(peak, 1.0), "seconds": seconds, "images_per_s": 45_000 / seconds}
        rows.append(row)
    return rows


def _loss(accuracy: float) -> float:
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


def _shape(example: Example, loss: str, config: dict[str, Any], final: float) -> Shape:
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


def _draw_all(loss: str, rng: np.random.Generator) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for parameter in SEARCH_SPACES[loss].parameters:
        if parameter.when is None or drawn[parameter.when[0]] == parameter.when[1]:
            drawn[parameter.name] = _draw(parameter, rng)
    return drawn


def _config(loss: str, params: dict[str, Any]) -> dict[str, Any]:
    return SEARCH_SPACES[loss].suggest(FixedTrial(params))  # type: ignore[arg-type]


def _quality(example: Example, config: dict[str, Any]) -> float:
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
    """Return a draw that gets better as a sampler learns: the best of more and more random ones."""
    draws = [_draw_all(loss, example.rng) for _ in range(1 + number // 2)]
    return max(draws, key=lambda params: _quality(example, _config(loss, params)))


def _search(example: Example, loss: str, trials: int, grace: int, finished: bool, study: bool) -> None:
    records, rungs = LossRecords(example.folder / loss), Rungs(grace, example.max_epochs, 3.0)
    frozen = []
    for number in range(trials):
        params = SEARCH_SPACES[loss].first_points[number] if number < 2 else _sampled(example, loss, number)
        config = _config(loss, params)
        breaks = number == 4  # one trial of each loss diverges
        running = not finished and number == trials - 1
        trial_id = f"{loss}-{number:04d}"
        records.event(trial_id, "started", config=config)
        values: dict[int, float] = {}
        shape = _shape(example, loss, config, _quality(example, config))
        event = "finished"
        for row in _epochs(example, shape, example.max_epochs, validated=True):
            if breaks and row["epoch"] == 2:
                row |= {"val_accuracy": math.nan, "val_loss": math.nan, "train_loss": math.nan}
            records.epoch(trial_id, {**row, "time": example.now(row["seconds"])})
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
        _write_study(example, loss, frozen)


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


def _write_study(example: Example, loss: str, trials: list[FrozenTrial]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{example.folder / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name=f"{example.dataset}-{loss}", direction="maximize")
    with contextlib.closing(storage.engine.raw_connection()) as connection:
        connection.execute("PRAGMA synchronous = OFF")
    study.add_trials(trials)


# --- Confirmation ----------------------------------------------------------------------------------------------------


class _Confirmation:
    """Writes candidates, winners, untuned runs, controls and random draws, seed by seed."""

    def __init__(self, example: Example, seeds: int, finished: bool) -> None:
        self.example, self.seeds, self.finished = example, seeds, finished
        self.effect, self.sd = example.effect_pp / 100, example.sd_pp / 100
        self.file = RecordFile(example.folder / "confirm.jsonl")
        self.epochs = RecordFile(example.folder / "confirm" / "epochs.jsonl")
        self.shared = example.rng.normal(0, 0.02 * (1 - example.best), size=seeds)  # what a seed does to every arm
        self.winners: dict[str, tuple[str, dict[str, Any]]] = {}

    def write(self, controls: bool, robustness: int) -> None:
        for loss in self.example.losses:
            self._candidates(loss)
        for pair in range(self.seeds):
            # Half the variance of a difference comes from either side; the common part cancels.
            for loss, (trial_id, config) in self.winners.items():
                self._tested("winner", loss, pair, trial_id, config, self._level(loss))
            for loss in ("arcface", "adaloss"):
                if loss in self.example.losses:
                    lost = self.example.best - self.example.untuned
                    self._tested("untuned", loss, pair, None, _untuned(loss), self._level(loss) - lost)
            if controls and "adaloss" in self.winners:
                for place, arm in enumerate(CONTROLS):
                    trial_id, config = self.winners["adaloss"]
                    level = self._level("adaloss") - (-1, 0, 1, 0, 2, 5)[place] * 0.01 * (1 - self.example.best)
                    self._tested("control", arm, pair, trial_id, _control(arm, config), level)
        for draw in range(robustness):
            self._draw(draw)
        if not self.finished:
            self._half_trained()

    def _level(self, loss: str) -> float:
        gain = {"arcface": 0.0, "adaloss": self.effect, "adaloss_per_class": 0.5 * self.effect}
        return self.example.best + gain.get(loss, -self.effect)

    def _candidates(self, loss: str) -> None:
        mine = [item for item in self.example.finished if item[0] == loss]
        top = sorted(mine, key=lambda item: (-item[2], item[1]))[:CANDIDATES]
        summary = []
        for _, number, accuracy, config in top:
            trial_id, reached, used = f"{loss}-{number:04d}", [], []
            for pair in range(CANDIDATE_SEEDS):
                value = _of_images(accuracy + self.example.rng.normal(-0.002, 0.002), 5_000)
                curve = self._curve(f"candidate-{trial_id}-{100_000 + pair}", loss, config, value, validated=True)
                common = self._common("candidate", loss, pair, 100_000 + pair, trial_id, config, curve)
                run_id = f"candidate-{trial_id}-{100_000 + pair}"
                self.file.append({"run_id": run_id, **common, "val_accuracy": value, "test_accuracy": None})
                reached.append(value)
                used.append(100_000 + pair)
            summary.append({"trial_id": trial_id, "val_accuracy": float(np.mean(reached)), "seeds": used})
        if not summary:
            return
        best = max(summary, key=lambda entry: entry["val_accuracy"])
        config = next(item[3] for item in top if f"{loss}-{item[1]:04d}" == best["trial_id"])
        self.winners[loss] = (best["trial_id"], config)
        content = {"trial_id": best["trial_id"], "config": config, "candidates": summary}
        write_json(self.example.folder / f"winner_{loss}.json", content)

    def _tested(
        self, role: str, arm: str, pair: int, trial_id: str | None, config: dict[str, Any], level: float
    ) -> None:
        example, seed = self.example, 200_000 + pair
        own = example.rng.normal(0, self.sd / math.sqrt(2))
        accuracy = _of_images(level + self.shared[pair] + own, example.test_images)
        run_id = f"{role}-{arm}-{seed}"
        curve = self._curve(run_id, config["loss"], config, accuracy, validated=False)
        self.file.append(
            {
                "run_id": run_id,
                **self._common(role, arm, pair, seed, trial_id, config, curve),
                "val_accuracy": None,
                "test_accuracy": accuracy,
                "test_loss": _loss(accuracy),
                "confusion": _confusion(example, accuracy),
                "angle_histograms": _angles(example, config["loss"]),
            }
        )

    def _half_trained(self) -> None:
        loss, (_, config) = next(iter(self.winners.items()))
        shape = _shape(self.example, loss, config, self.example.best)
        for row in _epochs(self.example, shape, self.example.max_epochs, validated=False)[
            : self.example.max_epochs // 2
        ]:
            run_id = f"winner-{loss}-{200_000 + self.seeds}"
            self.epochs.append({"run_id": run_id, "time": self.example.now(row["seconds"]), **row})

    def _draw(self, draw: int) -> None:
        """Write one random draw of every loss and of the gated ArcFace: shared values equal, no early stopping."""
        example, seed = self.example, 300_000 + draw
        drawn = _draw_all("adaloss", example.rng)
        arms = [*example.losses, *(["gated"] if "adaloss" in example.losses else [])]
        for arm in arms:
            loss = "adaloss" if arm == "gated" else arm
            names = {parameter.name for parameter in SEARCH_SPACES[loss].parameters}
            config = _config(loss, {name: value for name, value in drawn.items() if name in names})
            if arm == "gated":
                config["loss_args"] |= {"rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0}
            value = _of_images(_quality(example, config), 5_000)
            run_id = f"robustness-{arm}-{seed}"
            fails = arm == "arcface" and draw % 7 == 3  # some draws do not even end
            curve = self._curve(run_id, loss, config, value, validated=True)[: 2 if fails else None]
            common = self._common("robustness", arm, draw, seed, None, config, curve)
            common["error"] = "diverged: the loss was not finite in epoch 2" if fails else None
            accuracy = None if fails else value
            self.file.append({"run_id": run_id, **common, "val_accuracy": accuracy, "test_accuracy": None})

    def _curve(
        self, run_id: str, loss: str, config: dict[str, Any], final: float, *, validated: bool
    ) -> list[dict[str, Any]]:
        """Return the epochs of a run, and append them as they happen."""
        shape = _shape(self.example, loss, config, final)
        curve = _epochs(self.example, shape, self.example.max_epochs, validated=validated)
        for row in curve:
            steps = {}
            if run_id.startswith("winner-adaloss"):
                spread = self.example.rng.normal(0, 0.004, STEPS_PER_EPOCH)
                steps = {"margin_steps_rad": np.clip(row["margin_rad"] + spread, 0, None).tolist()}
            self.epochs.append({"run_id": run_id, "time": self.example.now(row["seconds"]), **row, **steps})
        return curve

    def _common(
        self,
        role: str,
        arm: str,
        pair: int,
        seed: int,
        trial_id: str | None,
        config: dict[str, Any],
        curve: list[dict[str, Any]],
    ) -> dict[str, Any]:
        return {
            "role": role,
            "arm": arm,
            "pair": pair,
            "seed": seed,
            "trial_id": trial_id,
            "config": config,
            "epochs": len(curve),
            "seconds": sum(row["seconds"] for row in curve),
            "test_loss": None,
            "confusion": None,
            "angle_histograms": None,
            "curve": curve,
            "error": None,
            "time": self.example.time,
        }


def _untuned(loss: str) -> dict[str, Any]:
    config = _config(loss, SEARCH_SPACES[loss].first_points[0])
    return {**config, "loss_args": {**config["loss_args"], "scale": 64.0, "margin_rad": 0.5}}


def _control(arm: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a variant of the AdaLoss winner; fixed margins where the real ones come from its records."""
    arguments = config["loss_args"]
    if arm == "gated":
        return {**config, "loss_args": {**arguments, "rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0}}
    if arm == "gate_off":
        return {**config, "loss_args": {**arguments, "competence_gate": False}}
    margin = arguments["margin_rad"] + (0.08 if arm == "mean_margin" else 0.15)
    return {**config, "loss": "arcface", "loss_args": {"scale": arguments["scale"], "margin_rad": margin}}


def _of_images(accuracy: float, images: int) -> float:
    """Return the nearest accuracy that so many images can have."""
    return float(np.clip(round(accuracy * images), 0, images) / images)


def _confusion(example: Example, accuracy: float) -> list[list[int]]:
    """Return counts, rows true class, whose diagonal has the accuracy; half of a class's errors go to its neighbour."""
    count = len(example.classes)
    images = np.full(count, example.test_images // count)
    images[: example.test_images % count] += 1
    errors = example.rng.multivariate_hypergeometric(images, example.test_images - round(accuracy * images.sum()))
    table = np.zeros((count, count), int)
    for row in range(count):
        share = np.full(count, 0.5 / (count - 2))
        share[[row, (row + 1) % count]] = 0.0, 0.5
        table[row] = example.rng.multinomial(errors[row], share / share.sum())
        table[row, row] = images[row] - errors[row]
    return table.tolist()


def _angles(example: Example, loss: str) -> dict[str, Any]:
    own = {"softmax": 0.62, "arcface": 0.50}.get(loss, 0.45)
    means = {"before": (0.95, 1.02), "after": (own, 1.35)}
    return {
        when: {
            to: _histogram(example, mean, 0.12 if when == "before" else 0.16)
            for to, mean in zip(("own", "nearest_other"), pair, strict=True)
        }
        for when, pair in means.items()
    }


def _histogram(example: Example, mean: float, deviation: float) -> list[int]:
    angles = np.clip(example.rng.normal(mean, deviation, example.test_images), 0, math.pi)
    return np.histogram(angles, bins=90, range=(0, math.pi))[0].tolist()


def main() -> None:
    """Write a run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--loss", action="append", dest="losses")
    for name, default in (("seeds", 10), ("trials", 12), ("max-epochs", 16), ("robustness", 0), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--effect-pp", type=float)
    parser.add_argument("--sd-pp", type=float)
    parser.add_argument("--no-controls", action="store_false", dest="controls")
    parser.add_argument("--running", action="store_false", dest="finished")
    options = vars(parser.parse_args())
    options["losses"] = options["losses"] or ("arcface", "adaloss", "softmax")
    print(write_example_run(options.pop("folder"), **options))


if __name__ == "__main__":
    main()
