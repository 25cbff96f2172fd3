"""A cluster on hosts, launched from docker/cluster.local.yaml as a user would, and what must hold of a run on it.

with launched(folder, head=1, left=2, right=2) as cluster:
    cluster.up()
    cluster.search("--dataset", "digits", "--name", "run")
    run = cluster.fetch("run")
"""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.cluster.hosts import HOME, KEY, PROJECT, Lab, end, hosts, wait_for
from tune.records import LossRecords, read_records

CLUSTER_FILE = PROJECT / "docker" / "cluster.local.yaml"
ON_LAPTOP = f"{HOME}/cluster.yaml"
RAY = Path(sys.prefix, "bin", "ray")
_ASK_FOR_NODES = """
import sys, time, ray
count, deadline = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
ray.init("auto", log_to_driver=False, logging_level="ERROR")
while True:
    alive = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
    if len(alive) == count or time.monotonic() >= deadline:
        break
    time.sleep(0.3)
for address in alive:
    print("node", address)
"""
ENDINGS = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped"}


def filled_in(head: str, workers: list[str], user: str = "root", key: str = KEY) -> str:
    """Return the cluster file with what a user has to fill in, and nothing else, replaced."""
    text = CLUSTER_FILE.read_text()
    for pattern, value in (
        (r"(?<=^    head_ip: ).*", head),
        (r"(?<=^    worker_ips: ).*", json.dumps(workers)),
        (r"(?<=^    ssh_user: ).*", user),
        (r"(?<=^    ssh_private_key: ).*", key),
    ):
        text, count = re.subn(pattern, value, text, flags=re.MULTILINE)
        assert count == 1, pattern
    return text


class Cluster:
    """Hosts, of which one is the laptop of somebody whose only tie to the others is SSH.

    Args:
        lab: with hosts "laptop" and "head", and others, which are the workers.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.laptop, self.head = lab["laptop"], lab["head"]
        self.workers = [host for name, host in lab.hosts.items() if name not in {"laptop", "head"}]

    def up(self, *, wait: bool = True) -> None:
        """Launch, and wait for the workers, which the head launches one after the other."""
        addresses = [worker.ip for worker in self.workers]
        (self.laptop.home / "cluster.yaml").write_text(filled_in(self.head.ip, addresses))
        self.ray("up", "--yes")
        if wait:
            self.wait_for_hosts(1 + len(self.workers))

    def wait_for_hosts(self, count: int, seconds: float = 600) -> None:
        """Wait until so many hosts are nodes of the cluster."""
        nodes = self.nodes(count, seconds)
        if len(nodes) != count:
            log = self.on_head("bash", "-c", "tail -n 60 /tmp/ray/session_latest/logs/monitor.*", check=False)
            pytest.fail(f"after {seconds:g} s the cluster's nodes are {nodes}, not {count}; its launcher says:\n{log}")

    def nodes(self, count: int, seconds: float) -> list[str]:
        """Return the addresses of the live nodes: as soon as there are so many, at the latest after some time.

        One program on the head does all the asking, since each that starts costs seconds.
        """
        output = self.on_head("python", "-c", _ASK_FOR_NODES, count, seconds, timeout=seconds + 60)
        return [line.split()[1] for line in output.splitlines() if line.startswith("node ")]

    def on_head(self, *command: object, timeout: float = 600, check: bool = True) -> str:
        """Run a command as somebody who is logged in there."""
        return self.head.run(*command, cwd=HOME, timeout=timeout, check=check)

    def ray(self, verb: str, *arguments: object, timeout: float = 600, check: bool = True) -> str:
        """Run `ray VERB cluster.yaml ARGUMENTS` on the laptop, in the project's folder."""
        return self.laptop.run(RAY, verb, ON_LAPTOP, *arguments, timeout=timeout, check=check)

    def search(self, *options: object, timeout: float = 1200, check: bool = True) -> str:
        """Submit a search and wait for its end; what it prints is returned."""
        return self.ray("submit", "tune/run_search.py", "--", *options, timeout=timeout, check=check)

    def start_search(self, *options: object) -> subprocess.Popen[str]:
        """Submit a search."""
        command = (RAY, "submit", ON_LAPTOP, "tune/run_search.py", "--", *options)
        return self.laptop.start_command(*command)

    @contextlib.contextmanager
    def dashboard(self) -> Iterator[None]:
        """Reach the dashboard from the laptop; it listens on the head's loopback alone, so through a tunnel."""
        self.ray("rsync-down", "~/.ray/auth_token", f"{HOME}/cluster.token")
        tunnel = self.laptop.start_command(RAY, "dashboard", ON_LAPTOP)
        try:
            wait_for(lambda: self.laptop.listens(8265), "the tunnel", 300)
            yield
        finally:
            end(tunnel)

    def start_job(self, *options: object) -> subprocess.Popen[str]:
        """Submit a search as a job, through the dashboard."""
        access = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={HOME}/cluster.token"
        submit = (
            f"{access} {RAY} job submit --address http://127.0.0.1:8265 --working-dir . -- python tune/run_search.py"
        )
        return self.laptop.start_command("bash", "-c", f"{submit} {' '.join(map(str, options))}")

    def fetch(self, name: str) -> Path:
        """Fetch the results, and return the folder of a run."""
        self.ray("rsync-down", "~/results/", f"{HOME}/results")
        return self.laptop.home / "results" / name

    def running(self, name: str) -> Path:
        """Return the folder of a run on the cluster's shared file system."""
        return self.lab.shared / "adaloss" / "results" / name


