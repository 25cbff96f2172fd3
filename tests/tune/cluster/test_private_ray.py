"""What the rest of this process sees of a private Ray; `search/test_at_work.py` has who can reach one."""

import os

import pytest
from ray._private import ray_constants
from ray._raylet import AuthenticationMode, get_authentication_mode

from tune.cluster.private_ray import private_to_this_user

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@pytest.mark.parametrize("users_own", [{}, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "of another cluster"}])
def test_it_is_over_when_the_search_is(tmp_path, monkeypatch, users_own):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in users_own.items():
        monkeypatch.setenv(name, value)
    before = {name: os.environ.get(name) for name in VARIABLES}
    allowed = ray_constants.ENABLE_RAY_CLUSTER

    def search():
        with private_to_this_user(tmp_path):
            assert get_authentication_mode() == AuthenticationMode.TOKEN
            assert ray_constants.ENABLE_RAY_CLUSTER is False
            assert "RAY_AUTH_TOKEN" not in os.environ
            raise RuntimeError("broke")

    with pytest.raises(RuntimeError, match="broke"):
        search()
    assert {name: os.environ.get(name) for name in VARIABLES} == before
    assert allowed == ray_constants.ENABLE_RAY_CLUSTER
    assert get_authentication_mode() == AuthenticationMode.DISABLED


def test_each_search_has_a_token_of_its_own(tmp_path):
    tokens = []
    for name in "ab":
        (tmp_path / name).mkdir()
        with private_to_this_user(tmp_path / name):
            tokens.append((tmp_path / name / "token").read_text())
    assert len(set(tokens)) == 2
