"""Which machines a cluster has, and which its autoscaler may still add."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import ray

from tune.cluster import nodes as module
from tune.cluster.nodes import Machines, machines, this_machine

ADDRESS = "192.0.2.1:6379"
LARGE, SMALL = {"CPU": 8, "GPU": 1}, {"CPU": 4}
CONFIG = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "large": {"resources": LARGE, "max_workers": 2},
        "small": {"resources": SMALL, "max_workers": 4},
    },
}
LARGE, SMALL = (
    CONFIG["available_node_types"]["large"]["resources"],
    CONFIG["available_node_types"]["small"]["resources"],
)


def node(resources, group=None, *, alive=True, head=False):
    marks = {"node:__internal_head__": 1.0} if head else {}
    return {
        "Alive": alive,
        "Resources": {**resources, **marks},
        "Labels": {"ray.io/node-group": group} if group else {},
    }


HEAD = node({"CPU": 0}, "head", head=True)


@pytest.fixture
def cluster(monkeypatch):
    """Makes a cluster of nodes."""

    def make(*nodes, autoscaling=False):
        monkeypatch.setattr(ray, "nodes", lambda: list(nodes))
        monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=ADDRESS))
        monkeypatch.setattr(module, "has_autoscaler", lambda: autoscaling)

    return make


@pytest.fixture
def monitor(tmp_path):
    """Starts what looks like Ray's monitor of a cluster: its command line names the configuration."""
    started = []

    def start(content, address=ADDRESS):
        path = tmp_path / "bootstrap.yaml"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        wait = "import sys; print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", wait, f"--gcs-address={address}", f"--autoscaling-config={path}"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        started[-1].stdout.readline()

    yield start
    for process in started:
        process.communicate()


def test_a_dead_machine_does_not_count(cluster):
    cluster(node({"CPU": 2}), node({"CPU": 8}, alive=False))
    assert machines() == Machines([{"CPU": 2}])


def test_an_autoscaler_may_add_up_to_its_limits(cluster, monitor):
    monitor(CONFIG)
    cluster(HEAD)
    assert machines().to_come == [LARGE, LARGE, SMALL, SMALL, SMALL]  # five workers at most
    cluster(HEAD, node(LARGE, "large"), node(SMALL, "small"), node(LARGE, "large", alive=False))
    assert machines().to_come == [LARGE, SMALL, SMALL]
    assert machines().up == [HEAD["Resources"], LARGE, SMALL]


def test_workers_of_unknown_type_count_against_the_whole(cluster, monitor):
    monitor(CONFIG)
    cluster(HEAD, *[node(SMALL)] * 4)
    assert machines().to_come == [LARGE]


def test_ones_own_machines_count_once_they_are_up(cluster, monitor):
    """What they have is not in the configuration."""
    type_ = {"resources": {}, "node_config": {}, "min_workers": 2, "max_workers": 2}
    monitor({"max_workers": 2, "head_node_type": "local", "available_node_types": {"local": type_}})
    cluster(node({"CPU": 2}, "local", head=True))
    assert (len(machines().up), list(machines().to_come)) == (1, [])


def test_another_clusters_autoscaler_is_not_taken_for_this_ones(cluster, monitor):
    monitor(CONFIG, address="192.0.2.2:6379")
    cluster(HEAD)
    assert list(machines().to_come) == []


@pytest.mark.parametrize("content", ["[1]", "no JSON", "{}"])
def test_a_configuration_that_is_none_says_nothing(cluster, monitor, content):
    monitor(content)
    cluster(HEAD)
    assert list(machines().to_come) == []


def test_an_autoscaler_elsewhere_is_known_to_be_there(cluster):
    """As on Kubernetes, where it runs in a container of its own."""
    cluster(HEAD, autoscaling=True)
    assert machines().grows_unseen
    cluster(HEAD)
    assert not machines().grows_unseen


# --- A machine that is no cluster yet --------------------------------------------------------------------------------


@pytest.mark.usefixtures("shared_ray")
def test_this_machine_is_what_ray_makes_of_it():
    """The Ray of these tests was started on it as a search starts one."""
    (resources,) = this_machine().up
    assert resources["CPU"] == ray.cluster_resources()["CPU"]
    assert resources.get("GPU") == ray.cluster_resources().get("GPU")
    assert (this_machine().to_come, this_machine().grows_unseen) == ((), False)
