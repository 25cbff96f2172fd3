"""Whole searches and confirmations on a disk that fills up in the middle."""

import json
import os
import shlex
import shutil
import subprocess
import time

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tests.tune.conftest import Command
from tune.records import LossRecords, read_json, read_records

pytestmark = pytest.mark.cluster

DISK_MIB = 24  # a confirmation writes checkpoints of 28 MiB, and deletes those of runs that are over
KIBIBYTE = 2**10
TRIALS, EPOCHS = 3, 8
LOSSES = ("arcface", "softmax")
SEARCH = (
    "--dataset", "digits", "--loss", "arcface", "--loss", "softmax", "--trials", TRIALS, "--max-epochs", EPOCHS,
    "--grace-epochs", 4, "--train-size", 320,
)  # fmt: skip


class SmallDisk:
    """A disk of a few MiB that can be filled, all but so much, and freed."""

    def __init__(self, folder):
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, but_kib):
        left = shutil.disk_usage(self.folder).free - but_kib * KIBIBYTE
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while left > 0:
                    left -= file.write(b"\0" * min(left, 64 * KIBIBYTE))
            except OSError:  # the search was faster
                pass

    def keep_full(self, but_kib, process):
        """Take what the search frees, an old checkpoint for one, until it ends."""
        deadline = time.monotonic() + 300
        while process.poll() is None:
            assert time.monotonic() < deadline, "it goes on as if there were space"
            self.fill(but_kib)
            time.sleep(0.05)

    def free(self):
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        if os.environ.get("REQUIRE_ROOT"):
            pytest.fail("a small disk cannot be mounted")
        pytest.skip("only root can mount a small disk, and not in every container")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def command(disk):
    command = Command(disk.folder)
    yield command
    command.stop_all()


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_ended_in_one_line(process, folder, go_on):
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 1, stdout + stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith(f"error: the disk of {folder} is full ("), stderr
    assert stderr.endswith(f"; free some space, then go on with: {go_on}\n"), stderr
    assert "Traceback" not in stdout


def assert_all_trials_are_there_once(folder):
    for loss in LOSSES:
        study = optuna.load_study(study_name=f"digits-{loss}", storage=f"sqlite:///{folder}/study.db")
        assert [trial.number for trial in study.trials] == list(range(TRIALS))
        assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        records = LossRecords(folder / loss)
        events = [(event["trial_id"], event["event"]) for event in records.read_events()]
        ids = [f"{loss}-{number:04d}" for number in range(TRIALS)]
        assert [event for event in events if event[1] == "started"] == [(trial_id, "started") for trial_id in ids]
        assert sorted(trial_id for trial_id, event in events if event in {"finished", "stopped"}) == ids
        assert not [event for event in events if event[1] == "failed"]
        for trial in study.trials:
            values = {
                epoch["epoch"]: epoch["val_accuracy"]
                for epoch in records.read_epochs()
                if epoch["trial_id"] == ids[trial.number]
            }
            assert sorted(values) == list(range(1, max(values) + 1))
            assert values == trial.intermediate_values
        best = read_json(folder / f"best_{loss}.json")
        assert best["trial_id"] == ids[study.best_trial.number] or best["val_accuracy"] == study.best_value
        weights = torch.load(folder / f"best_{loss}.pt", weights_only=True)
        assert weights["epoch"] == best["epoch"] == EPOCHS
    assert not (folder / "checkpoints").exists()
    assert not list(folder.glob(".*.tmp"))


# With nothing left, the database is the first that cannot be written; with 1 MiB left it can be, and so can records,
# but not a checkpoint of 2 MiB, which a worker process writes.
@pytest.mark.parametrize("left_kib", [0, 1024])
def test_a_search_ends_in_one_line_and_goes_on_when_there_is_space(disk, command, left_kib):
    folder = disk.folder / "run"
    process = command.start("run", *SEARCH, "--no-confirm")
    wait_for(lambda: sum(lines(folder / loss / "epochs.jsonl") for loss in LOSSES) >= 5, process)
    disk.keep_full(left_kib, process)
    go_on = f"python tune/run_search.py --resume --output {disk.folder} --name run"
    assert_ended_in_one_line(process, folder, go_on)

    if left_kib == 0:  # and there is still no space
        before = {path: path.read_bytes() for path in (folder / "run.json", *folder.glob("*/*.jsonl"))}
        assert_ended_in_one_line(command.start("run", "--resume"), folder, go_on)
        assert {path: path.read_bytes() for path in before} == before

    disk.free()
    done = command("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert_all_trials_are_there_once(folder)
    assert (folder / "report.html").stat().st_size > 10**6


def test_a_confirmation_ends_in_one_line_and_goes_on_when_there_is_space(disk, command):
    folder = disk.folder / "run"
    options = (*SEARCH, "--trials", 1, "--max-epochs", 3, "--grace-epochs", 3)
    process = command.start("run", *options, "--confirm-seeds", 2)
    wait_for(lambda: lines(folder / "confirm.jsonl") >= 2, process)
    disk.fill(but_kib=0)
    assert_ended_in_one_line(process, folder, f"python tune/run_search.py --resume --output {disk.folder} --name run")
    for line in (folder / "confirm.jsonl").read_text().splitlines():
        json.loads(line)
    disk.free()
    done = command("run", "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    results = read_records(folder / "confirm.jsonl")
    run_ids = [result["run_id"] for result in results]
    assert len(run_ids) == len(set(run_ids)) == 2 * 3 + 2 * 2  # one candidate on three seeds, a winner on two, a loss
    assert all(result["error"] is None and result["epochs"] == 3 for result in results)
    assert [epoch["epoch"] for result in results for epoch in result["curve"]] == list(range(1, 4)) * len(results)
    assert {winner.name for winner in folder.glob("winner_*.json")} == {f"winner_{loss}.json" for loss in LOSSES}


@pytest.mark.parametrize("what", ["start", "page"])
def test_a_disk_that_is_full_at_the_beginning_or_for_the_page_is_said_too(disk, command, what):
    folder = disk.folder / "run"
    options = ("--dataset", "digits", "--loss", "softmax", "--trials", 1, "--max-epochs", 1)
    options = (*options, "--grace-epochs", 1, "--no-confirm")
    disk.fill(but_kib={"start": 0, "page": 4 * KIBIBYTE + 512}[what])  # a page takes 5 MiB
    process = command.start("run", *options)
    resume = f"python tune/run_search.py --resume --output {disk.folder} --name run"
    anew = shlex.join(["python", *process.args[1:]])
    assert_ended_in_one_line(process, folder, {"start": anew, "page": resume}[what])
    disk.free()
    done = command("run", *(options if what == "start" else ["--resume"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report.html").exists()
