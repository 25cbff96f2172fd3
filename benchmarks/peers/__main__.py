"""Wall time until a search knows a good configuration, beside the recipes that a user would otherwise write.

    python -m benchmarks.peers --data-dir DATA [--images 10000] [--trials 16] [--epochs 6] [--seeds 3] [--json]

Three searches take turns, each a program of its own from its start: the product; Ray Tune as its documentation shows
it (a function as trainable, torchvision's transforms, a DataLoader, ASHA, OptunaSearch, an actor a trial); and Optuna
as its documentation shows it (one process, MedianPruner). CNN, loss, space, first points, images and cores are alike.
What is measured is the time until the best validation accuracy so far is at least what the worse of the two had at its
end, so that neither is waited for beyond what the other reaches.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.recipe import LOSS, Task
from trainables.processor import cpu_name
from tune.records import read_records
from tune.records.schema import EPOCHS_FILE

PROJECT = Path(__file__).resolve().parents[2]
RECIPES = {"ray tune": "benchmarks.peers.ray_tune", "optuna": "benchmarks.peers.optuna_alone"}
TARGET = 1 / 3


@dataclass(frozen=True)
class Search:
    """How a search went.

    Args:
        wall_s: from the program's start to its end.
        epochs: that were trained.
        known: (seconds from the start, validation accuracy) of each epoch, in the order of time.
    """

    wall_s: float
    epochs: int
    known: tuple[tuple[float, float], ...]

    @property
    def best(self) -> float:
        """The best accuracy at the end."""
        return max(accuracy for _, accuracy in self.known)

    def seconds_to(self, accuracy: float) -> float:
        """Return when an accuracy was first reached; it was."""
        return next(seconds for seconds, found in self.known if found >= accuracy)


def ratio(ours: Search, theirs: Search) -> float:
    """Return our time over theirs, to the accuracy that the worse of the two has at its end."""
    accuracy = min(ours.best, theirs.best)
    return ours.seconds_to(accuracy) / theirs.seconds_to(accuracy)


def product(task: Task, folder: Path) -> Search:
    """Search with the product."""
    options = {
        "dataset": task.dataset,
        "data-dir": task.data_dir,
        "loss": LOSS,
        "model": task.model,
        "train-size": task.images,
        "trials": task.trials,
        "max-epochs": task.epochs,
        "grace-epochs": task.grace_epochs,
        "reduction-factor": task.reduction_factor,
        "seed": task.seed,
        "address": "local",
        "output": folder,
        "name": "run",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    started, wall_s = _run([str(PROJECT / "tune" / "run_search.py"), *words, "--no-confirm"])
    return _search(started, wall_s, read_records(folder / "run" / LOSS / EPOCHS_FILE))


def recipe(name: str, task: Task, folder: Path) -> Search:
    """Search as one of the recipes does."""
    lines = folder / "lines.jsonl"
    started, wall_s = _run(["-m", RECIPES[name], json.dumps(asdict(task)), str(lines)])
    return _search(started, wall_s, read_records(lines))


def _run(words: Sequence[str]) -> tuple[float, float]:
    """Run a program of this interpreter, and return when it began and how long it took."""
    variables = {name: value for name, value in os.environ.items() if name not in {"RAY_ADDRESS", "ADALOSS_DATA"}}
    started = time.time()
    done = subprocess.run([sys.executable, *words], cwd=PROJECT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return started, time.time() - started


def _search(started: float, wall_s: float, records: Iterable[dict[str, float]]) -> Search:
    known = sorted((record["time"] - started, record["val_accuracy"]) for record in records)
    return Search(wall_s, len(known), tuple((seconds, accuracy) for seconds, accuracy in known if accuracy == accuracy))


def table(found: Sequence[dict[str, Search]]) -> str:
    """Return the comparison of each seed, and the medians."""
    lines = [
        "| seed | search | whole, s | epochs | best | to the worse end: theirs, ours, s | ours / theirs |",
        "|" + "---|" * 7,
    ]
    ratios: dict[str, list[float]] = {name: [] for name in RECIPES}
    for seed, searches in enumerate(found):
        ours = searches["product"]
        lines.append(f"| {seed} | product | {ours.wall_s:.0f} | {ours.epochs} | {100 * ours.best:.2f} % | | |")
        for name in RECIPES:
            theirs, accuracy = searches[name], min(ours.best, searches[name].best)
            ratios[name].append(ratio(ours, theirs))
            times = f"{theirs.seconds_to(accuracy):.0f}, {ours.seconds_to(accuracy):.0f}"
            lines.append(
                f"| {seed} | {name} | {theirs.wall_s:.0f} | {theirs.epochs} | {100 * theirs.best:.2f} % | {times} | "
                f"{ratios[name][-1]:.2f} |"
            )
    for name, values in ratios.items():
        verdict = "passed" if statistics.median(values) <= TARGET else "missed"
        lines.append(f"\nproduct / {name}: median {statistics.median(values):.2f} (target {TARGET:.2f}): {verdict}")
    return "\n".join(lines)


def main(
    data_dir: Annotated[str, typer.Option(help="Where the data sets lie.")],
    images: Annotated[int, typer.Option(help="To train on.")] = 10_000,
    trials: Annotated[int, typer.Option(help="Of each search.")] = 16,
    epochs: Annotated[int, typer.Option(help="Of a full trial.")] = 6,
    seeds: Annotated[int, typer.Option(help="Searches of each kind.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the time to a good configuration with that of the usual recipes."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for seed in range(seeds):
        task = Task(data_dir, images, trials, epochs, 2, 3, seed, cores)
        sides = ["product", *RECIPES]
        searches = {}
        for side in sides[seed % len(sides) :] + sides[: seed % len(sides)]:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                searches[side] = product(task, place) if side == "product" else recipe(side, task, place)
            best = f"{100 * searches[side].best:.2f} %"
            print(f"seed {seed}, {side}: {searches[side].wall_s:.0f} s, best {best}", file=sys.stderr, flush=True)
        found.append(searches)
    if as_json:
        seen = [{side: asdict(search) for side, search in searches.items()} for searches in found]
        print(json.dumps({"cpu": cpu_name(), "cores": cores, "target": TARGET, "searches": seen}))
        return
    print(f"{cpu_name()}, {cores} cores; {images} images, {trials} trials of at most {epochs} epochs\n\n{table(found)}")


if __name__ == "__main__":
    typer.run(main)
