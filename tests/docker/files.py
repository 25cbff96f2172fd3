"""Reads the Dockerfile, what is kept out of a build, and the compose file, as far as the tests ask."""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "docker" / "Dockerfile"
COMPOSE_FILE = PROJECT / "docker" / "compose.yaml"


@dataclass
class BuildStage:
    """A stage of a Dockerfile: what it stands on, and its instructions without those of that."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.instructions if name == instruction]


class Dockerfile:
    """The stages of a Dockerfile by name, in their order, and the arguments that come before them."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]
        self.arguments: dict[str, str] = {}
        self.stages: dict[str, BuildStage] = {}
        stage = None
        for line in "\n".join(lines).replace("\\\n", " ").splitlines():
            instruction, _, arguments = line.partition(" ")
            if instruction == "FROM":
                base, _, name = arguments.partition(" AS ")
                stage = self.stages[name] = BuildStage(base, name)
            elif stage is None:
                assert instruction == "ARG", line
                name, _, value = arguments.partition("=")
                self.arguments[name] = value
            else:
                stage.instructions.append((instruction, " ".join(arguments.split())))

    def inherited(self, target: str, instruction: str) -> list[str]:
        """What an image says, its own instructions last."""
        if target not in self.stages:
            return []
        stage = self.stages[target]
        return [*self.inherited(stage.base, instruction), *stage.all(instruction)]

    def environment(self, target: str) -> dict[str, str]:
        words = [word for line in self.inherited(target, "ENV") for word in shlex.split(line)]
        return dict(word.split("=", 1) for word in words)

    def copied(self) -> set[str]:
        """The paths of the project that any stage copies."""
        found = set()
        for stage in self.stages.values():
            for line in stage.all("COPY"):
                words = shlex.split(line)
                if not any(word.startswith("--from") for word in words):
                    found |= {word for word in words[:-1] if not word.startswith("--")}
        return found


def is_ignored(path: str, patterns: str) -> bool:
    """Whether a build does not get to see a path: the last pattern that fits it, or a folder that it is in, decides."""
    parts = path.split("/")
    places = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for line in patterns.splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        names = [place.rpartition("/")[2] for place in places] if pattern.startswith("**/") else places
        wanted = pattern.removeprefix("**/")
        # `*` does not reach over a slash
        if any(name.count("/") == wanted.count("/") and fnmatch.fnmatchcase(name, wanted) for name in names):
            ignored = not line.startswith("!")
    return ignored


_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<sign>:-|:\?)(?P<rest>[^}]*))?\}")


class MissingVariableError(Exception):
    """A variable without which the stack does not start; the message is what the user gets to see."""


def compose(text: str, **variables: str) -> Any:
    """Return a compose file as an engine would see it with these variables.

    Raises:
        MissingVariableError: one is needed and not given.
    """

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match["name"], "")
        if value or match["sign"] == ":-":
            return value or match["rest"]
        raise MissingVariableError(match["rest"] or f"{match['name']} without a default")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return _VARIABLE.sub(value_of, node) if isinstance(node, str) else node

    return filled(yaml.safe_load(text))


def exec_form(arguments: str) -> list[str]:
    """The words of a command in the form without a shell; raises ValueError for another."""
    return [str(word) for word in json.loads(arguments[arguments.index("[") :])]
