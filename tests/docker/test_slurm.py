"""The batch script for Slurm, with stand-ins for Slurm's commands, Ray's and the search."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "slurm.sh"
STAND_INS = {
    # Names one node after the other: who reads the first and goes would break the pipe.
    "scontrol": 'echo "scontrol $*" >> "$LOG"; for n in 1 2 3; do sleep 0.05; /bin/echo "node$n"; done',
    # Runs here what it would run there, without its own options.
    "srun": """
        echo "srun $*" >> "$LOG"
        while [ "${1#--}" != "$1" ]; do shift; done
        exec "$@"
    """,
    "ray": """
        echo "ray $*" >> "$LOG"
        case "$1" in
            health-check) test -s "$RAY_AUTH_TOKEN_PATH" && test "$RAY_AUTH_MODE" = token ;;
            start) exec sleep 1000 ;;
        esac
    """,
    "python": """
        if [ "$1" = -c ]; then exec python3 "$@"; fi
        echo "python $*" >> "$LOG"
        trap 'echo "told to end" >> "$LOG"; exit 143' TERM
        while [ -e "$WAIT" ]; do sleep 0.1; done
        exit 7
    """,
}


@pytest.fixture
def job(tmp_path):
    """Starts the script in an empty project; its processes end with the test."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, script in STAND_INS.items():
        (binaries / name).write_text(f"#!/bin/bash\n{script}\n")
        (binaries / name).chmod(0o755)
    started = []

    def start(*options, nodes=3):
        environment = {
            **os.environ,
            "LOG": str(tmp_path / "log"),
            "WAIT": str(tmp_path / "wait"),
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "node[1-3]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "16",
            "SLURM_GPUS_ON_NODE": "2",
        }
        started.append(subprocess.Popen(["bash", SCRIPT, *options], env=environment, start_new_session=True))
        return started[-1]

    start.folder = tmp_path
    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            process.wait()


def lines(folder, beginning):
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    return [line for line in log.splitlines() if line.startswith(beginning)]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_head_and_workers_come_up_and_the_search_runs_on_them(job):
    (job.folder / "wait").touch()  # else the search may be over before the workers have begun
    script = job("--dataset", "cifar10", "--name", "x")
    wait_for(lambda: len(lines(job.folder, "ray start")) == 2)
    (job.folder / "wait").unlink()
    assert script.wait(60) == 7  # the search's own exit code
    # The stand-ins write in any order: the head's and the workers' run at the same time.
    workers, head = sorted(lines(job.folder, "ray start"))
    assert head == "ray start --head --port 22345 --dashboard-port 32345 --num-cpus 16 --num-gpus 2 --block"
    assert workers == "ray start --address node1:22345 --num-cpus 16 --num-gpus 2 --block"
    on_head, on_workers = sorted(lines(job.folder, "srun"))
    assert on_head.startswith("srun --nodes=1 --ntasks=1 --nodelist=node1 ")
    assert on_workers.startswith("srun --nodes=2 --ntasks=2 --exclude=node1 ")
    (search,) = lines(job.folder, "python")
    assert search == "python tune/run_search.py --address node1:22345 --dataset cifar10 --name x"
    assert list(job.folder.glob(".ray-token-*")) == []


def test_one_node_is_enough(job):
    assert job("--dataset", "digits", nodes=1).wait(60) == 7
    assert len(lines(job.folder, "ray start")) == 1


def test_the_token_is_nobody_elses(job):
    (job.folder / "wait").touch()
    job("--dataset", "digits")
    wait_for(lambda: lines(job.folder, "python"))
    (token,) = job.folder.glob(".ray-token-*")
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64


def test_when_the_time_is_up_the_search_ends_cleanly(job):
    (job.folder / "wait").touch()
    process = job("--dataset", "digits")
    wait_for(lambda: lines(job.folder, "python"))
    process.send_signal(signal.SIGTERM)  # as --signal=B:TERM@120 does
    assert process.wait(60) == 143
    assert lines(job.folder, "told to end")
