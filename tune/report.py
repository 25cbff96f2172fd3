"""How a command ends: the confirmation where one is wanted, the verdict, the page, and what to do next."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainables.errors import UserError
from tune.console import EXIT_FAILED, printable
from tune.settings import ConfirmSettings, SearchSettings

if TYPE_CHECKING:
    from ray.tune import Callback

    from analysis.findings import Findings

__all__ = ["confirm_and_report", "interrupted", "loggers", "report", "show"]

REPORT_FILE = "report.html"


def confirm_and_report(
    settings: SearchSettings,
    asked: ConfirmSettings,
    *,
    console: Console,
    callbacks: Sequence["Callback"] = (),
    go_on: str,
) -> int:
    """Confirm a finished search, report, and return the program's exit code.

    Args:
        settings: of the search.
        asked: of the confirmation.
        console: where it is shown.
        callbacks: further ones for Ray.
        go_on: the command with which the user goes on after an interruption.
    """
    from tune.confirmation.run import run_confirmation  # imports Ray: only once the input is known to be good

    outcome = run_confirmation(settings, asked, console=console, callbacks=callbacks)
    if outcome.interrupted:
        return interrupted(outcome.interrupted, go_on, console)
    report(settings.folder, console)
    for loss in outcome.left_out:
        print(f"error: the search found no configuration of {loss} that works; it is not confirmed", file=sys.stderr)
    if outcome.broken:
        run_id, error = next(iter(outcome.broken.items()))
        lines = error.strip().splitlines() or ["no error given"]
        print(
            f"error: {len(outcome.broken)} runs of the confirmation broke and have no result, such as {run_id}: "
            f"{printable(lines[-1])}; to try them again: {go_on}",
            file=sys.stderr,
        )
    return EXIT_FAILED if outcome.left_out or outcome.broken else 0


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
