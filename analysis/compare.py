"""Compare losses from the records of one or more runs.

python analysis/compare.py results/cifar10-20260101-120000
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from analysis.load import Run, load_run  # noqa: E402
from tune.console import run_command  # noqa: E402

__all__ = ["comparison", "comparison_text"]


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs, such as results/NAME")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of tables")] = False,
) -> None:
    """Show the best configuration of each loss on each data set, and what the search spent on it.

    Accuracies are of the validation split and of the trial's last epoch. The best of many trials is too good by
    selection; a claim needs fresh seeds and the test split.
    """
    if as_json:
        print(json.dumps(comparison(runs), indent=2, allow_nan=False))
    else:
        print(comparison_text(runs))


def comparison(folders: list[Path]) -> list[dict[str, Any]]:
    """Return, for each run, the data set, the budget and one entry a loss.

    Raises:
        RecordError: a folder holds no run, or a damaged one.
    """
    return [_compare(load_run(folder)) for folder in folders]


def _compare(run: Run) -> dict[str, Any]:
    settings = run.info["settings"]
    return {
        "run": str(run.folder),
        "dataset": run.dataset,
        "partial": run.info["dataset"]["partial"],
        "train_images": run.info["dataset"]["train_images"],
        "model": settings["model"],
        "budget": {key: settings[key] for key in ("trials", "max_epochs", "grace_epochs", "reduction_factor")},
        "losses": [_summary(run, loss) for loss in run.losses],
    }


def _summary(run: Run, loss: str) -> dict[str, Any]:
    trials = run.trials[run.trials["loss"] == loss]
    counts = trials["state"].value_counts()
    # A trial that was stopped early has seen less of its schedule: it is the best only where none was finished.
    judged = trials[(trials["state"] == "finished") & trials["val_accuracy"].notna()]
    if judged.empty:
        judged = trials[(trials["state"] == "stopped") & trials["val_accuracy"].notna()]
    best = None if judged.empty else judged.sort_values(["val_accuracy", "trial_id"], ascending=[False, True]).iloc[0]
    errors = [error.strip().splitlines() for error in trials["error"].dropna()]
    return {
        "loss": loss,
        "dimensions": run.info["search_spaces"][loss]["dimensions"],
        "trials": len(trials),
        **{state: int(counts.get(state, 0)) for state in ("finished", "stopped", "failed", "unfinished")},
        "epochs": int(trials["epochs"].sum()),
        "seconds": float(trials["seconds"].sum()),
        "first_error": errors[0][-1] if errors and errors[0] else None,
        "best": None
        if best is None
        else {
            "trial_id": best["trial_id"],
            "val_accuracy": float(best["val_accuracy"]),
            "epochs": int(best["epochs"]),
            "config": best["config"],
        },
    }


def comparison_text(folders: list[Path]) -> str:
    """Return the comparison as text for a terminal."""
    return "\n\n".join(_text(entry) for entry in comparison(folders))


_COLUMNS = ("loss", "best val. acc.", "trial", "trials", "finished", "stopped", "failed", "epochs", "train time")


def _text(entry: dict[str, Any]) -> str:
    budget = entry["budget"]
    part = f", a part of it ({entry['train_images']} training images)" if entry["partial"] else ""
    lines = [
        f"{entry['dataset']}{part}, {entry['model']}: {budget['trials']} trials per loss, "
        f"at most {budget['max_epochs']} epochs",
        "",
        *_aligned([_COLUMNS, *(_row(loss) for loss in entry["losses"])]),
        "",
    ]
    for loss in entry["losses"]:
        if loss["best"]:
            lines.append(f"best {loss['loss']}: {_shown(loss['best']['config'])}")
        if loss["first_error"]:
            lines.append(f"{loss['loss']}: {loss['failed']} failed; the first: {loss['first_error']}")
    lines.append("validation accuracy of single runs, the best of many: not yet a comparison of the losses")
    return "\n".join(lines)


def _row(loss: dict[str, Any]) -> tuple[str, ...]:
    best = loss["best"]
    trials = f"{loss['trials']}" + (f" ({loss['unfinished']} unfinished)" if loss["unfinished"] else "")
    return (
        loss["loss"],
        f"{100 * best['val_accuracy']:.2f} %" if best else "-",
        best["trial_id"] if best else "-",
        trials,
        str(loss["finished"]),
        str(loss["stopped"]),
        str(loss["failed"]),
        str(loss["epochs"]),
        f"{loss['seconds'] / 60:.1f} min",
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _shown(config: dict[str, Any]) -> str:
    flat = {**{k: v for k, v in config.items() if k not in {"loss", "loss_args"}}, **config.get("loss_args", {})}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in flat.items()
    )


if __name__ == "__main__":
    run_command(main)
