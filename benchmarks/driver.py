"""What a search's driver needs for a trial: processor time, memory, and how many results it can take in.

    python -m benchmarks.driver [--trials 1000] [--loss adaloss] [--json]

No Ray and no training: the study protocol (tune/study.py) is fed with invented curves, 64 trials under way at a time,
into a study.db and records in a folder for temporary files. The rungs stop trials as in a search (first rung after 2
of 12 epochs, reduction factor 3: about 4 epochs a trial).
"""

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import optuna
import typer

from search_spaces import SEARCH_SPACES
from tune.records import LossRecords
from tune.search.loss_study import LossStudy, SearchPlan
from tune.study import Study, Suggestion

ACTORS = 64
WINDOW = 100  # trials over which the time at one size of a study is taken
MAX_EPOCHS, GRACE_EPOCHS, REDUCTION_FACTOR = 12, 2, 3


def open_study(folder: Path, loss: str, trials: int) -> LossStudy:
    """Open a study as a search does, in a file of its own."""
    plan = SearchPlan(trials, MAX_EPOCHS, GRACE_EPOCHS, REDUCTION_FACTOR, seed=0)
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
    return LossStudy(f"invented-{loss}", SEARCH_SPACES[loss], storage, LossRecords(folder / loss), plan)


def invented_result(suggestion: Suggestion, epoch: int) -> dict[str, object]:
    """Return what a trial would report of an epoch: better near a learning rate of 0.1, rising, and noisy."""
    noise = np.random.default_rng((suggestion.number, epoch)).normal(0, 0.01)
    quality = 1 - abs(math.log10(suggestion.config["learning_rate"]) + 1) / 3
    accuracy = min(1.0, max(0.0, float(quality * epoch / (epoch + 1) + noise)))
    curve = {"train_loss": 1 - accuracy, "train_accuracy": accuracy, "margin_rad": 0.1, "learning_rate": 0.1}
    place = {"node_ip": "127.0.0.1", "device": "cpu", "precision": "float32"}
    return {"epoch": epoch, "val_accuracy": accuracy, "seconds": 1.0, "images_per_s": 1000.0, **curve, **place}


class Drive:
    """Runs invented trials, as many at a time as there are actors, and counts what it costs.

    Args:
        study: that hands them out.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._running: list[tuple[Suggestion, int]] = []
        self.ended = self.results = 0

    def until(self, ended: int) -> None:
        """Go on until so many trials have ended, or there are no more."""
        while self.ended < ended:
            while len(self._running) < ACTORS and (suggestion := self._study.ask()) is not None:
                self._running.append((suggestion, 0))
            if not self._running:
                return
            self._running = [pair for pair in map(self._step, self._running) if pair is not None]

    def _step(self, running: tuple[Suggestion, int]) -> tuple[Suggestion, int] | None:
        suggestion, epoch = running[0], running[1] + 1
        number = suggestion.number
        self.results += 1
        if not self._study.on_epoch(number, invented_result(suggestion, epoch)) and self._study.is_running(number):
            self._study.on_checkpoint(number)
        if self._study.is_running(number):
            return suggestion, epoch
        self.ended += 1
        return None


def resident_bytes() -> int:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def measure(folder: Path, loss: str, trials: int) -> dict[str, object]:
    """Run so many trials, and some more, and return the figures."""
    sizes = [10**power for power in range(2, 9) if 10**power <= trials] or [trials]
    drive = Drive(open_study(folder, loss, sizes[-1] + WINDOW + ACTORS))
    ms_per_trial: dict[str, float] = {}
    memory: list[tuple[int, int]] = []
    results_per_s = 0.0
    for size in sizes:
        drive.until(size)
        memory.append((drive.ended, resident_bytes()))
        cpu_s, wall_s, ended, results = time.process_time(), time.perf_counter(), drive.ended, drive.results
        drive.until(size + WINDOW)
        ms_per_trial[str(size)] = 1000 * (time.process_time() - cpu_s) / (drive.ended - ended)
        results_per_s = (drive.results - results) / (time.perf_counter() - wall_s)
    start = time.perf_counter()
    open_study(folder, loss, sizes[-1] + WINDOW)
    (few, before), (many, after) = memory[0], memory[-1]
    return {
        "ms_per_trial": ms_per_trial,
        "bytes_per_trial": (after - before) / (many - few) if many > few else None,
        "results_per_s": results_per_s,
        "epochs_per_trial": drive.results / drive.ended,
        "open_s": time.perf_counter() - start,
    }


def main(
    trials: Annotated[int, typer.Option(min=10, help="Trials before the last measurement.")] = 1000,
    loss: Annotated[str, typer.Option(help="Whose search space is drawn from.")] = "adaloss",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the driver of a search without Ray."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if loss not in SEARCH_SPACES:
        raise typer.BadParameter(f"no loss {loss!r}; there are {', '.join(sorted(SEARCH_SPACES))}")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), loss, trials)
    if as_json:
        print(json.dumps(found))
        return
    for size, milliseconds in found["ms_per_trial"].items():  # type: ignore[attr-defined]
        print(f"{milliseconds:6.1f} ms of CPU a trial after {size} trials")
    if found["bytes_per_trial"] is not None:
        print(f"{found['bytes_per_trial'] / 1000:6.1f} kB of memory a trial")  # type: ignore[operator]
    print(f"{found['results_per_s']:6.0f} results a second, {ACTORS} trials under way")
    print(f"{found['epochs_per_trial']:6.1f} epochs a trial; a study of that size is opened in {found['open_s']:.1f} s")


if __name__ == "__main__":
    typer.run(main)
