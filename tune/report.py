"""How a command ends: the verdict, where everything is, and what to do next."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from trainables.errors import UserError
from tune.console import EXIT_FAILED, printable
from tune.invocation import command_line
from tune.opening import Opening
from tune.records.roles import code_options
from tune.records.schema import REPORT_FILE, weights_file, winner_weights_file
from tune.settings import SearchSettings

if TYPE_CHECKING:
    from ray.tune import Callback

    from analysis.findings import Findings
    from tune.confirmation.run import ConfirmOutcome

__all__ = ["confirmed", "interrupted", "loggers", "report", "show", "unconfirmed", "unreachable"]

_WIDTH = 110  # columns at most, and where the output is no terminal


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
    """Print in short what a run has come to, and return all that there is to say about it."""
    with Opening(console, has_lines=False) as opening:
        opening.step(f"gathering what is in {folder}")
        from analysis.compare import summary_text
        from analysis.findings import load_findings

        found = load_findings([folder])
    width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    _print(summary_text(found, width), console)
    return found


def report(folder: Path, console: Console) -> None:
    """Print in short what a run has come to, write its page, and say where all is and what can be done next.

    A page that cannot be written is no reason to hide the results: they are on record and on the screen.
    """
    from analysis.dashboard import write_report

    found = show(folder, console)
    page = folder / REPORT_FILE
    try:
        with Opening(console, has_lines=False) as opening:
            opening.step("drawing the page")
            write_report(found, page)
    except OSError as error:
        raise UserError(f"{page} cannot be written: {error.strerror}; the results are in {folder}") from None
    _print("", console)
    for line in [*_places(folder, found[0].run.losses), "", *_next_steps(found[0], folder)]:
        _print(line, console)


def _places(folder: Path, losses: Sequence[str]) -> list[str]:
    """Return where a run has left what."""
    names = [name(loss) for loss in losses for name in (winner_weights_file, weights_file)]
    kept = [str(folder / name) for name in names if (folder / name).exists()]
    tested = [path for path in kept if Path(path).name.startswith("winner_")] or kept
    weights = [f"weights: {', '.join(tested)}"] if tested else []
    return [f"page: {folder / REPORT_FILE}", *weights, f"records: {folder}"]


def _next_steps(found: "Findings", folder: Path) -> list[str]:
    """Return commands that are worth a look now, each under what it is for; they can be pasted as they are."""
    from analysis.report.summary import seeds_to_add

    steps: dict[str, tuple[Any, ...]] = {}
    code = code_options(found.run.info.get("settings") or {})
    if not found.accuracies:
        about = "hold the tuned losses against each other" if len(found.run.losses) > 1 else "see how good it really is"
        steps[f"{about}, on fresh seeds and the test split"] = ("confirm", folder, *code)
    elif seeds := seeds_to_add(found):
        more = ("--confirm-seeds", seeds)
        steps["come to a decision, perhaps, with more paired seeds"] = ("confirm", folder, *more, *code)
    steps["see every table and test behind this"] = ("compare", folder)
    steps["see it as a live page"] = ("dashboard", folder)
    lines = ["next:"]
    for purpose, (command, *arguments) in steps.items():
        lines += [f"  {purpose}:", f"    {command_line(command, *arguments)}"]
    return lines


def _print(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
