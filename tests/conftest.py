"""What tests of several folders share."""

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, running_server
from tests.tune.shared_ray import SHARED_RAY
from tune.console import run_command

if "PYTEST_XDIST_WORKER" in os.environ:
    # Beside another process of tests, threads that wait for each other's cores are slower than one (2.7 times and more,
    # as seen).
    os.environ["OMP_NUM_THREADS"] = "1"

# What torch, Ray and plotly make when they are imported lives as long as the process: one look at it is enough.
gc.set_threshold(100_000, 20, 20)

_FIRST = ("cluster/", "tune/", "trainables/", "analysis/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: with two at a time, one that comes last would run alone.

    Those that share a Ray follow each other: it stops for those that do not.
    """
    sharing = {item.path for item in items if "shared_ray" in getattr(item, "fixturenames", ())}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        first = next((rank for rank, start in enumerate(_FIRST) if path.startswith(start)), len(_FIRST))
        return first, item.path not in sharing

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Keep what is imported out of the garbage collector's sight: it would go through all of it again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test asks for it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def no_ray_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Some of Ray's functions start a cluster when asked without one; the next test's own would then be refused.

    The one that tests share stays for as long as the files follow each other that use it.
    """
    items = [item for item in request.session.items if item.path == request.path]
    if not any("shared_ray" in getattr(item, "fixturenames", ()) for item in items):
        SHARED_RAY.stop()
    yield
    ray = sys.modules.get("ray")
    is_connected = ray is not None and ray.is_initialized()
    assert is_connected == SHARED_RAY.is_running, "a test of this file left Ray connected, or disconnected the others'"


@pytest.fixture(scope="session", autouse=True)
def shared_ray_ends() -> Iterator[None]:
    """What tests share ends with them."""
    yield
    SHARED_RAY.stop()


@pytest.fixture
def no_warning() -> Iterator[None]:
    """A warning in the test fails it, unless it is of what an earlier test left to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command, given by its function, with arguments, and returns exit code, output and errors."""

    def call(main: Callable[..., None], *arguments: object) -> tuple[int, str, str]:
        program = main.__module__.rpartition(".")[2]
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run_command(main)
        return (end.value.code, *capsys.readouterr())

    return call
