"""The image is built and the stack started for real, by Podman, which needs no engine: a search ends in PostgreSQL.

The images that everything stands on must be there, or be reachable: ADALOSS_TEST_PYTHON_IMAGE and
ADALOSS_TEST_POSTGRES_IMAGE name them. ADALOSS_TEST_BUILD_ARGS are further arguments of the build, such as another
index of torch, or `--volume` for pip's configuration.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.docker.files import PROJECT

PYTHON_IMAGE = os.environ.get("ADALOSS_TEST_PYTHON_IMAGE", "")
POSTGRES_IMAGE = os.environ.get("ADALOSS_TEST_POSTGRES_IMAGE", "")
MISSING = [name for name in ("buildah", "podman") if shutil.which(name) is None]
UID = "23456"  # who is in no /etc/passwd
NAME = f"adaloss-test-{os.getpid()}"
IMAGE = f"localhost/{NAME}"
HEALTHY_WITHIN_S = 300.0
CONTAINERS = {
    "postgres": ["postgres_1"],
    "head": ["head_1"],
    "worker": ["worker_1", "worker_2"],
    "dashboard": ["dashboard_1"],
    "optuna-dashboard": ["optuna-dashboard_1"],
}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which only root can"),
    pytest.mark.skipif(
        not (PYTHON_IMAGE and POSTGRES_IMAGE),
        reason="needs images: ADALOSS_TEST_PYTHON_IMAGE and ADALOSS_TEST_POSTGRES_IMAGE name none",
    ),
]


def podman(*arguments, check=True):
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=900)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.fixture(scope="module")
def image():
    command = ["buildah", "bud", "--isolation=chroot", "--layers", "--format=docker", "--target=cpu"]
    command += [f"--build-arg=PYTHON_IMAGE={PYTHON_IMAGE}", "--build-arg=REVISION=0123abc-dirty", f"--tag={IMAGE}:cpu"]
    command += [*shlex.split(os.environ.get("ADALOSS_TEST_BUILD_ARGS", "")), "--file=docker/Dockerfile", "."]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    yield f"{IMAGE}:cpu"
    podman("rmi", "--force", f"{IMAGE}:cpu", check=False)


class Stack:
    """The stack of compose.yaml with secrets, results, ports and a name of its own.

    Args:
        folder: for its secrets and results.
    """

    def __init__(self, folder):
        (folder / "docker").mkdir()
        script = folder / "docker" / "prepare.sh"
        shutil.copy(PROJECT / "docker" / "prepare.sh", script)
        variables = {**os.environ, "SUDO_UID": UID, "SUDO_GID": UID}
        subprocess.run([script], env=variables, check=True, capture_output=True)
        self.secrets, self.results = folder / "docker" / "secrets", folder / "results"
        self.ray_port, self.page_port, self.studies_port = free_ports(3)
        self._environment = {
            **os.environ,
            "ADALOSS_IMAGE": IMAGE,
            "ADALOSS_POSTGRES_IMAGE": POSTGRES_IMAGE,
            "ADALOSS_SECRETS": str(self.secrets),
            "ADALOSS_RESULTS": str(self.results),
            "ADALOSS_UID": UID,
            "ADALOSS_GID": UID,
            "ADALOSS_RAY_PORT": str(self.ray_port),
            "ADALOSS_DASHBOARD_PORT": str(self.page_port),
            "ADALOSS_STUDIES_PORT": str(self.studies_port),
            "COMPOSE_PROJECT_NAME": NAME,
        }

    def compose(self, *arguments, check=True):
        command = [sys.executable, "-m", "podman_compose", "--env-file", os.devnull, *arguments]
        done = subprocess.run(
            command,
            cwd=PROJECT / "docker",
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert not check or done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
        return done

    def execute(self, service, *command, check=True):
        return podman("exec", f"{NAME}_{CONTAINERS[service][0]}", *command, check=check)

    def wait_until_healthy(self, *services):
        """Run the health checks as an engine does, which Podman leaves to systemd."""
        waiting = {f"{NAME}_{name}" for service in services for name in CONTAINERS[service]}
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while waiting:
            checked = {name: podman("healthcheck", "run", name, check=False) for name in waiting}
            waiting = {name for name, done in checked.items() if done.returncode != 0}
            if waiting and time.monotonic() > deadline:
                logs = [f"{name}: {podman('logs', '--tail=30', name, check=False)}" for name in sorted(waiting)]
                pytest.fail("not healthy: " + "\n".join(logs))
            time.sleep(1)


@pytest.fixture(scope="module")
def stack(image, tmp_path_factory):
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        made.compose("--profile", "studies", "up", "--detach", "--no-build")
        made.wait_until_healthy(*CONTAINERS)
        yield made
    finally:
        made.compose("--profile", "studies", "down", "--volumes", check=False)


@pytest.fixture(scope="module")
def run(stack):
    """A search that was submitted as README.md says, on the stack's workers."""
    program = ["python", "tune/run_search.py", "--dataset", "digits", "--trials", "3", "--max-epochs", "2"]
    stack.execute("head", "ray", "job", "submit", "--", *program, "--no-confirm", "--name", "submitted")
    return stack.results / "submitted"


