"""A PostgreSQL server of the tests' own, with passwords; they are skipped where none is installed, and fail with
REQUIRE_POSTGRES=1.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

USER = "adaloss"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "40",
    "fsync": "off",  # a crash of the server loses nothing by that, a crash of the machine may
}


def programs() -> Path:
    """Return the folder of PostgreSQL's server programs, or skip the test; with REQUIRE_POSTGRES=1, fail it."""
    # Debian keeps them apart from what is on PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    for folder in [*([Path(on_path).resolve().parent] if on_path else []), *folders]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    reason = "no PostgreSQL server is installed on this machine; .ci/postgres installs one"
    if os.environ.get("REQUIRE_POSTGRES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _user() -> pwd.struct_passwd | None:
    """Return the user that the server runs as, None for this one; the server refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("the server needs a user that is not root")


class Server:
    """A server in a folder of its own, which can be stopped and started again at the same port.

    Args:
        folder: that its user may write.
        bin_: where its programs are.
    """

    def __init__(self, folder: Path, bin_: Path) -> None:
        self.password = f"{secrets.token_hex(12)}@:/%?#& \\"  # special wherever it may be written
        self.port = _free_port()
        self._folder, self._bin, self._process = folder, bin_, None
        self._user = _user()
        password_file = folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o600)
        if self._user is not None:
            for path in (folder, password_file):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        arguments = ["--username", USER, "--pwfile", str(password_file), "--auth", "scram-sha-256", "--no-sync"]
        self._run([str(bin_ / "initdb"), "--pgdata", str(folder / "data"), "--encoding", "UTF8", *arguments])
        password_file.unlink()
        self.start()

    def url(self, database: str, *, password: bool = False, port: int | None = None) -> str:
        """Return the URL of a database, with the password only if that is asked for."""
        login = f"{USER}:{quote(self.password, safe='')}" if password else USER
        return f"postgresql://{login}@127.0.0.1:{port or self.port}/{database}"

    @property
    def escaped_password(self) -> str:
        """The password as a line of a .pgpass file has it."""
        return self.password.replace("\\", "\\\\").replace(":", "\\:")

    def ask_for_clear_text(self, user: str) -> None:
        """Ask a user for the password itself, as a server may that is not to be trusted."""
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {user} 127.0.0.1/32 password\n{rules.read_text()}")
        self.execute("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"db_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        """Run a statement and return its rows."""
        with psycopg.connect(self.url(database, password=True), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def is_up(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user(command), stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT breaks off what is under way, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None

    def _as_user(self, command: list[str]) -> list[str]:
        if self._user is None:
            return command
        user = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return ["setpriv", *user, *command]

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(self._as_user(command), capture_output=True, text=True, cwd=self._folder, timeout=300)
        assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server, and leave nothing of it behind."""
    bin_ = programs()
    # Not below pytest's folder, into which only this user may go.
    with tempfile.TemporaryDirectory(prefix="adaloss-postgres-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder), bin_)
        try:
            yield server
        finally:
            server.stop()


class Proxy:
    """Stands between clients and the server: cuts connections at commits, or plays a server that is away.

    Args:
        target_port: of the server.
    """

    def __init__(self, target_port: int) -> None:
        self.cuts = 0
        self._target_port = target_port
        self._cut_every, self._answer_lost, self._commits = 0, False, 0
        self._is_away = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pumps: list[threading.Thread] = []
        self._door = threading.Thread(target=self._accept, daemon=True)
        self._door.start()

    def cut_every(self, commits: int, *, answer_lost: bool) -> None:
        """Cut at every n-th commit: before the server has it, or when only its answer is lost.

        Each connection begins with a commit of its own, so every second one would never let anybody get anywhere.
        """
        assert commits > 2
        self._cut_every, self._answer_lost, self._commits = commits, answer_lost, 0

    def go_away(self) -> None:
        """Cut all connections and accept none, until `come_back`."""
        self._is_away = True
        _shut(*self._sockets)

    def come_back(self) -> None:
        """Accept connections again."""
        self._is_away = False

    def close(self) -> None:
        """End, and leave no socket open."""
        self._is_away = True
        _shut(self._listener)
        self._door.join()
        _shut(*self._sockets)
        for pump in self._pumps:
            pump.join()
        for one in (*self._sockets, self._listener):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_away:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                lost = threading.Event()
                for pump, ends in ((self._to_server, (client, server)), (self._to_client, (server, client))):
                    thread = threading.Thread(target=pump, args=(*ends, lost), daemon=True)
                    thread.start()
                    self._pumps.append(thread)

    def _to_server(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data:
                    self._commits += 1
                    if self._cut_every and self._commits % self._cut_every == 0:
                        self.cuts += 1
                        if not self._answer_lost:
                            break
                        lost.set()
                server.sendall(data)
        _shut(client, server)

    def _to_client(self, server: socket.socket, client: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65536)) and not lost.is_set():
                client.sendall(data)
        _shut(client, server)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
