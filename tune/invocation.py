"""The commands of the project, and how to call one as this program was called: what is printed can be pasted."""

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["COMMANDS", "command_line", "module_of", "own_command_line"]

# By name, as `adaloss` has them: the script of each, which can be run as well.
COMMANDS = {
    "search": "tune/run_search.py",
    "check-loss": "tune/check_loss.py",
    "confirm": "tune/confirm.py",
    "compare": "analysis/compare.py",
    "dashboard": "analysis/dashboard.py",
    "publish": "analysis/publish.py",
    "predict": "tune/predict.py",
    "export": "tune/export.py",
}
_ENTRY = "adaloss"
_CLI = "tune.cli"


def module_of(command: str) -> str:
    """Return the module whose ``main`` a command is."""
    return COMMANDS[command].removesuffix(".py").replace("/", ".")


def command_line(command: str, *arguments: object) -> str:
    """Return a command with arguments as a line for a shell, in the form that this program was called in.

    That is ``adaloss``, or the same interpreter with the script or the module beside the one that runs; by the paths
    that were used, which lead there from the working directory.
    """
    return shlex.join([*_called(command), *map(str, arguments)])


def own_command_line(command: str) -> str:
    """Return the line with which this program, which is a command, was called."""
    given = sys.argv[1:]
    if _form() in {_ENTRY, _CLI} and given[:1] == [command]:
        given = given[1:]  # it is part of the call
    return command_line(command, *given)


def _form() -> str:
    """Return how this program was called: a script's file name, a module's name after -m, or `adaloss`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    modules = {_CLI, *map(module_of, COMMANDS)}
    if spec is not None and spec.name in modules:
        return str(spec.name)
    name = Path(sys.argv[0]).name
    if name == "cli.py" or name in {Path(script).name for script in COMMANDS.values()}:
        return _CLI if name == "cli.py" else name
    return _ENTRY if name == _ENTRY else ""


def _called(command: str) -> list[str]:
    form, program = _form(), sys.argv[0]
    by_module = [_interpreter(), "-m", _CLI, command]
    if form == _ENTRY:
        found = shutil.which(_ENTRY)
        is_on_path = found is not None and Path(found).exists() and Path(found).samefile(program)
        return [_ENTRY if is_on_path else program, command]
    if form == _CLI:
        return [_interpreter(), program, command] if _is_script() else by_module
    if form in map(module_of, COMMANDS):
        return [_interpreter(), "-m", module_of(command)]
    if not form:
        return by_module
    script = COMMANDS[command]
    if Path(program).name == Path(script).name:
        return [_interpreter(), program]
    beside = os.path.normpath(os.path.join(os.path.dirname(program), os.pardir, script))  # noqa: PTH118, PTH120
    # `ray submit` copies a script alone: the others are in the installed packages.
    return [_interpreter(), beside] if Path(beside).is_file() else by_module


def _is_script() -> bool:
    return getattr(sys.modules.get("__main__"), "__spec__", None) is None


def _interpreter() -> str:
    """Return Python as it was called, where that leads to it from here, else its path."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    return typed if typed and shutil.which(typed) else sys.executable
