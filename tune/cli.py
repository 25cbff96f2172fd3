"""All commands as one: `adaloss search`, `adaloss compare` and so on; `adaloss --help` says what there is.

python -m tune.cli does the same where the program `adaloss` is not installed. A command's module is imported when it is
called, or its help is shown, and what trains or draws only once there is something to do.
"""

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402
from typer.core import TyperGroup  # noqa: E402

from trainables.errors import UserError  # noqa: E402
from tune.console import app_of, leave_job_folder, new_app, run_app, unwrapped  # noqa: E402
from tune.invocation import COMMANDS, module_of  # noqa: E402

__all__ = ["app", "main"]

_HELP = """Is an adaptive angular margin better than a fixed one, once both are tuned fairly?

A run goes from search to confirm; compare and dashboard show it, publish keeps its records, predict and export put its
models to use. "adaloss COMMAND --help" says more. A first look that needs no download: adaloss search --dataset digits
"""


class _Commands(TyperGroup):
    """Makes each command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(f"there is no command {args[0]!r}{hint}; known: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(app_of(importlib.import_module(module_of(cmd_name)).main))
        command.name = cmd_name
        return command


def app() -> typer.Typer:
    """Return the command line with all commands."""
    commands = new_app(cls=_Commands, add_completion=True, help=unwrapped(_HELP))

    @commands.callback()
    def options_of_all() -> None:
        """Has none of its own."""

    return commands


def main() -> None:
    """Run the command that the command line names."""
    leave_job_folder()
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    run_app(app())


if __name__ == "__main__":
    main()
