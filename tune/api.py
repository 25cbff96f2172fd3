"""A search from Python: the options of `tune/run_search.py` as keywords, and its records as tables.

::

    from tune.api import search

    runs = search(dataset="digits", loss=["arcface", "adaloss"], trials=6)
    runs.verdict_table
"""

import contextlib
import inspect
import numbers
import os
import reprlib
import sys
import threading
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from os import PathLike
from typing import Any

import typer
from rich.console import Console
from typer.exceptions import TyperException

from trainables.errors import UserError
from tune.full_disk import DiskFullError, full_disk_said
from tune.invocation import command_line
from tune.opening import Opening
from tune.records import RecordError
from tune.run_config import Option, nearest, options_of
from tune.run_search import asked_in, main

if typing.TYPE_CHECKING:
    from analysis.runs import Runs
    from tune.asked import Asked

__all__ = ["DiskFullError", "IncompleteRunError", "RecordError", "UserError", "search"]


class IncompleteRunError(Exception):
    """A run that has come to its end without all that was asked for; what it has can be looked at.

    The message is what the command says, a line a failure.

    Args:
        lines: of the message.
        folder: of the run, for :func:`analysis.load`.
    """

    def __init__(self, lines: list[str], folder: str) -> None:
        super().__init__("\n".join(lines))
        self.folder = folder


def search(*, quiet: bool = False, **options: Any) -> "Runs":
    """Tune losses under equal budgets, confirm the best on fresh seeds, and return what the run has on record.

    What it says goes to the terminal, as that of the command does, and the run's folder has the same files. In the end
    it holds what :func:`analysis.load` reads. With ``dry_run=True`` it prints the plan and returns None.

    It is to be called from the main thread, which hears Ctrl-C. That leaves a run with which one can go on, by
    ``search(resume=True, name=NAME)`` or on the command line.

    Args:
        quiet: say nothing.
        options: those of ``tune/run_search.py``, by their long names with underscores: a number, a text, True for a
            switch, a list for what is repeatable. None stands for the default. Losses are names.

    Raises:
        UserError: the search cannot begin; the message is what the command says.
        RecordError: the records of the run are damaged.
        DiskFullError: a disk is full; the message has what goes on with the run.
        IncompleteRunError: all trials of a loss failed, runs of the confirmation broke, or a database stayed away.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the message has what goes on with the run.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("search must be called from the main thread, which hears Ctrl-C")
    words = _words(options)
    wanted = _asked(words)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  no path of anybody's
        # Progress as a notebook's widget would need another package.
        console = Console(file=nowhere) if quiet else Console(force_jupyter=False)
        if wanted.dry_run:
            _plan(wanted, console)
            return None  # type: ignore[return-value]
        with contextlib.redirect_stderr(nowhere) if quiet else contextlib.nullcontext():
            return _searched(wanted, words, console)


def _plan(wanted: "Asked", console: Console) -> None:
    from tune.plan import plan_run

    for line in plan_run(wanted.settings, wanted.confirmation, console).lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _searched(wanted: "Asked", words: list[str], console: Console) -> "Runs":
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    from analysis.runs import load
    from tune import report

    settings, go_on = wanted.settings, wanted.go_on
    anew = command_line("search", *words)  # where the disk was full before there was a run

    with full_disk_said(settings.folder, lambda: go_on if settings.is_begun else anew, settings.storage):
        callbacks = report.loggers(settings, tensorboard=wanted.tensorboard, mlflow=wanted.mlflow)
        with Opening(console) as opening:
            opening.step(f"loading Ray for {settings.folder}")
            from tune.run import all_failed, search_and_confirm

            with _standing_for(words):
                outcome = search_and_confirm(
                    settings,
                    wanted.confirmation,
                    resume=wanted.resume,
                    console=console,
                    callbacks=callbacks,
                    opening=opening,
                )
        interrupted = outcome.search.interrupted or (outcome.confirmation and outcome.confirmation.interrupted)
        if interrupted:
            report.show(settings.folder, console)
            raise KeyboardInterrupt(f"interrupted; go on with: {go_on}")
        lines = [all_failed(loss, error) for loss, error in outcome.search.failures.items()]
        if outcome.search.unreachable:
            lines.append(report.unreachable(settings, outcome.search.unreachable, go_on))
        else:
            report.report(settings.folder, console)
        if outcome.confirmation is not None:
            lines += report.unconfirmed(outcome.confirmation, go_on)
    if lines:
        raise IncompleteRunError(lines, str(settings.folder))
    return load(settings.folder)


@contextlib.contextmanager
def _standing_for(words: list[str]) -> Iterator[None]:
    """Have the run's record name the command that does the same; that of a notebook says nothing."""
    own = sys.argv
    sys.argv = ["tune/run_search.py", *words]
    try:
        yield
    finally:
        sys.argv = own


# --- Options ---------------------------------------------------------------------------------------------------------


def _asked(words: list[str]) -> "Asked":
    """Return what is asked for by the words of a command line."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    try:
        with typer.main.get_command(app).make_context("search", list(words)) as context:  # it empties the list
            return asked_in(typing.cast(typer.Context, context))
    except TyperException as error:
        raise UserError(" ".join(error.format_message().split())) from None


@cache
def _options() -> dict[str, Option]:
    return options_of(main)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line."""
    found = []
    for name, value in options.items():
        if name not in _options():
            raise UserError(f"unknown option {name!r}{nearest(name, _options())}")
        found += _words_of(name, value, _options()[name])
    return found


_KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("True or False", (bool,)),
    str: ("a text", (str, PathLike)),
    int: ("a whole number", (numbers.Integral,)),
    float: ("a number", (numbers.Real,)),
}


def _words_of(name: str, value: Any, option: Option) -> list[str]:
    if value is None:
        return []
    if option.is_repeatable and isinstance(value, list | tuple):
        return [part for one in value for part in _words_of(name, one, Option(option.kind))]
    word = f"--{name.replace('_', '-')}"
    wanted, kinds = _KINDS[option.kind]
    if not isinstance(value, kinds) or (isinstance(value, bool) and option.kind is not bool):
        raise UserError(f"{word} must be {wanted}, got {reprlib.repr(value)}")
    if option.kind is bool:
        return [word] if value else []
    return [f"{word}={os.fspath(value) if isinstance(value, PathLike) else value}"]


def _signature() -> inspect.Signature:
    """Return the signature that a notebook shows: one declaration, that of the command, is the source of all."""
    hints = typing.get_type_hints(main)
    parameters = inspect.signature(main).parameters
    quiet = inspect.signature(search).parameters["quiet"]
    declared = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in parameters.items()
        if name in _options()
    ]
    return inspect.Signature([*declared, quiet], return_annotation="Runs")


search.__signature__ = _signature()  # type: ignore[attr-defined]
