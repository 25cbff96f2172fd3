"""The command that compares, and a run of which it has something to say."""

import json
import sys

import pytest

from analysis import compare
from tune.console import run_command


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with arguments and returns exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run_command(compare.main)
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def full_run(new_run):
    run = new_run("full", ("arcface", "adaloss_per_class", "softmax"))
    run.trial("arcface", 0, [0.5, 0.6, 0.98765])
    run.trial("arcface", 1, [0.5], "stopped")
    run.trial("arcface", 2, [0.5], None)
    run.trial("adaloss_per_class", 0, [], "failed", error="Traceback\nRuntimeError: [out] of memory")
    return run


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)
