"""What tests of several folders share."""

import sys
import warnings
from collections.abc import Iterator

import pytest

from tests.postgres import Server, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test asks for it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def no_ray_is_left_behind() -> Iterator[None]:
    """Some of Ray's functions start a cluster when asked without one; the next test's own would then be refused."""
    yield
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized(), "a test of this file left Ray connected"


@pytest.fixture
def no_warning() -> Iterator[None]:
    """A warning in the test fails it, unless it is of what an earlier test left to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        yield
