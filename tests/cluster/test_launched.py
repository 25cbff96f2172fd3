"""What a user does on a launched cluster: submit, look, fetch, resume, and submit as a job; and what is refused."""

import json
import signal

import pytest

from tests.cluster.hosts import HOME, end, wait_for
from tests.cluster.launched import ON_LAPTOP, RAY, assert_complete, epochs_of, events_of, launched, nodes_of

pytestmark = pytest.mark.cluster
BUDGET = ("--dataset", "digits", "--trials", 2, "--max-epochs", 3, "--grace-epochs", 1, "--no-confirm")
LOSSES = ("arcface", "adaloss", "softmax")
# Long enough for every node: one whose processes are up at once could go through short trials alone.
LONG = ("--dataset", "digits", "--loss", "softmax", "--trials", 3, "--max-epochs", 40, "--grace-epochs", 40)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("hosts") / "lab", head=1, worker=2) as cluster:
        cluster.up()
        yield cluster


def test_a_search_is_submitted_and_goes_on_and_fetched_and_spreads_over_all_nodes(cluster):
    search = cluster.start_search(*LONG, "--name", "stopped", "--no-confirm")
    run = cluster.running("stopped")
    wait_for(lambda: run.exists() and len(epochs_of(run, "softmax")) >= 5, "it trains", 600)
    (driver,) = cluster.head.processes("run_search.py", program="python")
    driver.send_signal(signal.SIGTERM)
    output, _ = search.communicate(timeout=600)
    assert search.returncode != 0
    assert "3 at a time with 1 CPU each" in output
    assert "go on with: " in output
    assert "page: results/stopped/report.html" in cluster.search("--resume", "--name", "stopped")
    fetched = cluster.fetch("stopped")
    assert_complete(fetched, "digits", ("softmax",), 3)
    assert "interrupted" in {event["event"] for event in events_of(fetched, "softmax")}
    assert nodes_of(fetched, ("softmax",)) == {cluster.head.ip, *(worker.ip for worker in cluster.workers)}
    first, second = json.loads((fetched / "run.json").read_text())["invocations"]
    assert first["slots"]["nodes"] == second["slots"]["nodes"] == 2
    assert not (fetched / "checkpoints").exists()


def test_a_search_is_submitted_as_a_job(cluster):
    """The dashboard listens on the head's loopback alone, so the job goes through the tunnel of `ray dashboard`."""
    cluster.ray("rsync-down", "~/.ray/auth_token", f"{HOME}/cluster.token")
    tunnel = cluster.laptop.start_command(RAY, "dashboard", ON_LAPTOP)
    access = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={HOME}/cluster.token"
    submit = f"{access} {RAY} job submit --address http://127.0.0.1:8265 --working-dir . -- python tune/run_search.py"
    try:
        wait_for(lambda: cluster.laptop.listens(8265), "the tunnel", 300)
        output = cluster.laptop.run("bash", "-c", f"{submit} {' '.join(map(str, BUDGET))} --name job", timeout=1200)
    finally:
        end(tunnel)
    assert "succeeded" in output
    run = cluster.fetch("job")
    assert_complete(run, "digits", LOSSES, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpus-per-trial", 1), "--gpus-per-trial 1: no machine has more than 0"),
        (("--cpus-per-trial", 3), "--cpus-per-trial 3: no machine has more than 2"),
        (("--output", "elsewhere"), "does not see what this one writes to"),
        (("--storage", "elsewhere"), "does not see what this one writes to"),
    ],
)
def test_what_cannot_work_is_refused_at_once_in_one_line(cluster, options, message):
    output = cluster.on_head("python", "run_search.py", *BUDGET, "--name", "refused", *options, check=False)
    (line,) = [line for line in output.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line
    assert not (cluster.head.home / "elsewhere").exists()
    assert not cluster.running("refused").exists()


def test_who_has_no_token_cannot_join(cluster):
    command = f"{HOME}/adaloss-env/bin/ray start --address={cluster.head.ip}:6379"
    refused = cluster.laptop.run("bash", "-c", f"RAY_AUTH_MODE=disabled {command}", check=False)
    assert len(cluster.nodes(count=3, seconds=15)) == 2, refused
