"""Print what pyproject.toml asks for, with the extras that are named: what an image installs before it has the code."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for extra in sys.argv[1:]:
    project["dependencies"] += project["optional-dependencies"][extra]
print(*project["dependencies"], sep="\n")
