"""How a command ends: the verdict, the page, and what to do next."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainables.errors import UserError
from tune.console import EXIT_FAILED, printable
from tune.records.schema import REPORT_FILE
from tune.settings import SearchSettings

if TYPE_CHECKING:
    from ray.tune import Callback

    from analysis.findings import Findings
    from tune.confirmation.run import ConfirmOutcome

__all__ = ["confirmed", "interrupted", "loggers", "report", "show", "unconfirmed", "unreachable"]


def confirmed(folder: Path, outcome: "ConfirmOutcome", *, console: Console, go_on: str) -> int:
    """Report how a confirmation ended, and return the program's exit code.

    Args:
        folder: of the run.
        outcome: of the confirmation.
        console: where it is shown.
        go_on: the command with which the user goes on after an interruption.
    """
    if outcome.interrupted:
        return interrupted(outcome.interrupted, go_on, console)
    report(folder, console)
    lines = unconfirmed(outcome, go_on)
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return EXIT_FAILED if lines else 0


def unconfirmed(outcome: "ConfirmOutcome", go_on: str) -> list[str]:
    """Return a line on each thing that a confirmation was asked for and does not have."""
    found = [
        f"the search found no configuration of {loss} that works; it is not confirmed" for loss in outcome.left_out
    ]
    if outcome.broken:
        run_id, error = next(iter(outcome.broken.items()))
        lines = error.strip().splitlines() or ["no error given"]
        found.append(
            f"{len(outcome.broken)} runs of the confirmation broke and have no result, such as {run_id}: "
            f"{printable(lines[-1])}; to try them again: {go_on}"
        )
    return found


def unreachable(settings: SearchSettings, reason: str, go_on: str) -> str:
    """Return what there is to say where a study database stayed away."""
    return (
        f"the study database {settings.study_storage} did not come back ({reason}); nothing is lost, go on when it is "
        f"there: {go_on}"
    )


def loggers(settings: SearchSettings, *, tensorboard: bool, mlflow: str | None) -> list["Callback"]:
    """Return Ray's callbacks that copy metrics to where the user wants them besides the records.

    Raises:
        UserError: MLflow is not installed, or does not answer.
    """
    if not tensorboard and mlflow is None:
        return []
    from tune.loggers.callbacks import logger_callbacks  # imports Ray

    return logger_callbacks(settings.folder, tensorboard=tensorboard, mlflow=mlflow, experiment=settings.dataset)


def interrupted(signal: str, go_on: str, console: Console) -> int:
    """Say how to go on after a signal, and return the exit code that belongs to it."""
    console.print(f"interrupted; go on with: {go_on}", markup=False, soft_wrap=True)
    return 130 if signal == "SIGINT" else 143


def show(folder: Path, console: Console) -> "list[Findings]":
    """Print what there is to say about a run, and return it."""
    from analysis.compare import comparison_text
    from analysis.findings import load_findings

    found = load_findings([folder])
    console.print(comparison_text(found), markup=False, highlight=False, soft_wrap=True)
    return found


def report(folder: Path, console: Console) -> None:
    """Print what there is to say about a run, and write its page.

    A page that cannot be written is no reason to hide the results: they are on record and on the screen.
    """
    from analysis.dashboard import write_report

    found = show(folder, console)
    page = folder / REPORT_FILE
    try:
        write_report(found, page)
    except OSError as error:
        raise UserError(f"{page} cannot be written: {error.strerror}; the results are in {folder}") from None
    console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
