"""A search at work: who can reach its Ray, who gets into its folder, and how Ctrl-C ends it."""

import contextlib
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
from types import SimpleNamespace

import optuna
import psutil
import pytest
from optuna.trial import TrialState

import tune.session
from tune import run_search
from tune.cluster.slots import Slots
from tune.records import read_records

SECONDS = 300


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
    """A search at work: its command, all its processes, that of its trial, and the folder that has its token."""

    command: subprocess.Popen[str]
    family: list[psutil.Process]
    trial: psutil.Process
    folder: Path

    @property
    def token(self):
        return (self.folder / "token").read_text()


@pytest.fixture(scope="module")
def running(search):
    """A search whose only trial stands still in the middle, so that it is there as long as it is looked at."""
    options = ("--dataset", "digits", "--loss", "adaloss", "--trials", 2, "--max-epochs", 500, "--grace-epochs", 500)
    options += ("--model", "ArcFaceCNN", "--niceness", 3)
    command = search.start("busy", *options, "--train-size", 320, "--max-concurrent", 1, "--no-confirm")
    wait_for(lambda: len(read_records(search.output / "busy" / "adaloss" / "epochs.jsonl")) >= 4)
    family = [psutil.Process(command.pid), *psutil.Process(command.pid).children(recursive=True)]
    trial = next(process for process in family if "Trainable" in process.name())
    folder = Path(trial.environ()["RAY_AUTH_TOKEN_PATH"]).parent
    trial.suspend()
    yield Running(command, family, trial, folder)
    with contextlib.suppress(psutil.NoSuchProcess):
        trial.resume()
    command.send_signal(signal.SIGTERM)
    command.wait(SECONDS)
    assert not folder.exists()


def test_a_signal_to_the_process_group_of_the_search_is_for_the_search_alone(running):
    search, *others = running.family
    assert {"gcs_server", "raylet"} <= {process.name() for process in others}
    assert all(os.getpgid(process.pid) != os.getpgid(search.pid) for process in others if process.is_running())


def test_trials_give_way_to_other_programs_as_far_as_they_are_asked_to(running):
    assert running.trial.nice() == max(3, running.family[0].nice())


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


def test_no_other_search_gets_into_its_folder(running, search, called, monkeypatch):
    """The other one needs no Ray to find that out, but would be in it by then."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("ADALOSS_DATA", raising=False)
    nothing_wrong = contextlib.nullcontext(SimpleNamespace(problem=lambda: None))
    monkeypatch.setattr(tune.session, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(tune.session, "slots_for", lambda *_: Slots(1.0, 0.0, 1, 1))
    monkeypatch.setattr(tune.session, "NodeCheck", lambda *_: nothing_wrong)
    before = (search.output / "busy" / "run.json").read_bytes()
    code, _, errors = called(run_search.main, "--resume", "--output", search.output, "--name", "busy")
    assert code == 2
    assert "another search is writing" in errors
    assert (search.output / "busy" / "run.json").read_bytes() == before


def test_ctrl_c_ends_a_search_cleanly(running, search):
    """The last of these tests: it ends what all of them look at."""
    running.trial.resume()
    running.command.send_signal(signal.SIGINT)
    stdout, stderr = running.command.communicate(timeout=SECONDS)
    assert (running.command.returncode, stderr) == (130, "")
    assert f"--resume --output {search.output} --name busy" in stdout
    assert not running.folder.exists()
    study = optuna.load_study(study_name="digits-adaloss", storage=f"sqlite:///{search.output}/busy/study.db")
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]
