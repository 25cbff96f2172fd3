"""How every command of the project ends: bad input in one line and exit code 2, a full disk in one line and 1."""

import atexit
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from trainables.errors import UserError
from tune.full_disk import DiskFullError
from tune.records import RecordError

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_FAILED",
    "app_of",
    "csv_cell",
    "home_expanded",
    "leave_job_folder",
    "new_app",
    "printable",
    "run_app",
    "run_command",
    "unwrapped",
]

EXIT_BAD_INPUT = 2
EXIT_FAILED = 1
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def run_command(command: Callable[..., int | None]) -> None:
    """Run a function as a command line and exit the program with what it returns."""
    run_app(app_of(command))


def app_of(command: Callable[..., int | None]) -> typer.Typer:
    """Return the command line that a function is."""
    app = new_app()
    app.command(context_settings=_CONTEXT, help=unwrapped(command.__doc__ or ""))(command)
    return app


def unwrapped(text: str) -> str:
    """Return a docstring with a line a paragraph, to be wrapped to whatever width there is."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def new_app(**options: Any) -> typer.Typer:
    """Return a command line without commands, as all of the project's are: help in panels, errors left to us."""
    defaults = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": "rich"}
    return typer.Typer(context_settings=_CONTEXT, **{**defaults, **options})


def run_app(app: typer.Typer) -> None:
    """Run a command line and exit the program with what its command returns."""
    _look_for_garbage_seldom()
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        code = _told(error.format_message(), EXIT_BAD_INPUT)
    except (UserError, RecordError) as error:
        code = _told(str(error), EXIT_BAD_INPUT)
    except DiskFullError as error:
        code = _told(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        code = 130
    if not _everything_is_out():
        code = code or EXIT_FAILED
    sys.exit(code or 0)


def _everything_is_out() -> bool:
    """Write what is still to be written, and return False where nobody reads it any more, as after `| head`.

    Python would try at its end, and complain. What writes by itself finds out earlier, and typer deals with it.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return False
    return True


def _look_for_garbage_seldom() -> None:
    """Have a command start and end sooner, by two to three seconds on a slow core.

    torch, Ray and plotly make objects by the hundred thousand that live as long as the program: Python's collector
    goes through them again and again while they are imported, and once more at the end, when all memory is given back
    anyway.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)


def home_expanded(path: str | None) -> str | None:
    """Return a path with the home folder for its ~, which a shell leaves as it is after an equals sign."""
    return path if path is None else os.path.expanduser(path)  # noqa: PTH111  a URI is no path


def leave_job_folder() -> None:
    """Go home from the folder into which Ray unpacked a job's code: it deletes that after the job, and runs with it."""
    if any(part.startswith("_ray_pkg_") for part in Path.cwd().parts):
        os.chdir(Path.home())


def _told(message: str, code: int) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def printable(text: str) -> str:
    """Return a text from a file without line breaks and without what would command a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def csv_cell(value: Any) -> Any:
    """Return a value as a cell: a text that a spreadsheet would compute, or a terminal obey, as the text it is."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
