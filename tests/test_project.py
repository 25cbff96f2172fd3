"""What holds for the project as a whole: its README, its layout, its imports."""

import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import typer

PROJECT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
PACKAGES = ("tune", "trainables", "search_spaces", "analysis")  # top-level folders of what is installed
WRITTEN = {"results", "data", "build", "dist", ".venv", "run.yaml"}  # what commands make
SOURCES = sorted(
    path
    for path in PROJECT.rglob("*.py")
    if path.relative_to(PROJECT).parts[0] not in WRITTEN
    and not any(part.startswith(".") for part in path.relative_to(PROJECT).parts)
)


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


# --- README ----------------------------------------------------------------------------------------------------------


def code_of(markdown: str) -> list[str]:
    """The lines of code blocks and the code spans of a text, without prompts and comments; continued lines joined."""
    fence = re.compile(r"^[ \t]*```[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
    blocks = [block.replace("\\\n", " ") for block in fence.findall(markdown)]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", fence.sub("", markdown))
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in [*lines, *spans]]


def make_targets(code: list[str]) -> set[str]:
    """What `make` is called with."""
    calls = [re.findall(r"(?:^|\s|&& )make((?: +[\w=./-]+)+)", line) for line in code]
    words = {word for call in calls for arguments in call for word in arguments.split()}
    return {word for word in words if "=" not in word and not word.startswith("-")}


def commands(code: list[str]) -> list[tuple[str, set[str]]]:
    """The Python programs of the project that are called, each with the options that follow it."""
    found = []
    for line in code:
        for part in re.split(r"\s(?:&&|\|\|?|;)\s", line):
            script = re.search(r"(?:^|\s)((?:[\w.-]+/)+[\w-]+\.py)(?=\s|$)", part)
            module = re.search(rf"python3? -m ((?:{'|'.join(PACKAGES)}|benchmarks)(?:\.\w+)+)", part)
            if script or module:
                match = script or module
                path = script[1].removeprefix("./") if script else module[1].replace(".", "/") + ".py"
                found.append((path, set(re.findall(r"(?<=\s)--[a-z][a-z-]*", part[match.end() :]))))
    return found


def paths(markdown: str, code: list[str]) -> set[str]:
    """The paths of the project that a text names: in code, and as targets of links."""
    folders = {path.name for path in PROJECT.iterdir() if path.is_dir()} - WRITTEN
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", markdown) if "://" not in link}
    found = set()
    for word in {word.strip(",;:'\"()").removeprefix("./") for line in code for word in line.split()}:
        if re.search(r"[<>*{}$=]|://|NAME", word) or word.startswith(("/", "~", "..")):
            continue  # a pattern, or no place in the project
        first, slash, _ = word.partition("/")
        is_file = re.fullmatch(r"[\w./-]+\.(py|md|toml|ya?ml|sh|txt|ipynb)", word) is not None
        if first not in WRITTEN and (is_file or (slash and first in folders)):
            found.add(word)
    return found | links


def is_there(path: str) -> bool:
    """Whether the project has a path, or a file of this name somewhere, as trees of folders name it."""
    if (PROJECT / path).exists():
        return True
    return "/" not in path and any(source.name == path for source in SOURCES)


def options_of(path: str) -> set[str]:
    """The options that a program of the project knows."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    app = typer.Typer(add_completion=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(module.main)
    declared = typer.main.get_command(app).params
    return {option for parameter in declared for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


EXAMPLE = """
Run `make search`, or [read](docs/nosuch.md) and `tune/nosuch.py`; `--nosuch-option` is none.

```bash
make -j2 nosuch VENV=x   # a comment about make comments
$ python tune/run_search.py --dataset digits \\
    --nosuch 3 && .venv/bin/python analysis/compare.py results/NAME --json
python -m benchmarks.nosuch --rounds 3
```

    results/<name>/x.py and `train-*.parquet`, `results/a.md`, `https://a.b/c.py`, `trainables/`, `pyproject.toml`
"""


def test_what_a_text_names_is_found_in_it():
    code = code_of(EXAMPLE)
    assert make_targets(code) == {"search", "nosuch"}
    assert commands(code) == [
        ("tune/run_search.py", {"--dataset", "--nosuch"}),
        ("analysis/compare.py", {"--json"}),
        ("benchmarks/nosuch.py", {"--rounds"}),
        ("tune/nosuch.py", set()),
    ]
    assert paths(EXAMPLE, code) == {
        "docs/nosuch.md",
        "tune/nosuch.py",
        "tune/run_search.py",
        "analysis/compare.py",
        "trainables/",
        "pyproject.toml",
    }
    assert {path for path in paths(EXAMPLE, code) if not is_there(path)} == {"docs/nosuch.md", "tune/nosuch.py"}
    assert {"--dataset", "--loss", "--help"} <= options_of("tune/run_search.py")
    assert "--nosuch" not in options_of("tune/run_search.py")
    assert is_there("settings.py")
    assert not is_there("nosuch.py")


@pytest.fixture(scope="module")
def readme() -> str:
    return (PROJECT / PYPROJECT["project"]["readme"]).read_text()


def test_every_make_target_in_the_readme_exists(readme):
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(code_of(readme)) <= targets


def test_every_path_in_the_readme_exists(readme):
    assert [path for path in sorted(paths(readme, code_of(readme))) if not is_there(path)] == []


def test_every_command_in_the_readme_exists_with_its_options(readme):
    called = commands(code_of(readme))
    assert "tune/run_search.py" in {path for path, _ in called}
    for path, options in called:
        assert (PROJECT / path).is_file(), path
        if options:
            assert options <= options_of(path), path


def test_every_option_that_the_readme_speaks_of_exists(readme):
    code = code_of(readme)
    known = {option for path in {path for path, _ in commands(code)} for option in options_of(path)}
    spoken = {word for line in code if line.startswith("--") for word in line.split() if word.startswith("--")}
    assert {option.partition("=")[0] for option in spoken} <= known


# --- Layout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tune", "analysis", "benchmarks"])
def test_no_module_beside_a_command_stands_before_another_package(folder):
    """Python puts the folder of the program that it runs first on the path."""
    others = set(importlib.metadata.packages_distributions()) - set(PACKAGES)
    own = {path.stem for path in (PROJECT / folder).glob("*.py")}
    assert own & (others | set(sys.stdlib_module_names)) == set()


def test_all_packages_are_installed():
    folders = {path.parent.relative_to(PROJECT) for path in SOURCES if path.name == "__init__.py"}
    found = {".".join(folder.parts) for folder in folders if folder.parts[0] != "tests"}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found
    assert {name.partition(".")[0] for name in found} == set(PACKAGES)


def test_every_dependency_says_what_it_is_for():
    lines = [line.strip() for line in (PROJECT / "pyproject.toml").read_text().splitlines()]
    project = PYPROJECT["project"]
    declared = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    for requirement in declared:
        (line,) = (line for line in lines if line.startswith(f'"{requirement}"'))
        assert re.fullmatch(r'"[^"]+",\s+# \w.{4,}', line), line


def test_a_file_can_be_read_in_one_go():
    lines = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: count for name, count in lines.items() if count > 400 and not name.startswith("tests/")} == {}


def test_no_file_knows_somebodys_machine():
    files = [*SOURCES, *PROJECT.glob("*.toml"), *PROJECT.glob("*.md"), *PROJECT.glob("*.txt"), PROJECT / "Makefile"]
    pattern = re.compile(r"/(?:home|Users|root)/\w")
    assert [name_of(path) for path in files if pattern.search(path.read_text())] == []
