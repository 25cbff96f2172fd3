import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from trainables.errors import UserError
from tune.console import EXIT_BAD_INPUT, EXIT_FAILED, home_expanded, leave_job_folder, run_command
from tune.full_disk import DiskFullError
from tune.records import RecordError


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs a command and returns its exit code, output and errors."""

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as end:
            run_command(command)
        return (end.value.code, *capsys.readouterr())

    return run


def raising(error):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1), (130, 130)])
def test_what_a_command_returns_is_its_exit_code(ended, returned, code):
    def command() -> int | None:
        return returned

    assert ended(command) == (code, "", "")


@pytest.mark.parametrize("kind", [UserError, RecordError, typer.BadParameter])
def test_bad_input_is_one_line(ended, kind):
    code, out, err = ended(raising(kind("this is wrong:\n  mend it")))
    assert (code, out) == (EXIT_BAD_INPUT, "")
    assert err.startswith("error: ")
    assert err.endswith("this is wrong: mend it\n")


def test_a_full_disk_is_one_line_and_no_bad_input(ended):
    error = DiskFullError("the disk of a\nb is full")
    assert ended(raising(error)) == (EXIT_FAILED, "", "error: the disk of a b is full\n")
    assert EXIT_FAILED not in {0, EXIT_BAD_INPUT}


def test_an_option_that_is_not_there_is_bad_input(ended):
    def command() -> None:
        pytest.fail("the command was run")

    code, out, err = ended(command, "--nosuch")
    assert (code, out, err.count("\n")) == (EXIT_BAD_INPUT, "", 1)
    assert "--nosuch" in err


def test_ctrl_c_ends_without_a_traceback(ended):
    assert ended(raising(KeyboardInterrupt())) == (130, "", "")


@pytest.mark.parametrize("error", [ZeroDivisionError(), ValueError("a bug")])
def test_a_fault_of_the_program_is_not_passed_off_as_bad_input(monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(type(error)):
        run_command(raising(error))


def test_a_job_does_not_stay_where_ray_deletes_what_it_writes(tmp_path, monkeypatch):
    unpacked = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    unpacked.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(unpacked)
    leave_job_folder()
    assert Path.cwd() == tmp_path


def test_anywhere_else_a_command_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leave_job_folder()
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_who_stops_reading_gets_no_complaint(lines, unbuffered):
    """As `compare.py RUN | head`: little is only written at the end, much at once, without a buffer all of it."""
    code = f"""if True:
        from tune.console import run_command
        def main() -> None:
            input()
            for number in range({lines}):
                print(number)
        run_command(main)"""
    project = Path(__file__).resolve().parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([sys.executable, "-c", code], cwd=project, env=environment, **pipes) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (EXIT_FAILED, b"")


def test_a_home_folder_is_known_after_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/mnt/me")
    assert home_expanded("~/runs") == "/mnt/me/runs"
    assert home_expanded("runs~") == "runs~"
    assert home_expanded("s3://bucket/~") == "s3://bucket/~"
    assert home_expanded(None) is None
