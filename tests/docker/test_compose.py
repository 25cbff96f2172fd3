"""What the stack promises, as far as it can be seen without starting it."""

import os
import re
import stat
import subprocess
import sys

import pytest

from tests.docker.files import COMPOSE_FILE, DOCKERFILE, PROJECT, Dockerfile, MissingVariableError, compose
from tests.test_project import options_of

TEXT = COMPOSE_FILE.read_text()
STACK = compose(TEXT, ADALOSS_SECRETS="./secrets")
SERVICES = STACK["services"]
RAY_NODES = [name for name, service in SERVICES.items() if service.get("command", [""])[0] == "ray"]
VARIABLES = sorted(set(re.findall(r"\$\{(\w+)", TEXT)))

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cuda.yaml"])
def test_the_file_is_what_the_compose_specification_says(file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", f"docker/{file}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_parts_are_there():
    assert set(SERVICES) == {"head", "worker", "postgres", "dashboard", "optuna-dashboard"}
    assert set(RAY_NODES) == {"head", "worker"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["optuna-dashboard"]


@every_service
def test_a_container_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


def test_whoever_owns_the_results_runs_the_containers():
    services = compose(TEXT, ADALOSS_SECRETS="s", ADALOSS_UID="1234", ADALOSS_GID="567")["services"]
    assert {service["user"] for service in services.values()} == {"1234:567"}


@every_service
def test_a_port_is_open_to_this_machine_alone(name):
    ports = SERVICES[name].get("ports", [])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports), ports
    assert bool(ports) == (name in {"head", "dashboard", "optuna-dashboard"})


@every_service
def test_an_image_is_built_here_or_pinned_by_version_and_digest(name):
    service = SERVICES[name]
    if "build" in service:
        build = service["build"]
        assert (PROJECT / "docker" / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
        dockerfile = Dockerfile(DOCKERFILE.read_text())
        assert build["target"] in dockerfile.stages
        declared = {line.partition("=")[0] for line in dockerfile.stages[build["target"]].all("ARG")}
        assert set(build["args"]) <= declared
        assert service["image"] == f"adaloss-search:{build['target']}"
    else:
        assert re.fullmatch(r"[\w/]+:\d+\.\d+-\w+@sha256:[0-9a-f]{64}", service["image"])
        assert re.search(rf"\$\{{\w+:-{re.escape(service['image'])}\}}", TEXT)


@pytest.mark.parametrize("name", sorted(RAY_NODES))
def test_nobody_joins_ray_without_the_token(name):
    service = SERVICES[name]
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert "ray_token" in service["secrets"]


def test_there_is_no_default_password():
    """Neither as a value, nor in a URL; each secret is a file, and which is asked for."""
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        named = {key: value for key, value in environment.items() if re.search("PASS|TOKEN|SECRET", key)}
        assert all(value.startswith("/run/secrets/") for value in named.values()), (name, named)
        mounted = {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
        assert set(named.values()) <= mounted
    assert re.findall(r"://[^\s/@]*:[^\s/@]*@", TEXT) == []
    assert all(set(secret) == {"file"} for secret in STACK["secrets"].values())


def test_a_stack_without_its_secrets_does_not_start_and_says_what_to_do():
    with pytest.raises(MissingVariableError, match=r"^run docker/prepare\.sh first"):
        compose(TEXT)
    for name in STACK["secrets"]:
        assert re.search(rf"^  {name}:\n    file: \$\{{ADALOSS_SECRETS:\?[^}}]+\}}/{name}$", TEXT, re.MULTILINE)


def test_a_secret_is_with_those_alone_who_need_it():
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}
        for secret in STACK["secrets"]
    }
    assert holders == {
        "ray_token": {"head", "worker"},
        "postgres_password": {"postgres"},
        "pgpass": {"head", "dashboard", "optuna-dashboard"},
    }


@every_service
def test_a_service_says_whether_it_works(name):
    check = SERVICES[name]["healthcheck"]
    assert {"test", "interval", "timeout", "start_period", "retries"} <= set(check)
    assert check["test"][0] == "CMD"
    for word in check["test"][1:]:
        assert not word.endswith(".py") or (PROJECT / word).is_file()
        if word.startswith("http"):
            assert word.startswith("http://127.0.0.1:")


def test_services_wait_for_those_that_they_need():
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert {name: set(needed) for name, needed in waits.items() if needed} == {
        "head": {"postgres"},
        "worker": {"head"},
        "optuna-dashboard": {"postgres"},
    }
    assert {how["condition"] for needed in waits.values() for how in needed.values()} == {"service_healthy"}


@pytest.mark.parametrize("name", sorted(RAY_NODES))
def test_the_object_store_fits_into_shared_memory(name):
    (option,) = [word for word in SERVICES[name]["command"] if word.startswith("--object-store-memory=")]
    number, unit = re.fullmatch(r"(\d+)([mg])b", SERVICES[name]["shm_size"]).groups()
    assert int(option.partition("=")[2]) < int(number) * {"m": 2**20, "g": 2**30}[unit]


def test_trials_run_on_workers_of_which_there_can_be_any_number():
    assert "--num-cpus=0" in SERVICES["head"]["command"]
    assert SERVICES["worker"]["deploy"] == {"mode": "replicated", "replicas": "2"}
    more = compose(TEXT, ADALOSS_SECRETS="s", ADALOSS_WORKERS="5", ADALOSS_WORKER_CPUS="4")["services"]["worker"]
    assert more["deploy"]["replicas"] == "5"
    assert "--num-cpus=4" in more["command"]
    assert not {"container_name", "hostname", "ports"} & set(SERVICES["worker"])  # of which there can be one only
    assert SERVICES["worker"]["environment"]["OMP_NUM_THREADS"] == "1"


def test_head_and_workers_share_the_results_and_the_page_reads_them():
    def results(name):
        (mount,) = [v for v in SERVICES[name]["volumes"] if isinstance(v, dict) and v["target"] == "/app/results"]
        return mount

    for name in ("head", "worker"):
        assert not results(name).get("read_only")
    assert results("dashboard")["read_only"] is True
    assert len({results(name)["source"] for name in ("head", "worker", "dashboard")}) == 1
    # Made by the engine, it would belong to root, and no container could write there.
    assert results("head")["bind"] == {"create_host_path": False}


def test_every_volume_is_declared_and_every_mount_has_a_place_in_the_image():
    made = " ".join(line for stage in Dockerfile(DOCKERFILE.read_text()).stages.values() for line in stage.all("RUN"))
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":") if isinstance(volume, str) else (volume["source"], volume["target"])
            assert isinstance(volume, dict) or source in STACK["volumes"]
            assert target in made or service is SERVICES["postgres"]


