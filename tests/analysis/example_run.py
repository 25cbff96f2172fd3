"""Writes a whole run folder of invented numbers, for tests and for looking at pages.

python -m tests.analysis.example_run FOLDER --dataset mnist --seeds 10
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces import SEARCH_SPACES
from tests.analysis.example_confirmation import CANDIDATE_SEEDS, CANDIDATES, ConfirmationWriter
from tests.analysis.example_trials import START_TIME, Example, write_search
from tune.records import write_json


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
        write_search(example, loss, trials, grace, finished, study)
    if seeds:
        info["confirmation"] = _confirmation(example, seeds, controls, robustness)
        info["dataset"]["test_images"] = example.test_images
        write_json(folder / "run.json", info)
        example.effect_pp = example.effect_pp if effect_pp is None else effect_pp
        example.sd_pp = example.sd_pp if sd_pp is None else sd_pp
        ConfirmationWriter(example, seeds if finished else math.ceil(seeds / 3), finished).write(controls, robustness)
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
