"""How every command of the project ends: bad input in one line and exit code 2, never a traceback for it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from typer.exceptions import TyperException

from trainables.errors import UserError
from tune.records import RecordError

__all__ = ["EXIT_BAD_INPUT", "leave_job_folder", "run_command"]

EXIT_BAD_INPUT = 2


def run_command(command: Callable[..., int | None]) -> None:
    """Run a function as a command line and exit the program with what it returns."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})(command)
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        code = _bad_input(error.format_message())
    except (UserError, RecordError) as error:
        code = _bad_input(str(error))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code or 0)


def leave_job_folder() -> None:
    """Go home from the folder into which Ray unpacked a job's code: it deletes that after the job, and runs with it."""
    if any(part.startswith("_ray_pkg_") for part in Path.cwd().parts):
        os.chdir(Path.home())


def _bad_input(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_BAD_INPUT
