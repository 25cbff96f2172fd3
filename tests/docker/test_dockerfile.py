"""What the image promises, as far as it can be seen without building one."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from tests.docker.files import DOCKERFILE, PROJECT, Dockerfile, exec_form, is_ignored

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
IGNORE = (PROJECT / ".dockerignore").read_text()
TARGETS = ("cpu", "cuda")


@pytest.fixture(scope="module")
def dockerfile():
    return Dockerfile(DOCKERFILE.read_text())


def requirements(*extras):
    command = [sys.executable, "docker/requirements.py", *extras]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()


def name_of(requirement):
    return re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")


def test_there_is_a_target_for_cpus_and_one_for_gpus_and_the_small_one_is_the_default(dockerfile):
    assert set(TARGETS) <= set(dockerfile.stages)
    assert list(dockerfile.stages)[-1] == "cpu"


def test_every_stage_stands_on_the_one_base_which_is_pinned_by_version_and_digest(dockerfile):
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", dockerfile.arguments["PYTHON_IMAGE"])
    for stage in dockerfile.stages.values():
        assert stage.base in {"${PYTHON_IMAGE}", *dockerfile.stages}


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_runs_without_root(dockerfile, target):
    (user,) = dockerfile.inherited(target, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # numbers: Kubernetes cannot tell that a name is not root's


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_knows_whether_it_is_healthy_and_what_to_run(dockerfile, target):
    (check,) = dockerfile.inherited(target, "HEALTHCHECK")
    assert {"--interval", "--timeout", "--start-period", "--retries"} <= set(re.findall(r"--[a-z-]+", check))
    assert (PROJECT / exec_form(check)[1]).is_file()
    assert exec_form(check)[1] in dockerfile.copied()
    (command,) = dockerfile.inherited(target, "CMD")
    assert exec_form(command)[:3] == ["ray", "start", "--head"]


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_joins_without_the_token_and_no_secret_is_in_an_image(dockerfile, target):
    environment = dockerfile.environment(target)
    assert environment["RAY_AUTH_MODE"] == "token"
    named = [
        *environment,
        *(line.partition("=")[0] for stage in dockerfile.stages.values() for line in stage.all("ARG")),
    ]
    assert [name for name in named if re.search("PASSWORD|TOKEN|SECRET|KEY", name)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_result_can_say_from_what_revision_it_is(dockerfile, target):
    assert "REVISION=" in dockerfile.stages[target].all("ARG")
    assert dockerfile.environment(target)["ADALOSS_REVISION"] == "${REVISION}"


def test_what_is_copied_exists_and_reaches_the_build(dockerfile):
    copied = dockerfile.copied()
    assert [path for path in copied if not (PROJECT / path).exists()] == []
    assert [path for path in copied if is_ignored(path, IGNORE)] == []


def test_all_packages_and_commands_are_in_the_image(dockerfile):
    assert {package.partition(".")[0] for package in PYPROJECT["tool"]["setuptools"]["packages"]} <= dockerfile.copied()


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".git/HEAD",
            ".venv/bin/python",
            "results/a/run.json",
            "data/mnist/x",
            "tests/test_project.py",
            ".mypy_cache/x",
        ),
        *("docker/.env", "docker/secrets/ray_token", "docker/compose.yaml", "tune/__pycache__/a.pyc", "build/lib/a"),
        *("trainables/losses/__pycache__/a.pyc", "id_rsa", ".env"),
    ],
)
def test_nothing_else_reaches_the_build(path):
    assert is_ignored(path, IGNORE)


def test_ignoring_is_understood():
    assert is_ignored("a/b", "*")
    assert not is_ignored("a/b", "*\n!a")
    assert is_ignored("a/b", "*\n!a\n# comment\n\n**/b")
    assert not is_ignored("a/b/c", "b")
    assert is_ignored("a/b/c", "a/b")
    assert not is_ignored("a/b/c", "a/*/d")


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_installed_is_pinned(dockerfile, target):
    (commands,) = dockerfile.stages[f"{target}-environment"].all("RUN")
    torch, rest = [command for command in commands.split("&&") if "pip install" in command]
    assert {"--no-deps", "--requirement torch.txt"} <= set(re.findall(r"--no-deps|--requirement \S+", torch))
    assert "--constraint constraints.txt" in rest
    pins = {name_of(line) for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = re.search(r"requirements\.py ([\w ]+) >", " ".join(dockerfile.stages["requirements"].all("RUN")))[
        1
    ].split()
    assert {"cluster", "postgres"} <= set(extras)
    assert {name_of(line) for line in requirements(*extras)} | {"optuna-dashboard", "torchvision"} <= pins


def test_the_wheels_of_torch_come_from_where_the_target_needs_them(dockerfile):
    indexes = {target: dockerfile.stages[f"{target}-environment"].all("ARG") for target in TARGETS}
    assert indexes == {
        "cpu": ["TORCH_INDEX=https://download.pytorch.org/whl/cpu"],
        "cuda": ["TORCH_INDEX=https://pypi.org/simple"],
    }


def test_requirements_are_those_of_the_project_and_of_the_extras_that_are_named():
    project = PYPROJECT["project"]
    assert requirements() == project["dependencies"]
    assert requirements("cluster") == [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    with pytest.raises(subprocess.CalledProcessError):
        requirements("no-such-extra")


@pytest.mark.parametrize("script", ["health.py", "requirements.py"])
def test_what_runs_before_anything_is_installed_needs_nothing(script):
    tree = ast.parse((PROJECT / "docker" / script).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= set(sys.stdlib_module_names)
