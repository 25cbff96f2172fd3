"""A printed command is the program that printed it, by the path that was used; pasted into a shell, it runs."""

import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.test_project import PROJECT
from tune.invocation import COMMANDS, command_line, module_of, own_command_line

AWKWARD = "my results/it's $HOME"


@pytest.fixture
def called_as(monkeypatch, tmp_path):
    """Makes this program one that was called in some form."""
    monkeypatch.chdir(PROJECT)

    def call(*words, module=None, interpreter=sys.executable, path=None):
        monkeypatch.setattr(sys, "argv", list(words))
        monkeypatch.setattr(sys, "orig_argv", [interpreter, *words])
        spec = None if module is None else SimpleNamespace(name=module)
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
        if path is not None:
            monkeypatch.setenv("PATH", str(path))

    return call


def test_a_script_names_itself_and_those_beside_it_by_the_path_that_was_used(called_as, monkeypatch):
    python = sys.executable
    called_as("tune/run_search.py", "--dataset", "digits")
    assert command_line("search", "--resume") == f"{python} tune/run_search.py --resume"
    assert command_line("confirm", "results/a") == f"{python} tune/confirm.py results/a"
    assert command_line("compare", "results/a") == f"{python} analysis/compare.py results/a"
    assert own_command_line("search") == f"{python} tune/run_search.py --dataset digits"
    monkeypatch.chdir(PROJECT / "tune")
    called_as("run_search.py")
    assert command_line("confirm") == f"{python} ../tune/confirm.py"
    assert command_line("dashboard") == f"{python} ../analysis/dashboard.py"
    called_as(str(PROJECT / "analysis" / "compare.py"))
    assert command_line("confirm") == f"{python} {PROJECT / 'tune' / 'confirm.py'}"


def test_the_interpreter_is_the_one_that_was_typed_where_it_is_found(called_as, tmp_path):
    (tmp_path / "python9").symlink_to(sys.executable)
    called_as("tune/confirm.py", interpreter="python9", path=tmp_path)
    assert command_line("confirm") == "python9 tune/confirm.py"
    called_as("tune/confirm.py", interpreter="gone/python")
    assert command_line("confirm") == f"{sys.executable} tune/confirm.py"


def test_the_installed_program_is_called_by_its_name_where_that_is_enough(called_as, tmp_path):
    program = tmp_path / "bin" / "adaloss"
    program.parent.mkdir()
    program.touch(mode=0o755)
    called_as(str(program), "search", "--dataset", "digits", path=program.parent)
    assert command_line("search", "--resume") == "adaloss search --resume"
    assert own_command_line("search") == "adaloss search --dataset digits"
    called_as(str(program), "search", path=tmp_path)
    assert command_line("compare", "a") == f"{program} compare a"


@pytest.mark.parametrize(("module", "called"), [("tune.cli", "tune.cli compare"), ("tune.confirm", "analysis.compare")])
def test_a_module_is_called_as_one(called_as, module, called):
    called_as(f"/anywhere/{module.rpartition('.')[2]}.py", module=module)
    assert command_line("compare", "a") == f"{sys.executable} -m {called} a"


def test_the_program_of_all_commands_can_be_a_script(called_as):
    called_as("tune/cli.py", "search", "--trials", "3")
    assert command_line("compare", "a") == f"{sys.executable} tune/cli.py compare a"
    assert own_command_line("search") == f"{sys.executable} tune/cli.py search --trials 3"


def test_a_script_that_was_copied_elsewhere_alone_knows_the_others_by_their_modules(called_as, monkeypatch, tmp_path):
    """`ray submit` does that; the project is installed there."""
    monkeypatch.chdir(tmp_path)
    called_as("run_search.py")
    assert command_line("search", "--resume") == f"{sys.executable} run_search.py --resume"
    assert command_line("compare", "a") == f"{sys.executable} -m tune.cli compare a"


@pytest.mark.parametrize("words", [["tune/run_search.py"], ["tune/cli.py", "search"]])
def test_whatever_a_path_is_called_a_shell_takes_it_as_one_word(called_as, words):
    called_as(*words)
    line = command_line("compare", AWKWARD)
    code = "import sys; print(sys.argv[-1])"
    shown = line.replace(shlex.join(shlex.split(line)[:-1]), f"{sys.executable} -c {shlex.quote(code)}", 1)
    assert subprocess.run(shown, shell=True, capture_output=True, text=True, check=True).stdout == f"{AWKWARD}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command):
    assert (PROJECT / COMMANDS[command]).is_file()
    assert (PROJECT / f"{module_of(command).replace('.', os.sep)}.py").is_file()
