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

    def arguments(self, name, *options):
        script = str(PROJECT / "tune" / "run_search.py")
        return [sys.executable, script, "--output", str(self.output), "--name", name, *map(str, options)]

    def start(self, name, *options):
        environment = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "ADALOSS_DATA"}}
        return subprocess.Popen(
            self.arguments(name, *options),
            cwd=self.output,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, name, *options, timeout=300):
        process = self.start(name, *options)
        stdout, stderr = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("results"))
