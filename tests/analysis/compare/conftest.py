"""The command that compares, and a run of which it has something to say."""

import json
from functools import partial

import pytest

from analysis import compare


@pytest.fixture
def command(called):
    """Runs the command with arguments and returns exit code, output and errors."""
    return partial(called, compare.main)


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
