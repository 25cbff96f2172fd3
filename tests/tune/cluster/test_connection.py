import os
import socket
import subprocess
import tempfile

import pytest
import ray

from trainables.errors import UserError
from tune.cluster import connection as cluster


@pytest.fixture
def note(tmp_path, monkeypatch):
    """The file in which Ray notes the address of the machine's cluster."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def test_the_environment_names_the_cluster(note, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster._surrounding_cluster() == "head:6379"


def test_a_cluster_that_answers_is_found_by_its_note(note):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        note.write_text(address + "\n")
        assert cluster._surrounding_cluster() == address


def test_without_a_note_there_is_no_cluster(note):
    assert cluster._surrounding_cluster() is None


def test_a_note_that_outlived_its_cluster_is_not_believed(note):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    note.write_text(f"127.0.0.1:{port}")
    assert cluster._surrounding_cluster() is None


@pytest.mark.parametrize("content", ["", "no port", "host:port"])
def test_a_note_that_is_no_address_is_not_believed(note, content):
    note.write_text(content)
    assert cluster._surrounding_cluster() is None


def test_a_search_is_local_unless_there_is_a_cluster(note, monkeypatch):
    assert [cluster.is_local(address) for address in (None, "local", "auto", "head:6379")] == [True, True, False, False]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert [cluster.is_local(address) for address in (None, "local")] == [False, True]


def test_no_cluster_at_a_given_address_is_said_in_one_line(monkeypatch):
    def refuse(**_):
        raise ConnectionError("nobody there\nand much more")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError) as error, cluster.connect(address, 0):
            pytest.fail("connected")
    assert str(error.value) == f"--address {address}: no Ray cluster answers there (nobody there)"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no port", "host:99999999"])
def test_ray_is_not_asked_where_nobody_listens(monkeypatch, address):
    """It would try for minutes."""
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("asked"))
    with pytest.raises(UserError, match="no Ray cluster answers there"), cluster.connect(address, 0):
        pytest.fail("connected")


def test_auto_needs_a_cluster(note, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("asked"))
    with pytest.raises(UserError, match="--address auto: this machine is no node"), cluster.connect("auto", 0):
        pytest.fail("connected")


# --- What killed searches left behind --------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are looked up in /proc")  # noqa: PTH112
def test_only_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_temporary_parent", lambda: str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = f"adaloss-ray-{os.getpid()}-x"
    others = {mine, "adaloss-ray-notes", "somebody-elses-1", f"ray-{dead.pid}-x"}
    gone = f"adaloss-ray-{dead.pid}-x"
    for name in {*others, gone}:
        (tmp_path / name / "inside").mkdir(parents=True)
    cluster._remove_abandoned()
    assert {path.name for path in tmp_path.iterdir()} == others


def test_a_local_ray_leaves_no_folder_behind_even_if_it_does_not_start(tmp_path, monkeypatch):
    seen = {}

    def fail(**options):
        seen.update(options)
        assert os.listdir(tmp_path)  # noqa: PTH208
        raise RuntimeError("no memory")

    monkeypatch.setattr(cluster, "_temporary_parent", lambda: str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(RuntimeError, match="no memory"), cluster.connect("local", 1000):
        pytest.fail("connected")
    assert list(tmp_path.iterdir()) == []
    assert seen["object_store_memory"] > 2 * 1000


@pytest.mark.parametrize(
    ("folder", "parent"), [("/tmp", "/tmp"), ("/tmp/mine-12", "/tmp/mine-12"), ("/tmp/mine-12-", "/tmp")]
)
def test_sockets_have_names_that_are_short_enough(monkeypatch, folder, parent):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: folder)
    assert cluster._temporary_parent() == parent
    session = "r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # with the highest process id
    assert len(f"{parent}/{cluster._TEMPORARY_PREFIX}4194304-abcdefgh/{session}") <= 107
