"""An invented confirmation on paired seeds; see example_run."""

import base64
import math
from typing import Any

import numpy as np

from search_spaces import SEARCH_SPACES
from tests.analysis.example_trials import Example, config_of, draw_all, epochs_of_run, loss_at, quality, shape_of
from tune.records import RecordFile, write_json

CONTROLS = ("mean_margin", "final_margin", "linear_ramp", "gated", "yoked_replay", "gate_off")
STEPS_PER_EPOCH = 20
CANDIDATES, CANDIDATE_SEEDS = 3, 3


class ConfirmationWriter:
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
                "test_loss": loss_at(accuracy),
                **_of_test_images(_confusion(example, accuracy), seed),
                "angle_histograms": _angles(example, config["loss"]),
            }
        )

    def _half_trained(self) -> None:
        loss, (_, config) = next(iter(self.winners.items()))
        shape = shape_of(self.example, loss, config, self.example.best)
        self.example.take_slot()
        for row in epochs_of_run(self.example, shape, self.example.max_epochs, validated=False)[
            : self.example.max_epochs // 2
        ]:
            run_id = f"winner-{loss}-{200_000 + self.seeds}"
            self.epochs.append({"run_id": run_id, **self.example.place(row["seconds"]), **row})

    def _draw(self, draw: int) -> None:
        """Write one random draw of every loss and of the gated ArcFace: shared values equal, no early stopping."""
        example, seed = self.example, 300_000 + draw
        drawn = draw_all("adaloss", example.rng)
        arms = [*example.losses, *(["gated"] if "adaloss" in example.losses else [])]
        for arm in arms:
            loss = "adaloss" if arm == "gated" else arm
            names = {parameter.name for parameter in SEARCH_SPACES[loss].parameters}
            config = config_of(loss, {name: value for name, value in drawn.items() if name in names})
            if arm == "gated":
                config["loss_args"] |= {"rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0}
            value = _of_images(quality(example, config), 5_000)
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
        shape = shape_of(self.example, loss, config, final)
        self.example.take_slot()
        curve = epochs_of_run(self.example, shape, self.example.max_epochs, validated=validated)
        for row in curve:
            steps = {}
            if run_id.startswith("winner-adaloss"):
                spread = self.example.rng.normal(0, 0.004, STEPS_PER_EPOCH)
                steps = {"margin_steps_rad": np.clip(row["margin_rad"] + spread, 0, None).tolist()}
            self.epochs.append({"run_id": run_id, **self.example.place(row["seconds"]), **row, **steps})
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
            "ece": None,
            "mean_confidence": None,
            "confusion": None,
            "class_accuracy": None,
            "correct_bits": None,
            "angle_histograms": None,
            "curve": curve,
            "error": None,
            "time": self.example.time,
        }


def _untuned(loss: str) -> dict[str, Any]:
    config = config_of(loss, SEARCH_SPACES[loss].first_points[0])
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


def _of_test_images(confusion: list[list[int]], seed: int) -> dict[str, Any]:
    """Return what goes with counts: accuracy by class, and images of which the same ones are hard in all runs."""
    correct, rng = [], np.random.default_rng(seed)
    for label, row in enumerate(confusion):
        difficulty = np.linspace(0, 1, sum(row)) + rng.normal(0, 0.1, size=sum(row))
        correct.append(np.argsort(np.argsort(difficulty)) < row[label])
    bits = base64.b64encode(np.packbits(np.concatenate(correct)).tobytes()).decode()
    by_class = [row[label] / sum(row) for label, row in enumerate(confusion)]
    total = sum(map(sum, confusion))
    accuracy = sum(row[label] for label, row in enumerate(confusion)) / total
    ece = 0.02 + 0.01 * float(rng.random())
    calibration = {"ece": ece, "mean_confidence": max(0.0, accuracy - ece)}
    return {"confusion": confusion, "class_accuracy": by_class, "correct_bits": bits, **calibration}


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
