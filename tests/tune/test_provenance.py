import json
import os
import platform
import subprocess
import sys

import numpy
import pytest
import torch

from tune import provenance
from tune.storage.url import VARIABLE


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit in the place of the project's."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git("init", "--quiet")
    (tmp_path / "code.py").write_text("1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    return tmp_path, git("rev-parse", "HEAD")


def test_versions_are_those_of_what_is_imported():
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == numpy.__version__
    assert versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert {"ray", "torchvision", "optuna", "pandas", "scikit-learn", "pillow", "adaloss-search"} <= versions.keys()


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package-anywhere",))
    assert provenance.versions()["no-such-package-anywhere"] == "not installed"


def test_a_clean_checkout(checkout):
    folder, revision = checkout
    (folder / "new.txt").touch()  # what git does not track changes no result
    assert provenance.git_state() == {"revision": revision, "dirty": False}


def test_a_changed_checkout(checkout):
    folder, revision = checkout
    (folder / "code.py").write_text("2\n")
    assert provenance.git_state() == {"revision": revision, "dirty": True}


def test_programs_that_are_asked_see_no_password(tmp_path, monkeypatch):
    (tmp_path / "git").write_text(f"#!/bin/sh\n/usr/bin/env >> {tmp_path}/seen\necho asked >> {tmp_path}/seen\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PGPASSWORD", "needle")
    monkeypatch.setenv(VARIABLE, "postgresql://user:needle@host/database")
    provenance.git_state()
    seen = (tmp_path / "seen").read_text()
    assert seen.count("\nasked\n") == 2
    assert "needle" not in seen
    monkeypatch.setattr(platform, "platform", lambda: str(os.environ))  # it asks uname, and does so once a process
    assert "needle" not in provenance.hardware()["platform"]
    assert os.environ["PGPASSWORD"] == "needle"


def test_an_image_says_what_it_was_built_from(checkout, monkeypatch):
    folder, revision = checkout

    def described() -> str:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    clean = described()
    (folder / "code.py").write_text("2\n")
    changed = described()
    monkeypatch.setenv("PATH", "")  # an image has no git
    for built_from, dirty in ((clean, False), (changed, True)):
        monkeypatch.setenv("ADALOSS_REVISION", built_from)
        assert provenance.git_state() == {"revision": revision, "dirty": dirty}
    monkeypatch.setenv("ADALOSS_REVISION", "")
    assert provenance.git_state() == {"revision": None, "dirty": None}


def test_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == {"revision": None, "dirty": None}


def test_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() == {"revision": None, "dirty": None}


def test_hardware_is_told_in_plain_values():
    hardware = provenance.hardware()
    assert set(hardware) == {"host", "platform", "cpu", "cpus", "memory_gib", "gpus"}
    assert json.loads(json.dumps(hardware)) == hardware
    assert hardware["cpus"] >= 1
    assert 0.1 < hardware["memory_gib"] < 2**20
    assert len(hardware["gpus"]) == torch.cuda.device_count()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_the_processor_has_a_name():
    assert provenance.hardware()["cpu"]