@contextlib.contextmanager
def launched(folder: Path, **cpus: int) -> Iterator[Cluster]:
    """Make hosts for a cluster; a laptop comes with them."""
    with hosts(folder, laptop=1, **cpus) as lab:
        yield Cluster(lab)


def events_of(run: Path, loss: str) -> list[dict]:
    return LossRecords(run / loss).read_events()


def epochs_of(run: Path, loss: str) -> list[dict]:
    return LossRecords(run / loss).read_epochs()


def lines_of(run: Path, loss: str) -> list[dict]:
    """Return the lines about epochs as they were written, repeated epochs included."""
    return read_records(run / loss / "epochs.jsonl")


def nodes_of(run: Path, losses: tuple[str, ...]) -> set[str]:
    """Return the addresses of the nodes on which epochs ran."""
    return {epoch["node_ip"] for loss in losses for epoch in epochs_of(run, loss)}


def assert_complete(run: Path, dataset: str, losses: tuple[str, ...], trials: int) -> None:
    """Assert that every trial is there once and whole: in the study, in the events and in the epochs."""
    for loss in losses:
        studied = optuna.load_study(study_name=f"{dataset}-{loss}", storage=f"sqlite:///{run}/study.db").trials
        assert [trial.number for trial in studied] == list(range(trials))
        assert {trial.state for trial in studied} <= set(ENDINGS), [(t.number, t.state) for t in studied]
        events = events_of(run, loss)
        ended = {e["trial_id"]: e["event"] for e in events if e["event"] in {"finished", "stopped", "failed"}}
        assert ended == {f"{loss}-{t.number:04d}": ENDINGS[t.state] for t in studied}
        for event in ("started", *ENDINGS.values()):
            once = [e["trial_id"] for e in events if e["event"] == event]
            assert len(once) == len(set(once)), (event, once)
        recorded = {(e["trial_id"], e["epoch"]): e["val_accuracy"] for e in epochs_of(run, loss)}
        told = {
            (f"{loss}-{trial.number:04d}", epoch): accuracy
            for trial in studied
            for epoch, accuracy in trial.intermediate_values.items()
        }
        assert recorded == told
        for trial in studied:
            assert sorted(trial.intermediate_values) == list(range(1, (trial.last_step or 0) + 1))