def answer(url, token=None, host=None):
    """The status and the text with which an address answers."""
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **({"Host": host} if host else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_every_package_in_the_image_has_the_version_that_the_project_is_tested_with(image):
    def plain(text):
        return {line.strip().lower().replace("_", "-").partition("+")[0] for line in text.splitlines() if "==" in line}

    frozen = podman("run", "--rm", "--network=none", image, "pip", "freeze").stdout
    assert plain(frozen) - plain((PROJECT / "constraints.txt").read_text()) <= {"adaloss-search==0.1.0"}
    assert any(line.startswith("torch==") for line in plain(frozen))


def test_a_search_needs_no_more_than_the_image(image, tmp_path):
    tmp_path.chmod(0o777)
    options = ["--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--shm-size=1g", "--cap-drop=all"]
    program = ["python", "tune/run_search.py", "--dataset", "digits", "--loss", "softmax", "--trials", "1"]
    program += ["--max-epochs", "1", "--no-confirm", "--name", "alone"]
    podman("run", *options, "--user", f"{UID}:{UID}", f"--volume={tmp_path}:/app/results", image, *program)
    record = json.loads((tmp_path / "alone" / "run.json").read_text())["invocations"][0]
    assert record["git"] == {"revision": "0123abc", "dirty": True}
    assert record["versions"]["adaloss-search"] == "0.1.0"


def test_a_stack_without_secrets_does_not_start(stack):
    del stack._environment["ADALOSS_SECRETS"]
    try:
        done = stack.compose("config", check=False)
    finally:
        stack._environment["ADALOSS_SECRETS"] = str(stack.secrets)
    assert done.returncode != 0
    assert "ADALOSS_SECRETS is missing a value: run docker/prepare.sh first" in done.stderr


def test_the_workers_are_in_the_cluster(stack):
    code = "import ray, json; ray.init(address='auto'); print(json.dumps([n['Resources'] for n in ray.nodes()]))"
    nodes = json.loads(stack.execute("head", "python", "-c", code).stdout.strip().splitlines()[-1])
    assert sorted(node.get("CPU", 0) for node in nodes) == [0, 1, 1]


@pytest.mark.parametrize("service", sorted(CONTAINERS))
def test_a_container_runs_without_root_and_cannot_change_its_programs(stack, service):
    assert stack.execute(service, "id", "-u").stdout.strip() == UID
    assert stack.execute(service, "touch", "/etc/x", check=False).returncode != 0
    status = stack.execute(service, "cat", "/proc/1/status").stdout
    assert re.search(r"CapBnd:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)


def test_ports_are_open_on_loopback_alone(stack):
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    for port in (stack.ray_port, stack.page_port, stack.studies_port):
        assert set(re.findall(rf"(\S+):{port}\s", listening)) == {"127.0.0.1"}


def test_ray_wants_the_token(stack):
    jobs = f"http://127.0.0.1:{stack.ray_port}/api/jobs/"
    token = (stack.secrets / "ray_token").read_text()
    assert [answer(jobs, t)[0] for t in (None, "wrong", token)] == [401, 403, 200]
    for variables in (["RAY_AUTH_TOKEN=wrong"], ["RAY_AUTH_MODE=disabled"]):
        options = [word for variable in variables for word in ("--env", variable)]
        name = f"{NAME}_{CONTAINERS['worker'][0]}"
        code = "import ray; ray.init(address='head:6379', log_to_driver=False); print('joined')"
        assert "joined" not in podman("exec", *options, name, "timeout", "40", "python", "-c", code, check=False).stdout


def test_a_search_ends_in_the_database_and_its_records_belong_to_whoever_started_the_stack(stack, run):
    assert (run / "run.json").stat().st_uid == int(UID)
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["study_storage"] == "postgresql://adaloss@postgres/adaloss"
    assert record["invocations"][0]["slots"]["concurrent"] == 2  # on two workers with one CPU each
    assert not (run / "study.db").exists()
    query = (
        "import json, psycopg; c = psycopg.connect('postgresql://adaloss@postgres/adaloss'); "
        "print(json.dumps(c.execute('select study_name, state, count(*) from studies join trials using (study_id) "
        "group by 1, 2').fetchall()))"
    )
    rows = json.loads(stack.execute("head", "python", "-c", query).stdout)
    names = record["studies"].values()
    assert sorted(name for name, _, _ in rows) == sorted(names)
    assert {(state, count) for _, state, count in rows} == {("COMPLETE", 3)}


def test_the_page_shows_the_search(stack, run):
    page = f"http://127.0.0.1:{stack.page_port}"
    assert answer(page)[0] == 200
    assert answer(page, host="evil.example")[0] == 403
    program = (
        "import json, sys, urllib.request as u; layout = json.load(u.urlopen(sys.argv[1] + '/_dash-dependencies')); "
        "print(json.dumps(layout))"
    )
    dependencies = json.loads(subprocess.check_output([sys.executable, "-c", program, page], text=True))
    assert dependencies
    body = {
        "output": dependencies[0]["output"],
        "outputs": {"id": "seen", "property": "data"},
        "inputs": [
            {"id": "tick", "property": "data", "value": 1},
            {"id": "address", "property": "hash", "value": "#parameters"},
        ],
        "state": [{"id": "seen", "property": "data", "value": None}],
        "changedPropIds": [],
    }
    request = urllib.request.Request(
        f"{page}/_dash-update-component", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        shown = response.read().decode()
    assert "search finished, not confirmed" in shown
    assert "cannot be read" not in shown
    assert "learning_rate" in shown


def test_the_studies_can_be_looked_into(stack, run):
    names = json.loads((run / "run.json").read_text())["studies"].values()
    status, text = answer(f"http://127.0.0.1:{stack.studies_port}/api/studies")
    assert status == 200
    assert set(names) <= {study["study_name"] for study in json.loads(text)["study_summaries"]}


def test_no_secret_is_seen(stack, run):
    """Neither in the records, nor in what the engine knows and shows of a container, nor among the processes."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    texts = {"processes": processes}
    for names in CONTAINERS.values():
        for name in names:
            done = podman("logs", f"{NAME}_{name}")
            texts[name] = podman("inspect", f"{NAME}_{name}").stdout + done.stdout + done.stderr
    texts |= {path.name: path.read_bytes().decode("latin-1") for path in run.rglob("*") if path.is_file()}
    for secret in ("ray_token", "postgres_password"):
        value = (stack.secrets / secret).read_text()
        assert [place for place, text in texts.items() if value in text] == []


def test_after_a_restart_of_the_head_its_workers_come_back(stack, run):
    podman("restart", f"{NAME}_{CONTAINERS['head'][0]}")
    stack.wait_until_healthy("head")
    code = "import ray; ray.init(address='auto', log_to_driver=False); print(ray.cluster_resources().get('CPU', 0))"
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while "2.0" not in stack.execute("head", "python", "-c", code, check=False).stdout:
        assert time.monotonic() < deadline
        time.sleep(5)
    stack.execute("head", "python", "tune/run_search.py", "--extend", "1", "--name", "submitted", "--no-confirm")
    trials = (run / "softmax" / "trials.jsonl").read_text()
    assert "softmax-0003" in trials
