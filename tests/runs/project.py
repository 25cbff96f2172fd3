"""The project's packages copied to a folder and changed there, as somebody does who adds a loss or a model."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.test_project import PACKAGES, PROJECT

# A model for grey 28x28 images with 16 inputs: its weights are small enough to be kept in a repository.
TINY = """    "tiny": ModelSpec(
        lambda dim, _: __import__("tests_tiny").tiny(dim),
        (_GREY,),
        0.1,
    ),
"""
TINY_MODULE = """from torch import nn


def tiny(dim):
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, dim), nn.BatchNorm1d(dim))
"""


class Copy:
    """A copy of the packages.

    Args:
        folder: where to; made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))

    def insert(self, path: str, before: str, text: str) -> None:
        """Put a text before another one, which must be there once."""
        file = self.folder / path
        content = file.read_text()
        assert content.count(before) == 1, (path, before)
        file.write_text(content.replace(before, text + before))

    def add_tiny_model(self) -> None:
        """Register the model with which the runs of earlier versions were trained."""
        self.insert("trainables/registry.py", '    "resnet9": ModelSpec(', TINY)
        (self.folder / "tests_tiny.py").write_text(TINY_MODULE)

    def run(self, script: str, *arguments: object, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command of the copy in its folder."""
        command = [sys.executable, str(self.folder / script), *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False)
