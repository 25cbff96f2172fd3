"""The manifest for Kubernetes: fields that KubeRay knows, and what must agree in it."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.test_project import options_of

PROJECT = Path(__file__).parents[2]
CLAIM, JOB = yaml.safe_load_all((PROJECT / "docker" / "rayjob.yaml").read_text())
SPEC = JOB["spec"]
CLUSTER = SPEC["rayClusterSpec"]
GROUPS = {"head": CLUSTER["headGroupSpec"], **{group["groupName"]: group for group in CLUSTER["workerGroupSpecs"]}}
# Of ray.io/v1, as far as a search may need them.
JOB_FIELDS = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
CLUSTER_FIELDS = {
    "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs",
}  # fmt: skip
GROUP_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}

every_group = pytest.mark.parametrize("name", sorted(GROUPS))


def container(name):
    (only,) = GROUPS[name]["template"]["spec"]["containers"]
    return only


def test_the_fields_are_kuberays():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert set(SPEC) <= JOB_FIELDS
    assert set(CLUSTER) <= CLUSTER_FIELDS
    for group in GROUPS.values():
        assert set(group) <= GROUP_FIELDS
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_ray_is_the_one_of_the_image():
    pins = (PROJECT / "constraints.txt").read_text()
    assert f"ray=={CLUSTER['rayVersion']}\n" in pins


def test_it_searches_and_a_second_attempt_goes_on():
    shell, flag, script = shlex.split(SPEC["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    resumed, started = re.findall(r"exec python tune/run_search\.py ([^;]+);", script)
    assert "--resume --name $run" in resumed
    assert "--name $run" in started
    assert set(re.findall(r"--[a-z-]+", resumed + started)) <= options_of("tune/run_search.py")
    # What its autoscaler may add cannot be seen from inside.
    assert {"--max-concurrent", "--gpus-per-trial"} <= set(started.split())
    assert SPEC["backoffLimit"] > 0
    assert SPEC["shutdownAfterJobFinishes"] is True


def test_workers_come_and_go():
    gpu = GROUPS["gpu"]
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0)
    assert gpu["maxReplicas"] > 0
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert GROUPS["head"]["rayStartParams"]["num-cpus"] == "0"


def test_nobody_uses_it_without_its_token():
    assert CLUSTER["authOptions"] == {"mode": "token"}


@every_group
def test_all_pods_share_the_results(name):
    spec, mounts = GROUPS[name]["template"]["spec"], container(name)["volumeMounts"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    places = {mount["mountPath"]: volumes[mount["name"]] for mount in mounts}
    assert places["/app/results"]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert places["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"]


@every_group
def test_a_pod_runs_the_projects_image_without_root(name):
    assert container(name)["image"] == container("head")["image"]
    security = GROUPS[name]["template"]["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 1000  # as docker/Dockerfile has it
    assert "USER 1000:1000" in (PROJECT / "docker" / "Dockerfile").read_text()
