"""Who can reach the Ray of a search on this machine: nobody from another machine, and no other user of this one."""

import ipaddress
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ray._private import ray_constants
from ray._raylet import AuthenticationMode, get_authentication_mode

from tune.cluster.private_ray import private_to_this_user
from tune.records import read_records

SECONDS = 300
TRIALS = 2


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def listeners(processes):
    """(name of the process, address, port) of every socket that takes connections or datagrams."""
    found = []
    for process in processes:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN or (not connection.raddr and connection.status == "NONE"):
                found.append((process.name(), connection.laddr.ip, connection.laddr.port))
    return found


def is_loopback(address):
    address = ipaddress.ip_address(address)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@dataclass(frozen=True)
class Running:
    """A search at work: all its processes, and the folder that has its token."""

    family: list[psutil.Process]
    folder: Path

    @property
    def token(self):
        return (self.folder / "token").read_text()


@pytest.fixture(scope="module")
def running(search):
    options = ("--loss", "softmax", "--trials", TRIALS, "--max-epochs", 500, "--grace-epochs", 500)
    process = search.start("private", "--dataset", "digits", "--no-confirm", "--max-concurrent", TRIALS, *options)
    epochs = search.output / "private" / "softmax" / "epochs.jsonl"
    wait_for(lambda: len({epoch["trial_id"] for epoch in read_records(epochs)}) == TRIALS)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    worker = next(process for process in family if "Trainable" in process.name())
    folder = Path(worker.environ()["RAY_AUTH_TOKEN_PATH"]).parent
    yield Running(family, folder)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 143
    assert not folder.exists()


def test_a_signal_to_the_process_group_of_the_search_is_for_the_search_alone(running):
    search, *others = running.family
    assert {"gcs_server", "raylet"} <= {process.name() for process in others}
    assert all(os.getpgid(process.pid) != os.getpgid(search.pid) for process in others if process.is_running())


def test_ray_starts_no_program_that_a_search_has_no_use_for(running):
    """Its dashboard, its autoscaler and its reader of logs took as much time as all else of a start."""
    scripts = [word for process in running.family for word in process.cmdline() if word.endswith(".py")]
    assert any("run_search.py" in word for word in scripts)
    assert [word for word in scripts if word.endswith(("monitor.py", "dashboard/dashboard.py"))] == []


def test_nothing_listens_beyond_loopback_while_a_search_runs(running):
    found = listeners(running.family)
    names = " ".join(name for name, _, _ in found)
    assert all(name in names for name in ("gcs_server", "raylet", "Trainable"))  # it was looked at while at work
    assert [listener for listener in found if not is_loopback(listener[1])] == []


def test_only_this_user_can_read_the_token(running):
    folder, token = running.folder, running.token
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "token").stat().st_mode & 0o077 == 0
    assert len(token) == 64
    for process in running.family:
        assert token not in " ".join(process.cmdline())
        assert token not in " ".join(process.environ().values())
    others = [path for path in folder.rglob("*") if path.is_file() and path.name != "token"]
    assert others
    assert not [path for path in others if token.encode() in path.read_bytes()]


def joined(address, **environment):
    """What a program gets that speaks to the cluster's head with such an environment."""
    program = (
        "import sys; from ray._raylet import GcsClient; print(len(GcsClient(address=sys.argv[1]).get_all_node_info()))"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    patience = {"RAY_nums_py_gcs_reconnect_retry": "0", "RAY_py_gcs_connect_timeout_s": "5"}
    done = subprocess.run(
        [sys.executable, "-c", program, address],
        env=plain | patience | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return done.stdout.strip() or done.stderr


def test_who_does_not_know_the_token_is_refused(running, tmp_path):
    port = next(port for name, _, port in listeners(running.family) if name == "gcs_server")
    address = f"127.0.0.1:{port}"
    home = {"HOME": str(tmp_path)}  # the user of this machine may have a token of Ray's own
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": running.token}
    assert joined(address, **home, **token) == "1"
    for stranger in ({}, {"RAY_AUTH_MODE": "disabled"}, token | {"RAY_AUTH_TOKEN": "0" * 64}):
        assert "token is missing or incorrect" in joined(address, **home, **stranger)


def test_the_agent_that_speaks_http_wants_the_token_too(running):
    port = next(port for name, _, port in listeners(running.family) if "RuntimeEnv" in name)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=SECONDS)
    assert error.value.code == 401


# --- What the rest of this process sees of it ------------------------------------------------------------------------

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
