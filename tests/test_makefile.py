"""What `make` would do: which environment a target sets up, and that it says so before. Nothing is installed here."""

import os
import re
import shutil
import subprocess

import pytest

from analysis.statistics.stats import MIN_SEEDS
from tests.test_project import PROJECT
from tune.budgets import default_budget
from tune.settings import ConfirmSettings

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
MAIN, DEV = "--editable .", "--editable '.[dev]'"


@pytest.fixture
def planned(tmp_path):
    """Returns the command lines of a target for an environment that has some stamps, the first the oldest."""

    def run(target: str, *stamps: str, **variables: str) -> list[str]:
        for age, stamp in enumerate(reversed(stamps)):
            (tmp_path / stamp).touch()
            os.utime(tmp_path / stamp, times=(2e9 - age, 2e9 - age))
        given = [f"{name}={value}" for name, value in {"VENV": str(tmp_path), **variables}.items()]
        command = ["make", "--dry-run", target, *given]
        # What `make test` tells the programs that it starts is not for this one.
        own = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
        done = subprocess.run(command, cwd=PROJECT, env=own, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    return run


def installed(lines: list[str]) -> list[str]:
    return [line.partition("constraints.txt ")[2] for line in lines if "pip install" in line]


def searches(lines: list[str]) -> list[str]:
    return [line for line in lines if "run_search.py" in line]


def test_a_search_installs_what_a_search_needs(planned):
    lines = planned("search")
    assert installed(lines) == [MAIN]
    assert len(searches(lines)) == 1


@pytest.mark.parametrize("target", ["test", "check", "slow"])
def test_tests_and_checks_install_the_rest_on_top(planned, target):
    assert installed(planned(target)) == [MAIN, DEV]
    assert installed(planned(target, ".installed")) == [DEV]
    assert installed(planned(target, ".installed", ".installed-dev")) == []


def test_what_is_there_is_not_installed_again(planned):
    lines = planned("search", ".installed")
    assert installed(lines) == []
    assert lines[:1] == searches(lines)


def test_tests_have_their_part_again_after_the_search_has(planned):
    """New versions for the search may not suit what tests had installed."""
    assert installed(planned("check", ".installed-dev", ".installed")) == [DEV]


def test_a_line_says_what_will_be_installed_and_how_to_have_less(planned, tmp_path):
    lines = planned("search")
    before = lines[: next(i for i, line in enumerate(lines) if "pip install" in line)]
    (said,) = [line for line in before if line.startswith("echo ")]
    assert f"into {tmp_path}" in said
    assert "GB" in said
    assert "make search PIP_EXTRA_INDEX_URL=https://" in said


def test_a_first_look_is_smaller_than_the_data_sets_budget_and_that_is_one_option_away(planned):
    budget, seeds = default_budget("digits"), ConfirmSettings()
    (first,), (full,) = searches(planned("search", ".installed")), searches(planned("search", ".installed", FULL="1"))
    options = dict(re.findall(r"--([a-z-]+) (\S+)", first))
    assert int(options["trials"]) < budget.trials
    assert int(options["max-epochs"]) < budget.max_epochs
    assert int(options["candidates"]) * int(options["candidate-seeds"]) < seeds.candidates * seeds.candidate_seeds
    assert int(options["confirm-seeds"]) >= MIN_SEEDS  # fewer never show a difference
    assert "model" not in options
    assert set(re.findall(r"--([a-z-]+)", full)) == {"dataset", "model"}
    assert any("make search FULL=1" in line for line in planned("search", ".installed"))
