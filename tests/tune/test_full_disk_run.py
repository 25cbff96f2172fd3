"""Whole searches and confirmations on a disk that fills up in the middle."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import threading

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tests.tune.happenings import let_happen
from tune import confirm, run_search
from tune.records import LossRecords, read_json, read_records

pytestmark = pytest.mark.cluster

DISK_MIB = 24
KIBIBYTE = 2**10
TRIALS, EPOCHS = 2, 4
LOSSES = ("arcface", "softmax")
SEARCH = (
    "--dataset", "digits", "--loss", "arcface", "--loss", "softmax", "--trials", TRIALS, "--max-epochs", EPOCHS,
    "--grace-epochs", 2, "--train-size", 320, "--model", "ArcFaceCNN", "--no-confirm",
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

    @contextlib.contextmanager
    def kept_full(self, but_kib):
        """Fill it, and take what others free, an old checkpoint for one, while the context lasts."""
        is_over = threading.Event()

        def fill():
            while not is_over.wait(0.05):
                self.fill(but_kib)

        self.fill(but_kib)
        thread = threading.Thread(target=fill)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

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
def command(disk, here, monkeypatch):
    """Runs a command, by default the search for a run on the disk; in epoch number `when` of all, `happens` does."""

    def run(*options, when=0, happens=None, main=run_search.main):
        place = () if main is confirm.main else ("--output", disk.folder, "--name", "run")
        with monkeypatch.context() as patch:
            if happens is not None:
                let_happen(patch, {when: happens})
            return here(main, *place, *options)

    return run


def assert_ended_in_one_line(done, folder, go_on):
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: the disk of {folder} is full ("), done.stderr
    said = done.stderr.partition("; free some space, then go on with: ")[2]
    assert said.endswith(f"{go_on}\n"), done.stderr
    assert said.count(" ") == go_on.count(" "), said  # before it, there is the interpreter alone
    assert "Traceback" not in done.stdout


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
# but not a checkpoint of 2 MiB, which a worker process writes, beside another one.
@pytest.mark.parametrize(("left_kib", "at_a_time"), [(0, 1), (1024, 2)])
def test_a_search_and_its_confirmation_end_in_one_line_and_go_on_when_there_is_space(
    disk, command, left_kib, at_a_time
):
    folder = disk.folder / "run"
    go_on = f" tune/run_search.py --resume --output {disk.folder} --name run"
    with contextlib.ExitStack() as full:
        done = command(
            *SEARCH, "--max-concurrent", at_a_time, when=5, happens=lambda: full.enter_context(disk.kept_full(left_kib))
        )
        assert_ended_in_one_line(done, folder, go_on)
        if left_kib == 0:  # and there is still no space
            before = {path: path.read_bytes() for path in (folder / "run.json", *folder.glob("*/*.jsonl"))}
            assert_ended_in_one_line(command("--resume"), folder, go_on)
            assert {path: path.read_bytes() for path in before} == before
    disk.free()
    done = command("--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert_all_trials_are_there_once(folder)
    assert (folder / "report.html").stat().st_size > 10**6
    if left_kib == 0:
        assert_a_confirmation_does_so_too(disk, command, folder)


def assert_a_confirmation_does_so_too(disk, command, folder):
    """The disk is full when the third of its runs has begun."""
    asked = (folder, "--confirm-seeds", 1, "--candidates", 1, "--candidate-seeds", 2)
    done = command(*asked, main=confirm.main, when=2 * EPOCHS + 1, happens=lambda: disk.fill(but_kib=0))
    assert_ended_in_one_line(done, folder, f" tune/confirm.py {folder}")
    ended = [json.loads(line)["run_id"] for line in (folder / "confirm.jsonl").read_text().splitlines()]
    assert len(ended) >= 2
    saved = {path.parts[-3] for path in (folder / "checkpoints").rglob("checkpoint.json")}
    assert not saved & set(ended[:2])  # the checkpoint of a run that is over takes no space
    disk.free()
    done = command(folder, main=confirm.main)
    assert done.returncode == 0, done.stdout + done.stderr
    results = read_records(folder / "confirm.jsonl")
    run_ids = [result["run_id"] for result in results]
    assert len(run_ids) == len(set(run_ids)) == 2 * 2 + 2  # one candidate on two seeds, a winner on one, of each loss
    assert all(result["error"] is None and result["epochs"] == EPOCHS for result in results)
    assert [epoch["epoch"] for result in results for epoch in result["curve"]] == [*range(1, EPOCHS + 1)] * len(results)
    assert {winner.name for winner in folder.glob("winner_*.json")} == {f"winner_{loss}.json" for loss in LOSSES}


def test_a_disk_that_is_full_at_the_beginning_or_for_the_page_is_said_too(disk, command):
    folder = disk.folder / "run"
    options = ("--dataset", "digits", "--loss", "softmax", "--trials", 1, "--max-epochs", 1)
    options = (*options, "--grace-epochs", 1, "--model", "ArcFaceCNN", "--no-confirm")
    disk.fill(but_kib=0)
    done = command(*options)
    assert_ended_in_one_line(done, folder, f" {shlex.join(done.args)}")
    disk.free()
    disk.fill(but_kib=4 * KIBIBYTE + 512)  # a page takes 5 MiB
    resume = f" tune/run_search.py --resume --output {disk.folder} --name run"
    assert_ended_in_one_line(command(*options), folder, resume)
    disk.free()
    done = command("--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report.html").exists()
