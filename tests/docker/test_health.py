"""The health check of a container asks what it is told to, and believes nothing but a good answer."""

import http.server
import socket
import subprocess
import sys
import threading

import pytest

from tests.docker.files import PROJECT


@pytest.fixture
def service():
    """A service on this machine whose answer can be chosen by the path, such as /200."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def health(*addresses, **environment):
    command = [sys.executable, "docker/health.py", *addresses]
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    return done.returncode, done.stderr


def test_a_service_that_answers_is_healthy(service):
    assert health(f"{service}/200", f"{service}/200") == (0, "")


@pytest.mark.parametrize("status", [401, 404, 503])
def test_another_answer_is_not_health(service, status):
    code, said = health(f"{service}/200", f"{service}/{status}")
    assert code == 1
    assert said.startswith(f"{service}/{status}: HTTP Error {status}")


def test_a_service_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
        code, said = health(address)
    assert code == 1
    assert said.startswith(f"{address}: ")
    assert said.count("\n") == 1


def test_a_service_that_listens_and_says_nothing_is_not_healthy():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, said = health(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert code == 1
    assert "timed out" in said


def test_no_address_and_a_wrong_one_are_no_health():
    assert health()[0] == 1
    assert health("no-address")[0] == 1


def test_a_proxy_is_not_asked(service):
    assert health(f"{service}/200", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9") == (0, "")
