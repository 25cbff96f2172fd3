"""The cluster files: Ray accepts them, they carry all of the code, and they say what a user has to fill in."""

import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.hosts import PROJECT
from tests.cluster.launched import filled_in

FILES = {path.name: path for path in (PROJECT / "docker").glob("cluster.*.yaml")}
CLOUDS = sorted(FILES.keys() - {"cluster.local.yaml"})
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())


@pytest.fixture(params=sorted(FILES))
def config(request):
    return yaml.safe_load(FILES[request.param].read_text())


def commands(config):
    names = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    return {name: config[name] for name in names if name in config}


def test_there_is_one_for_ones_own_machines_and_for_two_clouds():
    assert set(FILES) == {"cluster.local.yaml", "cluster.aws.yaml", "cluster.gcp.yaml"}


def test_ray_accepts_it(config):
    validate_config(prepare_config(config))
    with pytest.raises(ValidationError):
        validate_config(prepare_config({**config, "no_such_key": 1}))


def test_ray_accepts_it_filled_in():
    config = yaml.safe_load(filled_in("10.0.0.1", ["10.0.0.2", "10.0.0.3"], "somebody", "~/.ssh/key"))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["max_workers"] == 2
    assert prepared["provider"]["head_ip"] == "10.0.0.1"


def test_all_of_the_code_is_carried_and_nothing_else(config):
    mounts = config["file_mounts"]
    assert {target.removeprefix("~/adaloss-search/"): source for target, source in mounts.items()} == {
        source: source for source in mounts.values()
    }
    packages = {name.partition(".")[0] for name in PYPROJECT["tool"]["setuptools"]["packages"]}
    read_when_built = {"pyproject.toml", PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]}
    assert set(mounts.values()) == packages | read_when_built | {"constraints.txt"}
    assert all((PROJECT / source).exists() for source in mounts.values())


def test_the_extras_that_it_installs_exist(config):
    (install,) = [command for command in config["setup_commands"] if "pip install" in command]
    (extras,) = re.findall(r"~/adaloss-search\[([\w,]+)\]", install)
    assert set(extras.split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])
    assert "--constraint ~/adaloss-search/constraints.txt" in install


def test_its_commands_are_shell(config):
    for of_kind in commands(config).values():
        for command in of_kind:
            done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)


def test_no_process_of_ray_inherits_the_launchers_one_thread(config):
    starts = [c for c in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    assert all(command.startswith("unset OMP_NUM_THREADS;") for command in starts)


def test_ray_starts_no_process_a_core_that_no_trial_uses(config):
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        before, start, _ = command.partition("ray start")
        if start:
            shown = subprocess.run(
                ["bash", "-c", before.replace("ulimit -n 65536;", "").partition("for try")[0] + " env"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert "RAY_prestart_worker_first_driver=0" in shown.stdout.splitlines()


@pytest.mark.parametrize(("failures", "expected"), [(0, 0), (2, 0), (3, 1)])
def test_on_ones_own_machine_ray_has_three_tries_to_start(tmp_path, failures, expected):
    """Ray's launcher gives such a machine up for good when the command fails once."""
    config = yaml.safe_load(FILES["cluster.local.yaml"].read_text())
    log, ray = tmp_path / "log", tmp_path / "ray"
    ray.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n[ "$1" = stop ] || [ "$(grep -c "^start" {log})" -gt {failures} ]\n'
    )
    ray.chmod(0o755)
    command = config["worker_start_ray_commands"][-1]
    # In parentheses, as the launcher runs it.
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_HEAD_IP": "10.0.0.1"}
    assert subprocess.run(["bash", "-c", f"({command})"], env=environment).returncode == expected
    start = "start --address=10.0.0.1:6379"
    tries = [start, *(line for _ in range(min(failures, 2)) for line in ("stop", start))]
    assert log.read_text().splitlines() == tries + ["stop"] * expected


def test_ones_own_machine_may_come_back_after_a_day():
    """Ray's launcher never tries a machine again that it has not reached within this time."""
    config = yaml.safe_load(FILES["cluster.local.yaml"].read_text())
    (start,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    program = "from ray.autoscaler._private import updater; print(updater.AUTOSCALER_NODE_START_WAIT_S)"
    words = shlex.join([sys.executable, "-c", program])
    shell = f"{start.partition('ray start')[0]} {words}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 24 * 60 * 60


def test_nobody_uses_it_without_its_token(config):
    head = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    assert any("get-auth-token --generate" in command for command in config["head_setup_commands"])
    assert config["cluster_synced_files"] == ["~/.ray/auth_token"]
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])


def test_checkpoints_go_to_what_all_nodes_reach(config):
    setup = " ".join(config["setup_commands"])
    assert "$shared/results ~/results" in setup or "ADALOSS_STORAGE=gs://" in setup


@pytest.mark.parametrize("name", CLOUDS)
def test_in_a_cloud_gpu_workers_come_and_go_at_spot_prices(name):
    config = prepare_config(yaml.safe_load(FILES[name].read_text()))
    types = config["available_node_types"]
    head, gpu = types[config["head_node_type"]], types["gpu"]
    assert head["resources"]["CPU"] == 0
    assert head["max_workers"] == 0
    assert gpu["resources"]["GPU"] >= 1
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, config["max_workers"])
    node = gpu["node_config"]
    market, scheduling = node.get("InstanceMarketOptions", {}), node.get("scheduling", {})
    assert market.get("MarketType") == "spot" or scheduling.get("preemptible") is True
    assert config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_to_be_filled_in_is_marked(name):
    """Nothing that looks like somebody's own is left unmarked, and no mark stands before something else."""
    lines = FILES[name].read_text().splitlines()
    own = re.compile(r"192\.168\.|id_ed25519|/mnt/adaloss|-0{17}|us-west-2|us-central1|my-(project|bucket)")
    marked = False
    unmarked, marks = [], 0
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            marks += "FILL IN" in text
            marked = marked or "FILL IN" in text
        elif own.search(line) and not marked:
            unmarked.append(line)
        elif not text:
            marked = False
    assert marks >= 3
    assert unmarked == []
