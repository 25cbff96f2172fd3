import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tune.shared_ray import SHARED_RAY
from tune.console import run_command

PROJECT = Path(__file__).resolve().parents[2]


def is_a_users(variable):
    """Whether a user's environment may have a variable; what Ray is told of the tests' own is none of a search's."""
    ours = {"RAY_ADDRESS", "RAY_worker_niceness", "ADALOSS_DATA"}
    return variable not in ours and not variable.startswith(("RAY_AUTH_", "RAY_ENABLE_"))


class Command:
    """`python tune/run_search.py` as a user runs it, or another command, on digits, into a folder of the test's own."""

    def __init__(self, output):
        self.output = output
        self._started = []

    def start(self, name, *options, **variables):
        return self.start_program("run_search.py", "--output", self.output, "--name", name, *options, **variables)

    def start_program(self, program, *arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if is_a_users(name)} | variables
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "tune" / program), *map(str, arguments)],
            cwd=self.output,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def stop_all(self):
        """Leave no search behind, whatever a test made of it."""
        for process in self._started:
            process.kill()
            process.wait()

    def __call__(self, name, *options, timeout=900, **variables):
        process = self.start(name, *options, **variables)
        stdout, stderr = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    command = Command(tmp_path_factory.mktemp("results"))
    yield command
    command.stop_all()


@pytest.fixture
def shared_ray():
    """Searches and confirmations of the test run in the Ray of this process."""
    with SHARED_RAY.used():
        yield


@pytest.fixture
def here(shared_ray, monkeypatch, capfd):
    """Runs a command, given by its function, in this process and its Ray; what comes back is as of a program."""

    def run(main, *arguments):
        words = [f"tune/{main.__module__.rpartition('.')[2]}.py", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(main)
        return subprocess.CompletedProcess(words, end.value.code, *capfd.readouterr())

    return run
