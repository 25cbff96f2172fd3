"""The live page's server: what it lets out, who may ask it, and how its command ends."""

import errno
import http.client
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from werkzeug.test import Client

from analysis import dashboard
from analysis.live import server as live
from tune.records import RecordError

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def run(new_run):
    """A run with one trial under way."""
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6], None)
    return run


@pytest.fixture
def app(run):
    return live.build_app([run.folder], 3.0)


def test_nothing_is_loaded_from_elsewhere_and_no_foreign_script_may_run(app):
    response = Client(app.server.wsgi_app).get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    scripts = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in scripts
    assert re.findall(r"""(?:src|href)=["'](?!/)[^"']*""", response.text) == []
    assert "plotly.min.js" in response.text


def test_no_tool_for_developers_is_on(app):
    assert '"ui":false' in Client(app.server.wsgi_app).get("/").text.replace(" ", "")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8050", 200),
        ("LOCALHOST.:8050", 200),
        ("127.0.0.1:9000", 200),
        ("[::1]:8050", 200),
        ("evil.example", 403),
        ("evil.example:8050", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8050", 403),
        ("[::2]:8050", 403),
        ("", 403),
    ],
)
def test_a_page_that_was_made_to_point_here_is_refused(app, host, status):
    guarded = live._HostChecked(app.server.wsgi_app, {"localhost", "127.0.0.1", "[::1]"})
    response = Client(guarded).get("/_dash-layout", headers={"Host": host})
    assert response.status_code == status
    if status == 403:
        assert "--allowed-host" in response.text


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RecordError, match=rf"^--port {port}: in use; choose another$"):
            live._listening("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a..b"])
def test_a_host_that_is_not_ours_is_one_line(host):
    with pytest.raises(RecordError, match=rf"^--host {re.escape(host)}: is no address of this machine$"):
        live._listening(host, 0)


def test_a_port_that_is_not_permitted_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(live.socket, "create_server", refuse)
    with pytest.raises(RecordError, match=r"^--port 80: not permitted; choose one above 1023$"):
        live._listening("127.0.0.1", 80)


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(RecordError, match=r"there is no such folder$"):
        live.serve([tmp_path / "none"], port=0)


def _mind_interrupts():
    """Undo what a shell does to its background jobs, and tests may be in one: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def command(tmp_path):
    """Starts the command as a user does; everything that it started is ended."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "analysis" / "dashboard.py"), *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_mind_interrupts,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_command_says_where_the_page_is_and_ends_with_an_interrupt(command, run):
    process = command(run.folder, "--port", 0)
    line = process.stdout.readline()
    assert re.fullmatch(r"live page: http://127\.0\.0\.1:\d+/ \(ends with Ctrl-C\)\n", line)
    process.send_signal(2)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")


def test_the_command_says_that_a_port_is_in_use(called, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output, errors = called(dashboard.main, run.folder, "--port", port)
    assert (code, output) == (2, "")
    assert errors == f"error: --port {port}: in use; choose another\n"


class Interrupted:
    """A server that is ended with Ctrl-C as soon as it serves."""

    def serve_forever(self):
        raise KeyboardInterrupt

    def server_close(self):
        pass


def test_listening_to_everybody_is_warned_of(called, run, monkeypatch):
    monkeypatch.setattr(live, "make_server", lambda *_, **__: Interrupted())
    code, _, errors = called(dashboard.main, run.folder, "--port", 0, "--host", "0.0.0.0")
    assert code == 0
    assert errors == "warning: --host 0.0.0.0: everybody who reaches this machine can read these runs\n"


def test_beyond_this_machine_the_page_answers_to_the_allowed_names_alone(command, run):
    process = command(run.folder, "--port", 0, "--host", "0.0.0.0", "--allowed-host", "Search.example")
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    statuses = []
    for name in ("search.example", f"search.example:{port}", "localhost", "evil.example"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("GET", "/", headers={"Host": name})
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [200, 200, 403, 403]
