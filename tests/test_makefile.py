"""What `make` would do: which environment a target sets up, and that it says so before. Nothing is installed here."""

import os
import shutil
import subprocess

import pytest

from tests.test_project import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
MAIN, DEV = "--editable .", "--editable '.[dev]'"


@pytest.fixture
def planned(tmp_path):
    """Returns the command lines of a target for an environment that has some stamps, the first the oldest."""

    def run(target: str, *stamps: str) -> list[str]:
        for age, stamp in enumerate(reversed(stamps)):
            (tmp_path / stamp).touch()
            os.utime(tmp_path / stamp, times=(2e9 - age, 2e9 - age))
        command = ["make", "--dry-run", target, f"VENV={tmp_path}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    return run


def installed(lines: list[str]) -> list[str]:
    return [line.partition("constraints.txt ")[2] for line in lines if "pip install" in line]


def test_a_search_installs_what_a_search_needs(planned):
    lines = planned("search")
    assert installed(lines) == [MAIN]
    assert "run_search.py" in lines[-1]


@pytest.mark.parametrize("target", ["test", "check", "slow"])
def test_tests_and_checks_install_the_rest_on_top(planned, target):
    assert installed(planned(target)) == [MAIN, DEV]
    assert installed(planned(target, ".installed")) == [DEV]
    assert installed(planned(target, ".installed", ".installed-dev")) == []


def test_what_is_there_is_not_installed_again(planned):
    lines = planned("search", ".installed")
    assert installed(lines) == []
    assert len(lines) == 1


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
