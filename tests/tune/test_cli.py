"""The one program with all commands."""

import importlib
import os
import re
import subprocess
import sys

import pytest
import typer

from tests.test_project import PROJECT, PYPROJECT
from tests.test_start import HEAVY
from tune import cli
from tune.invocation import COMMANDS, module_of


@pytest.fixture
def adaloss(monkeypatch, capsys):
    """Runs `adaloss` with arguments and returns exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["adaloss", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code, *capsys.readouterr())

    return run


def plain(text):
    """A help text without its frames, in one line."""
    return " ".join(re.sub(r"[^ -~]", " ", text).split())


def options_in(text):
    return set(re.findall(r"(?<=\s)--[a-z][a-z-]*", re.sub(r"[^ -~]", " ", text)))


def test_it_is_what_is_installed():
    module, _, function = PYPROJECT["project"]["scripts"]["adaloss"].partition(":")
    assert getattr(importlib.import_module(module), function) is cli.main


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_a_command_it_says_what_there_is(adaloss, arguments):
    code, out, err = adaloss(*arguments)
    assert (code, err) == (0, "")
    for command in COMMANDS:
        about = " ".join(importlib.import_module(module_of(command)).main.__doc__.partition("\n\n")[0].split())
        assert f" {command} {about}" in plain(out)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_of_its_script(adaloss, command):
    code, out, err = adaloss(command, "--help")
    assert (code, err) == (0, "")
    app = typer.Typer(add_completion=False)
    app.command()(importlib.import_module(module_of(command)).main)
    declared = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}
    assert {option for option in declared if option.startswith("--")} | {"--help"} <= options_in(out)
    assert f"adaloss {command}" in plain(out)


def test_the_options_of_a_search_stand_under_headings(adaloss):
    panels = re.findall(r"╭─ (.+?) ─", adaloss("search", "--help")[1])
    assert panels == [
        "Options",
        "Data",
        "Losses and model",
        "Budget, the same for each loss",
        "Confirmation",
        "Machine",
        "Output",
        "Going on with a run",
    ]
    under_none = adaloss("search", "--help")[1].partition("╭─ Data")[0]
    assert options_in(under_none.partition("╭─ Options")[2]) == {"--config", "--help"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serach"], "there is no command 'serach' (did you mean search?); known: search, check-loss, confirm"),
        (["--dataset", "digits"], "No such option: --dataset"),
        (["search", "--dataset", "cifra10"], "did you mean cifar10?"),
        (["confirm", "nosuch"], "nosuch"),
        (["compare"], "RUN"),
        (["dashboard", "nosuch", "--port", "many"], "--port"),
        (["publish", "nosuch", "--to", "x"], "nosuch: there is no such folder"),
        (["predict", "nosuch.pt", "x"], "nosuch.pt: there is no such file"),
        (["export", "nosuch.pt", "x.onnx"], "nosuch.pt: there is no such file"),
    ],
)
def test_wrong_input_is_one_line(adaloss, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = adaloss(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert said in err


def test_what_a_command_returns_is_the_exit_code(adaloss, monkeypatch, tmp_path):
    """As the exit code of a command that found something broken."""

    def found_broken() -> int:
        return 1

    monkeypatch.setattr(importlib.import_module("analysis.compare"), "main", found_broken)
    assert adaloss("compare") == (1, "", "")


def program(*arguments, **variables):
    """Run the program as one, and return it with the heavy modules that it loaded."""
    code = (
        f"import atexit, sys; sys.path.insert(0, {str(PROJECT)!r}); sys.argv[0] = 'adaloss'\n"
        f"atexit.register(lambda: print('loaded', *sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr))\n"
        "from tune.cli import main; main()"
    )
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_shell_completes_commands_and_options_and_waits_for_nothing_heavy():
    done = program(_ADALOSS_COMPLETE="complete_bash", COMP_WORDS="adaloss co", COMP_CWORD="1")
    assert done.stdout.split() == ["confirm", "compare"]
    assert done.stderr.split() == ["loaded"]
    done = program(_ADALOSS_COMPLETE="complete_bash", COMP_WORDS="adaloss search --confirm", COMP_CWORD="2")
    assert done.stdout.split() == ["--confirm-seeds"]
    assert done.stderr.split() == ["loaded"]


def test_completion_is_shown_for_a_shell():
    # Or the shell that runs the tests is asked for, whatever it is.
    done = program("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_ADALOSS_COMPLETE=complete_bash" in done.stdout
    assert done.stderr.split() == ["loaded"]
