import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


class Command:
    """`python tune/run_search.py` as a user runs it, on digits, into a folder of the test's own."""

    def __init__(self, output):
        self.output = output
        self._started = []

    def arguments(self, name, *options):
        script = str(PROJECT / "tune" / "run_search.py")
        return [sys.executable, script, "--output", str(self.output), "--name", name, *map(str, options)]

    def start(self, name, *options, **variables):
        environment = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "ADALOSS_DATA"}} | variables
        process = subprocess.Popen(
            self.arguments(name, *options),
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
