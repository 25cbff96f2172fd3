"""Whole searches against a real PostgreSQL server: side by side, through its outages, and with a password that is
nowhere to be found.
"""

import json
import secrets
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from tests.tune.conftest import Command
from tune.records import LossRecords, read_json
from tune.storage.url import VARIABLE

pytestmark = pytest.mark.cluster

LOSSES = ("arcface", "softmax")
BUDGET = (
    "--dataset", "digits", "--loss", "arcface", "--loss", "softmax", "--trials", 3, "--max-epochs", 9,
    "--grace-epochs", 3, "--train-size", 320, "--no-confirm",
)  # fmt: skip
ENDINGS = {"finished", "stopped", "failed"}


@pytest.fixture
def database(postgres):
    return postgres.new_database()


@pytest.fixture
def secret(postgres, database):
    """The environment that lets a search in."""
    return {VARIABLE: postgres.url(database, password=True)}


@pytest.fixture
def search(tmp_path):
    command = Command(tmp_path)
    yield command
    command.stop_all()


def wait_for_epochs(process, folder, count, seconds=600):
    """Wait until a search has so many epochs on record."""
    deadline = time.monotonic() + seconds
    while sum(len(LossRecords(folder / loss).read_epochs()) for loss in LOSSES) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def studies_of(folder, postgres, database):
    storage = optuna.storages.RDBStorage(postgres.url(database, password=True).replace("://", "+psycopg://"))
    try:
        names = read_json(folder / "run.json")["studies"]
        return {loss: optuna.load_study(study_name=names[loss], storage=storage).trials for loss in LOSSES}
    finally:
        storage.engine.dispose()


def check_whole(folder, postgres, database, trials=3):
    """All trials, each once, ended, with the epochs that are on record, in database and records alike."""
    for loss, found in studies_of(folder, postgres, database).items():
        assert [trial.number for trial in found] == list(range(trials))
        assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
        records = LossRecords(folder / loss)
        recorded = {(e["trial_id"], e["epoch"]): e["val_accuracy"] for e in records.read_epochs()}
        studied = {
            (f"{loss}-{t.number:04d}", epoch): value for t in found for epoch, value in t.intermediate_values.items()
        }
        assert recorded == studied
        ended = Counter(event["trial_id"] for event in records.read_events() if event["event"] in ENDINGS)
        assert ended == {f"{loss}-{number:04d}": 1 for number in range(trials)}


def check_no_epoch_was_run_again(folder):
    for loss in LOSSES:
        lines = [json.loads(line) for line in (folder / loss / "epochs.jsonl").read_text().splitlines()]
        assert len({(line["trial_id"], line["epoch"]) for line in lines}) == len(lines)


# --- Two at once -----------------------------------------------------------------------------------------------------


def test_two_searches_of_one_name_share_an_empty_database(postgres, database, secret, search, tmp_path_factory):
    """Both make the tables, and both runs are called the same."""
    other = Command(tmp_path_factory.mktemp("other"))
    try:
        started = [command.start("same", *BUDGET, **secret) for command in (search, other)]
        for process in started:
            stdout, stderr = process.communicate(timeout=900)
            assert process.returncode == 0, stdout + stderr
            assert stderr == ""
    finally:
        other.stop_all()
    names = [set(read_json(command.output / "same" / "run.json")["studies"].values()) for command in (search, other)]
    assert not names[0] & names[1]
    assert {name for (name,) in postgres.execute("SELECT study_name FROM studies", database)} == names[0] | names[1]
    assert postgres.execute("SELECT count(*) FROM trials", database) == [(2 * 2 * 3,)]
    for command in (search, other):
        check_whole(command.output / "same", postgres, database)
        check_no_epoch_was_run_again(command.output / "same")
        assert not (command.output / "same" / "study.db").exists()


# --- Outages ---------------------------------------------------------------------------------------------------------


def test_a_database_that_is_away_for_20_seconds_costs_nothing(postgres, database, secret, search):
    folder = search.output / "outage"
    process = search.start("outage", *BUDGET, **secret)
    try:
        wait_for_epochs(process, folder, 5)
        postgres.stop(signal.SIGQUIT)  # as in a crash: what was under way is lost, with its answers
        time.sleep(20)
    finally:
        postgres.start()
    back = time.time()
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stdout + stderr
    assert stderr == ""
    assert f"the study database {postgres.url(database)} does not answer (" in stdout
    assert "trying again for 10 minutes" in stdout
    assert "the study database answers again after" in stdout
    (outage,) = read_json(folder / "run.json")["invocations"][0]["study_storage_outages"]
    assert outage["recovered"]
    assert outage["seconds"] >= 15
    print(f"recovered {outage['time'] + outage['seconds'] - back:.1f} s after the server was back")
    check_whole(folder, postgres, database)
    check_no_epoch_was_run_again(folder)


