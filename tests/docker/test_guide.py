"""The guide to clusters: what it tells to run exists."""

import re
from pathlib import Path

import pytest

from tests.test_project import code_of, commands, is_there, make_targets, options_of, paths

PROJECT = Path(__file__).parents[2]
GUIDE = (PROJECT / "docker" / "README.md").read_text()
CODE = code_of(GUIDE)
SECTIONS = ("Your own machines", "AWS", "Google Cloud", "Kubernetes", "Slurm", "Containers", "When it hangs")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_way_is_described_and_linked(section):
    assert f"\n## {section}\n" in GUIDE
    anchor = section.lower().replace(" ", "-")
    assert f"](#{anchor})" in GUIDE or section == "When it hangs"


def test_every_link_inside_leads_somewhere():
    lines = re.findall(r"^#+ (.*)$", GUIDE, re.M)
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= headings


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(CODE) <= targets


def test_every_path_exists():
    named = {path for path in paths(GUIDE, CODE) if not path.startswith(("#", "../")) and "/secrets" not in path}
    made_by_others = {"docker/.env", "growing.py"}  # by `make`, and by whoever has a loss of their own
    assert [path for path in sorted(named - made_by_others) if not is_there(path)] == []


def test_every_command_exists_with_its_options():
    called = commands(CODE)
    assert "tune/run_search.py" in {path for path, _ in called}
    for path, options in called:
        assert (PROJECT / path).is_file(), path
        assert options <= options_of(path), path