def test_every_command_is_one_of_the_project_with_options_that_it_has():
    program, script, *arguments = SERVICES["dashboard"]["command"]
    assert program == "python"
    assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= options_of(script)


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_explained(name):
    assert f"`{name}`" in (PROJECT / "docker" / "README.md").read_text()


# --- What must be there before the first start -----------------------------------------------------------------------


@pytest.fixture
def prepared(tmp_path):
    """Runs prepare.sh in a folder of its own."""
    (tmp_path / "docker").mkdir()
    script = tmp_path / "docker" / "prepare.sh"
    script.write_bytes((PROJECT / "docker" / "prepare.sh").read_bytes())
    script.chmod(0o755)

    def run(**variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SUDO_")} | variables
        subprocess.run([script], env=environment, check=True, capture_output=True, timeout=300)
        files = [path for path in (tmp_path / "docker").rglob("*") if path.is_file() and path != script]
        return {path.relative_to(tmp_path / "docker").as_posix(): path.read_text() for path in files}

    return tmp_path, run


def settings_of(files):
    return dict(line.split("=", 1) for line in files[".env"].splitlines())


def test_passwords_are_random_and_for_nobody_else(prepared):
    folder, run = prepared
    files = run()
    assert set(files) == {".env", *(f"secrets/{name}" for name in STACK["secrets"])}
    token, password = files["secrets/ray_token"], files["secrets/postgres_password"]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in (token, password))
    assert token != password
    assert files["secrets/pgpass"] == f"*:*:*:adaloss:{password}\n"
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == "adaloss"
    for name in files:
        assert stat.S_IMODE((folder / "docker" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "docker" / "secrets").stat().st_mode) == 0o700


def test_what_is_there_stays(prepared):
    folder, run = prepared
    before = run()
    (folder / "docker" / ".env").write_text("ADALOSS_WORKERS=7\n")
    after = run()
    assert after.pop(".env") == "ADALOSS_WORKERS=7\n"
    assert after == {name: text for name, text in before.items() if name != ".env"}


def test_the_settings_are_those_that_the_stack_reads(prepared):
    folder, run = prepared
    settings = settings_of(run())
    assert set(settings) <= set(VARIABLES)
    assert compose(TEXT, **settings)["secrets"]["pgpass"]["file"] == "./secrets/pgpass"
    owner = (folder / "results").stat()
    assert (settings["ADALOSS_UID"], settings["ADALOSS_GID"]) == (str(owner.st_uid), str(owner.st_gid))
    assert "0" not in {settings["ADALOSS_UID"], settings["ADALOSS_GID"]}
    secret = (folder / "docker" / "secrets" / "pgpass").stat()
    assert (secret.st_uid, secret.st_gid) == (owner.st_uid, owner.st_gid)


@pytest.mark.parametrize("path", ["docker/.env", "docker/secrets/ray_token", "results/a/run.json"])
def test_no_secret_and_no_result_gets_into_the_history(path):
    if not (PROJECT / ".git").exists():
        pytest.skip("this is no checkout")
    assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=PROJECT, check=False).returncode == 0