def test_ctrl_c_ends_a_search_that_waits_for_its_database(postgres, database, secret, search):
    folder = search.output / "waiting"
    process = search.start("waiting", *BUDGET, **secret)
    try:
        wait_for_epochs(process, folder, 5)
        postgres.stop()
        for line in process.stdout:
            if "does not answer" in line:
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=300)
        assert (process.returncode, stderr) == (130, "")
        assert "go on with: python tune/run_search.py --resume" in stdout
        # Whoever goes on before the database is back is told so at once, and the run stays as it is.
        before = (folder / "run.json").read_bytes()
        done = search("waiting", "--resume", **secret)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: --study-storage {postgres.url(database)}: ")
        assert done.stderr.count("\n") == 1
        assert (folder / "run.json").read_bytes() == before
    finally:
        postgres.start()
    done = search("waiting", "--resume", **secret)
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(folder, postgres, database)


# --- A kill, and the password ----------------------------------------------------------------------------------------


class Watch:
    """Looks for a secret in what other processes can see of a search, again and again while the context lasts.

    Args:
        needle: of the secret.
        root: process of the search, whose own environment may hold it.
    """

    def __init__(self, needle: bytes, root: int) -> None:
        self.found: set[str] = set()
        self.looked_at: set[str] = set()
        self._needle, self._root, self._done = needle, root, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _look(self):
        while not self._done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                self._look_into(path, "command line")
            with suppress(psutil.NoSuchProcess):
                self._look_at_children(psutil.Process(self._root))
            self._done.wait(0.2)

    def _look_at_children(self, root):
        for child in root.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                # One that still has the search's command line is a copy of it, about to become another program.
                if child.cmdline() != root.cmdline():
                    self._look_into(Path(f"/proc/{child.pid}/environ"), "environment")

    def _look_into(self, path, kind):
        with suppress(OSError):
            content = path.read_bytes()
            name = f"{kind} of {path.with_name('comm').read_text().strip()}"
            self.looked_at.add(name)
            if self._needle in content:
                self.found.add(name)


def files_with(needle, *folders):
    """All files below folders that hold something, and how many there are."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if needle in path.read_bytes()], len(files)


def test_a_killed_search_goes_on_and_its_password_is_nowhere(postgres, database, secret, search, tmp_path_factory):
    """Looked for: in all files of the run and of Ray, in the output, and in what other processes can see."""
    needle = postgres.password[:24].encode()  # no character of it is written in another way anywhere
    temporary = Path("/tmp", f"s{secrets.token_hex(3)}")  # as long as it may be for Ray's sockets to go there
    temporary.mkdir(mode=0o700)
    folder = search.output / "killed"
    try:
        process = search.start("killed", *BUDGET, "--tensorboard", TMPDIR=str(temporary), **secret)
        with Watch(needle, process.pid) as watch:
            wait_for_epochs(process, folder, 5)
        process.kill()
        stdout, stderr = process.communicate()
        assert needle not in (stdout + stderr).encode()
        assert watch.found == set()
        seen = " ".join(watch.looked_at)
        for name in ("command line of raylet", "environment of raylet", "environment of ray::"):
            assert name in seen
        states = {trial.state for found in studies_of(folder, postgres, database).values() for trial in found}
        assert TrialState.RUNNING in states
        found, count = files_with(needle, temporary, folder)  # a killed search leaves all of Ray's files behind
        assert found == []
        assert count > 30
        assert any("logs" in str(path) for path in temporary.rglob("*.out"))
        assert any(path.name == "tuner.pkl" for path in folder.rglob("*.pkl"))

        # The search goes on with its password from elsewhere, and the URL from its record.
        done = search("killed", "--resume", TMPDIR=str(temporary), PGPASSWORD=postgres.password)
        assert done.returncode == 0, done.stdout + done.stderr
        assert needle not in (done.stdout + done.stderr).encode()
        check_whole(folder, postgres, database)
        assert (folder / "report.html").is_file()
        assert any((folder / "tensorboard").rglob("*"))
        assert files_with(needle, temporary, folder)[0] == []
        settings = read_json(folder / "run.json")["settings"]
        assert settings["study_storage"] == postgres.url(database)
    finally:
        search.stop_all()
        for path in sorted(temporary.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        temporary.rmdir()


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(search, tmp_path):
    """Starts a search that must be refused in one line, without a trace; returns the line."""

    def run(*options, **variables):
        done = search("refused", *BUDGET, *options, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "refused").exists()
        return done.stderr

    return run


def test_a_password_on_the_command_line_is_refused_and_not_repeated(postgres, database, refused):
    message = refused("--study-storage", postgres.url(database, password=True))
    assert "PGPASSWORD" in message
    assert ".pgpass" in message
    assert VARIABLE in message
    assert postgres.password[:24] not in message


def test_a_database_that_cannot_be_used_is_told_at_once(postgres, database, refused):
    url = postgres.url(database)
    assert "no password supplied" in refused("--study-storage", url, PGPASSFILE="/nosuch")
    assert "password authentication failed" in refused("--study-storage", url, PGPASSWORD="wrong-but-secret")
    assert "does not exist" in refused("--study-storage", f"{url}_other", PGPASSWORD=postgres.password)
    assert "Connection refused" in refused("--study-storage", "postgresql://u@127.0.0.1:1/db")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timeout" in refused("--study-storage", f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db")
    postgres.execute("CREATE ROLE reader LOGIN PASSWORD 'x'")
    url = url.replace("adaloss@", "reader@")
    assert "permission denied" in refused("--study-storage", url, PGPASSWORD="x")
