"""Whole searches against a real PostgreSQL server: side by side, through its outages, and with a password that is
nowhere to be found.
"""

import json
import os
import re
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
from tests.tune.happenings import let_happen
from tests.tune.told import without_start
from tune import run_search
from tune.records import LossRecords, read_json
from tune.storage.studies import TeamDatabase
from tune.storage.url import VARIABLE

pytestmark = pytest.mark.cluster

LOSSES = ("arcface", "softmax")
TRIALS = 2
BUDGET = (
    "--dataset", "digits", "--loss", "arcface", "--loss", "softmax", "--trials", TRIALS, "--max-epochs", 4,
    "--grace-epochs", 2, "--train-size", 320, "--model", "ArcFaceCNN", "--max-concurrent", 1, "--no-confirm",
)  # fmt: skip
ENDINGS = {"finished", "stopped", "failed"}


@pytest.fixture
def database(postgres):
    return postgres.new_database()


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


def check_whole(folder, postgres, database, trials=TRIALS):
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


def test_two_searches_of_one_name_share_a_database(postgres, database, search, here, tmp_path_factory, monkeypatch):
    """Both runs are called the same, and what one of them writes is none of the other's."""
    other = tmp_path_factory.mktemp("other")
    monkeypatch.setenv(VARIABLE, postgres.url(database, password=True))
    process = search.start("same", *BUDGET)
    done = here(run_search.main, *BUDGET, "--output", other, "--name", "same")
    assert (done.returncode, done.stderr) == (0, "")
    stdout, stderr = process.communicate(timeout=900)
    assert (process.returncode, stderr) == (0, ""), stdout
    folders = [search.output / "same", other / "same"]
    names = [set(read_json(folder / "run.json")["studies"].values()) for folder in folders]
    assert not names[0] & names[1]
    assert {name for (name,) in postgres.execute("SELECT study_name FROM studies", database)} == names[0] | names[1]
    assert postgres.execute("SELECT count(*) FROM trials", database) == [(2 * len(LOSSES) * TRIALS,)]
    for folder in folders:
        check_whole(folder, postgres, database)
        check_no_epoch_was_run_again(folder)
        assert not (folder / "study.db").exists()


# --- Outages ---------------------------------------------------------------------------------------------------------


def test_a_database_that_is_away_costs_nothing_and_ctrl_c_need_not_wait_for_it(
    postgres, database, here, tmp_path, monkeypatch
):
    """For 20 seconds first, which the search waits for; then for longer than the user does."""
    folder = tmp_path / "outage"
    go_on = ("--resume", "--output", tmp_path, "--name", "outage")
    monkeypatch.setenv(VARIABLE, postgres.url(database, password=True))
    began, back = TeamDatabase._began, []

    def crash():  # what was under way is lost, with its answers
        postgres.stop(signal.SIGQUIT)
        threading.Timer(20, lambda: (postgres.start(), back.append(time.time()))).start()

    def tell(team, reason):
        began(team, reason)
        if back:
            signal.raise_signal(signal.SIGINT)

    try:
        with monkeypatch.context() as patch:
            let_happen(patch, {3: crash, 6: postgres.stop})
            patch.setattr(TeamDatabase, "_began", tell)
            done = here(run_search.main, *BUDGET, "--output", tmp_path, "--name", "outage")
        assert (done.returncode, done.stderr) == (130, "")
        assert f"the study database {postgres.url(database)} does not answer (" in done.stdout
        assert "trying again for 10 minutes" in done.stdout
        assert "the study database answers again after" in done.stdout
        assert re.search(r"go on with: \S+ tune/run_search\.py --resume", done.stdout)
        outage, given_up = read_json(folder / "run.json")["invocations"][0]["study_storage_outages"]
        assert outage["recovered"]
        assert outage["seconds"] >= 15
        assert not given_up["recovered"]
        print(f"recovered {outage['time'] + outage['seconds'] - back[0]:.1f} s after the server was back")
        check_no_epoch_was_run_again(folder)

        # Whoever goes on before the database is back is told so at once, and the run stays as it is.
        before = (folder / "run.json").read_bytes()
        done = here(run_search.main, *go_on)
        assert (done.returncode, without_start(done.stdout)) == (2, "")
        assert done.stderr.startswith(f"error: --study-storage {postgres.url(database)}: ")
        assert done.stderr.count("\n") == 1
        assert (folder / "run.json").read_bytes() == before
    finally:
        if not postgres.is_up:
            postgres.start()
    done = here(run_search.main, *go_on)
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


def test_a_killed_search_goes_on_and_its_password_is_nowhere(postgres, database, search, here, monkeypatch):
    """Looked for: in all files of the run and of Ray, in the output, and in what other processes can see.

    The search that is killed has the password in all variables that may hold it, the one that goes on in one of them.
    """
    needle = postgres.password[:24].encode()  # no character of it is written in another way anywhere
    temporary = Path("/tmp", f"s{secrets.token_hex(3)}")  # as long as it may be for Ray's sockets to go there
    temporary.mkdir(mode=0o700)
    folder = search.output / "killed"
    secret = {VARIABLE: postgres.url(database, password=True), "PGPASSWORD": postgres.password}
    try:
        process = search.start("killed", *BUDGET, "--tensorboard", TMPDIR=str(temporary), **secret)
        with Watch(needle, process.pid) as watch:
            wait_for_epochs(process, folder, 3)
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
        monkeypatch.setenv("PGPASSWORD", postgres.password)
        done = here(run_search.main, "--resume", "--tensorboard", "--output", search.output, "--name", "killed")
        assert done.returncode == 0, done.stdout + done.stderr
        assert needle not in (done.stdout + done.stderr).encode()
        check_whole(folder, postgres, database)
        assert (folder / "report.html").is_file()
        assert any((folder / "tensorboard").rglob("*"))
        rays_own = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent
        assert files_with(needle, temporary, rays_own, folder)[0] == []
        settings = read_json(folder / "run.json")["settings"]
        assert settings["study_storage"] == postgres.url(database)
    finally:
        search.stop_all()
        for path in sorted(temporary.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        temporary.rmdir()


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(here, tmp_path, monkeypatch):
    """Starts a search that must be refused in one line, without a trace; returns the line."""

    def run(*options, **variables):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            done = here(run_search.main, *BUDGET, *options, "--output", tmp_path, "--name", "refused")
        assert (done.returncode, without_start(done.stdout)) == (2, "")
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
