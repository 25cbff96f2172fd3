"""What share of a cluster's slots a search keeps in training steps.

    python -m benchmarks.utilisation results/NAME [--slots 4] [--json]     # of a run that is there
    python -m benchmarks.utilisation [--trials 24] [--max-epochs 40]       # of one on two hosts made for it (by root)

The share is the time inside epochs, summed over all trials, of slots x wall time, from the start of the first trial to
the end of the last. What is not training is the start of Ray's workers, the hand-over from one trial to the next,
checkpoints, and slots that are empty at the end because no trial is left.

The hosts are network namespaces on this machine, launched from docker/cluster.local.yaml, with two slots each. They
share this machine's cores: where these are fewer than the slots, all trials are slower, and the share means the same.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from tests.cluster.launched import launched
from tune.records import LossRecords, read_json, read_records

TARGET = 0.90
SHORTEST_TRIAL_S = 20.0  # of a search for which the target was set
LOSSES = ("arcface", "adaloss", "softmax")


@dataclass(frozen=True)
class Utilisation:
    """What a run did with its slots.

    Args:
        trials: that ended.
        slots: trials that there was room for at a time.
        nodes: addresses of those that trained.
        wall_s: from the first start to the last end.
        training_s: inside epochs, all trials together.
        shortest_trial_s: inside the epochs of the trial that trained least.
        share: training of slots x wall.
    """

    trials: int
    slots: int
    nodes: tuple[str, ...]
    wall_s: float
    training_s: float
    shortest_trial_s: float
    share: float


def utilisation(run: Path, slots: int | None = None) -> Utilisation:
    """Return what a run did with its slots, from its records.

    Args:
        run: its folder.
        slots: None for as many as it began with.
    """
    description = read_json(run / "run.json")
    slots = slots or int(description["invocations"][-1]["slots"]["concurrent"])
    events, epochs = [], []
    for loss in description["settings"]["losses"]:
        events += LossRecords(run / loss).read_events()
        epochs += read_records(run / loss / "epochs.jsonl")  # repeated ones, too: they took a slot
    ends = [event for event in events if event["event"] in {"finished", "stopped", "failed"}]
    wall_s = max(event["time"] for event in ends) - min(e["time"] for e in events if e["event"] == "started")
    of_trial: dict[str, float] = {}
    for epoch in epochs:
        of_trial[epoch["trial_id"]] = of_trial.get(epoch["trial_id"], 0.0) + epoch["seconds"]
    training_s = sum(of_trial.values())
    return Utilisation(
        trials=len(ends),
        slots=slots,
        nodes=tuple(sorted({epoch["node_ip"] for epoch in epochs})),
        wall_s=wall_s,
        training_s=training_s,
        shortest_trial_s=min(of_trial.values()),
        share=training_s / (slots * wall_s),
    )


def run_on_hosts(trials: int, max_epochs: int, into: Path) -> Path:
    """Search on two hosts of two slots each, and return the run's folder, a copy in `into`."""
    options = ("--dataset", "digits", "--trials", trials // len(LOSSES), "--no-confirm", "--name", "utilisation")
    options += ("--model", "ArcFaceCNN")
    lengths = ("--max-epochs", max_epochs, "--grace-epochs", max_epochs)  # every trial runs in full
    with launched(Path(tempfile.mkdtemp()) / "hosts", head=2, worker=2) as cluster:
        cluster.up()
        print(cluster.search(*options, *lengths, timeout=3 * 3600))
        fetched = cluster.fetch("utilisation")
        shutil.copytree(fetched, into, dirs_exist_ok=True)
    return into


def main(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run; without it, one is made on hosts.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Of the run  [default: what it began with]")] = None,
    trials: Annotated[int, typer.Option(min=3, help="Of the search on hosts, all losses together.")] = 24,
    max_epochs: Annotated[int, typer.Option(min=1, help="Of each of its trials.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what share of its slots a search kept in training steps."""
    if run is None:
        run = run_on_hosts(trials, max_epochs, Path(tempfile.mkdtemp(prefix="utilisation-")))
    found = utilisation(run, slots)
    if as_json:
        print(json.dumps({"run": str(run), "target": TARGET, **asdict(found)}, indent=2))
        return
    long_enough = found.shortest_trial_s >= SHORTEST_TRIAL_S
    verdict = ("passed" if found.share >= TARGET else "missed") if long_enough else "trials too short to tell"
    print(
        f"{run}: {found.trials} trials of {found.shortest_trial_s:.1f} s or more on {len(found.nodes)} nodes, "
        f"{found.slots} slots, {found.wall_s:.1f} s\n"
        f"in training steps {100 * found.share:.1f} % of the slot time (target {100 * TARGET:.0f} %): {verdict}"
    )


if __name__ == "__main__":
    typer.run(main)
