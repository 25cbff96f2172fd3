"""How long the live page takes to take in one more epoch, beside reading and drawing everything anew.

    python -m benchmarks.dashboard [--trials 667] [--max-epochs 36] [--rounds 9] [--json]

Both make the same page from the same growing run, in turns, so that whatever else the machine does hits both alike; a
ratio is the median over rounds of ratios within a round. A run is invented for it in a temporary
folder.

follow    what the live page does: new lines are read, the page in view is built, what differs is sent.
anew      every file is read and checked, the page in view is built, all of it is sent.
idle      the live page's answer while nothing has changed.
first     the live page's first answer, its reading included.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from plotly.io.json import to_json_plotly

from analysis.findings import findings
from analysis.live import server as live
from analysis.live.blocks import blocks_of, slots_of
from analysis.live.runs import Runs
from analysis.loading import load_run
from analysis.plots import PAGES, Page
from tests.analysis.example_run import write_example_run
from tune.records import LossRecords

LOSSES = ("arcface", "adaloss", "softmax")
IN_VIEW = ("overview", "curves", "margins", "search")


class Follower:
    """A live page and one browser that looks at it.

    Args:
        folder: of the run.
        page: in view.
    """

    def __init__(self, folder: Path, page: Page) -> None:
        self._runs, self._page = Runs([folder], interval_s=0), page
        self._seen: dict[str, Any] = {}

    def answer(self) -> int:
        """Bring the browser up to date and return how many bytes it is sent."""
        sent: list[Any] = []
        live.set_props = lambda name, properties: sent.append((name, properties))
        seen = live._bring_up_to_date(self._page, self._runs, self._seen)
        if seen is not live.no_update:
            self._seen = seen
            sent.append(seen)
        return len(to_json_plotly(sent))


def anew(folder: Path, page: Page) -> int:
    """Read and send everything, and return how many bytes that is."""
    return len(to_json_plotly(slots_of(blocks_of(page.key, page.build(findings([load_run(folder)]))))))


def timed(function: Callable[[], int]) -> tuple[float, int]:
    """Return seconds, and what the function returns."""
    started = time.perf_counter()
    value = function()
    return time.perf_counter() - started, value


def measure(folder: Path, page: Page, rounds: int) -> dict[str, Any]:
    """Let both take turns at one page; an epoch is added before each round."""
    follower = Follower(folder, page)
    first_s, first_bytes = timed(follower.answer)
    records = LossRecords(folder / "arcface")
    trial_id, epoch = "arcface-0000", 10_000
    seconds: dict[str, list[float]] = {"follow": [], "anew": [], "idle": []}
    bytes_: dict[str, int] = {"first": first_bytes}
    runs = {"follow": follower.answer, "anew": lambda: anew(folder, page)}
    for number in range(rounds + 1):
        epoch += 1
        records.epoch(trial_id, {"epoch": epoch, "val_accuracy": 0.5, "train_loss": 1.0, "seconds": 1.0})
        for name in list(runs) if number % 2 else list(runs)[::-1]:  # nobody always goes first
            elapsed, bytes_[name] = timed(runs[name])
            if number > 0:  # the first round warms up
                seconds[name].append(elapsed)
        seconds["idle"].append(timed(follower.answer)[0])
    ratios = [a / b for a, b in zip(seconds["anew"], seconds["follow"], strict=True)]
    return {
        "page": page.key,
        "seconds": {"first": first_s, **{name: statistics.median(values) for name, values in seconds.items()}},
        "bytes": bytes_,
        "anew/follow": statistics.median(ratios),
    }


def main(
    trials: Annotated[int, typer.Option(min=1, help="Trials of each of three losses.")] = 667,
    max_epochs: Annotated[int, typer.Option(min=1, help="Epochs of a full trial; most are stopped early.")] = 36,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each of the two.")] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Compare the live page's updates with reading and drawing everything anew."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_example_run(
            Path(temporary) / "cifar10", losses=LOSSES, trials=trials, max_epochs=max_epochs, study=False
        )
        run = load_run(folder)
        about = {"trials": len(run.trials), "epochs": len(run.epochs), "seed_epochs": len(run.seed_epochs)}
        results = [measure(folder, page, rounds) for page in PAGES if page.key in IN_VIEW]
    if as_json:
        print(json.dumps({**about, "rounds": rounds, "results": results}, indent=2))
        return
    print(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in about.items()) + "; ms, and kB sent")
    print(
        f"{'page':10}{'first':>8}{'follow':>8}{'anew':>8}{'idle':>8}{'anew/follow':>13}{'kB follow':>11}{'kB anew':>9}"
    )
    for result in results:
        times = "".join(f"{1000 * result['seconds'][name]:8.0f}" for name in ("first", "follow", "anew", "idle"))
        sizes = f"{result['bytes']['follow'] / 1000:11.0f}{result['bytes']['anew'] / 1000:9.0f}"
        print(f"{result['page']:10}{times}{result['anew/follow']:13.2f}{sizes}")


if __name__ == "__main__":
    typer.run(main)
