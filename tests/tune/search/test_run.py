"""The whole search, on the digits, as a user starts it."""

import json
import os
import shutil
import signal
import time

import optuna
import psutil
import pytest
import torch
from optuna.trial import TrialState

from analysis.compare import comparison
from analysis.findings import load_findings
from tune.records import LossRecords, read_json

BUDGET = (
    "--dataset", "digits", "--trials", 3, "--max-epochs", 3, "--grace-epochs", 1, "--train-size", 320,
    "--max-concurrent", 1, "--no-confirm",
)  # fmt: skip
LOSSES = ("arcface", "adaloss", "softmax")


def trials_of(folder, loss):
    return optuna.load_study(study_name=f"digits-{loss}", storage=f"sqlite:///{folder}/study.db").trials


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)  # so often that what is waited for is not long past


def epochs_of(folder, loss):
    return LossRecords(folder / loss).read_epochs()


@pytest.fixture(scope="module")
def finished(search):
    done = search("finished", *BUDGET)
    assert done.returncode == 0, done.stderr
    return search.output / "finished", done


def test_every_loss_gets_its_trials(finished):
    folder, _ = finished
    for loss in LOSSES:
        trials = trials_of(folder, loss)
        assert len(trials) == 3
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
        assert trials[0].state == TrialState.COMPLETE
        for trial in trials:
            assert trial.value == list(trial.intermediate_values.values())[-1]


def test_records_and_study_agree(finished):
    folder, _ = finished
    for loss in LOSSES:
        recorded = {(e["trial_id"], e["epoch"]): e["val_accuracy"] for e in epochs_of(folder, loss)}
        studied = {
            (f"{loss}-{t.number:04d}", epoch): value
            for t in trials_of(folder, loss)
            for epoch, value in t.intermediate_values.items()
        }
        assert recorded == studied


def test_epochs_have_the_documented_fields(finished):
    folder, _ = finished
    fields = {
        "trial_id", "time", "epoch", "val_accuracy", "val_loss", "train_accuracy", "train_loss", "margin_rad",
        "margin_raw_rad", "learning_rate", "seconds", "images_per_s", "node_ip",
    }  # fmt: skip
    for loss in LOSSES:
        extra = {"difficulty", "competence"} if loss == "adaloss" else set()
        assert set(epochs_of(folder, loss)[0]) == fields | extra


def test_the_losses_share_their_first_points(finished):
    folder, _ = finished
    shared = ("learning_rate", "head_learning_rate_multiplier", "weight_decay", "label_smoothing")
    for number in range(2):
        points = {tuple(trials_of(folder, loss)[number].params[key] for key in shared) for loss in LOSSES}
        assert len(points) == 1


def test_the_run_says_where_it_came_from(finished):
    folder, _ = finished
    run = read_json(folder / "run.json")
    assert run["settings"]["seed"] == 0
    assert run["dataset"]["train_images"] == 320
    assert len(run["dataset"]["fingerprint"]) == len(run["dataset"]["split_sha256"]) == 64
    (invocation,) = run["invocations"]
    assert invocation["versions"]["torch"] == torch.__version__.partition("+")[0] or invocation["versions"]["torch"]
    assert invocation["hardware"]["cpus"] >= 1
    assert "run_search.py" in invocation["command"]
    assert run["search_spaces"]["softmax"]["dimensions"] < run["search_spaces"]["arcface"]["dimensions"]


def test_the_best_are_kept_with_their_weights_and_nothing_else(finished):
    folder, _ = finished
    for entry in comparison(load_findings([folder]))[0]["losses"]:
        best = read_json(folder / f"best_{entry['loss']}.json")
        assert best["trial_id"] == entry["best"]["trial_id"]
        assert best["val_accuracy"] == entry["best"]["val_accuracy"]
        weights = torch.load(folder / f"best_{entry['loss']}.pt", weights_only=True)
        assert weights["epoch"] == 3
        assert weights["config"]["learning_rate"] == best["config"]["learning_rate"]
    assert not (folder / "checkpoints").exists()


def test_weights_of_an_earlier_best_do_not_pass_for_the_new_ones(tmp_path):
    """The new best has none: it was stopped early, as all others were."""
    from types import SimpleNamespace

    from tune.execution.checkpoints import CheckpointStore
    from tune.search.run import _keep_best

    def keep(number):
        best = SimpleNamespace(number=number, value=0.9, last_step=3)
        study = SimpleNamespace(
            best=lambda: best,
            waiting=list,
            trial_id=lambda n: f"softmax-{n:04d}",
            config_of=lambda _: {"loss": "softmax"},
        )
        _keep_best(SimpleNamespace(folder=tmp_path), {"softmax": study}, CheckpointStore(str(tmp_path / "checkpoints")))

    keep(0)
    weights = tmp_path / "best_softmax.pt"
    weights.write_bytes(b"of trial 0")
    keep(0)
    assert weights.read_bytes() == b"of trial 0"  # kept when a finished run is opened again
    keep(1)
    assert not weights.exists()
    assert read_json(tmp_path / "best_softmax.json")["trial_id"] == "softmax-0001"


def test_the_output_ends_with_a_table_in_plain_lines(finished):
    _, done = finished
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    table = done.stdout[done.stdout.index("best val. acc.") :]
    assert all(loss in table for loss in LOSSES)


@pytest.mark.cluster
def test_a_finished_run_has_nothing_to_resume_and_can_be_extended(search, finished):
    folder = shutil.copytree(finished[0], search.output / "extended")
    before = (folder / "arcface" / "trials.jsonl").read_text()
    again = search("extended", "--resume")
    assert again.returncode == 0
    assert (folder / "arcface" / "trials.jsonl").read_text() == before

    extended = search("extended", "--extend", 1)
    assert extended.returncode == 0, extended.stderr
    assert [len(trials_of(folder, loss)) for loss in LOSSES] == [4, 4, 4]
    assert (folder / "arcface" / "trials.jsonl").read_text().startswith(before)
    assert read_json(folder / "run.json")["settings"]["trials"] == 4


@pytest.mark.cluster
def test_ctrl_c_ends_a_search_cleanly_and_no_other_gets_into_its_folder(search):
    options = ("--dataset", "digits", "--loss", "adaloss", "--trials", 3, "--max-epochs", 400, "--grace-epochs", 400)
    process = search.start("busy", *options)
    folder = search.output / "busy"
    wait_for(lambda: len(epochs_of(folder, "adaloss")) >= 4)
    second = search("busy", "--resume")
    assert second.returncode == 2
    assert "another search is writing" in second.stderr
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stderr) == (130, "")
    assert f"--resume --output {search.output} --name busy" in stdout
    assert {trial.state for trial in trials_of(folder, "adaloss")} == {TrialState.WAITING}


def test_a_search_in_which_every_trial_failed_fails(tmp_path, monkeypatch, capsys):
    """The workers meet a configuration that the driver let pass."""
    from rich.console import Console

    from tune import run_search
    from tune.search import run as search
    from tune.settings import SearchSettings

    genuine = search.trial_config
    monkeypatch.setattr(search, "trial_config", lambda *a: _Broken(genuine(*a)))
    settings = SearchSettings(
        dataset="digits", data_dir=None, losses=("softmax",), model="", trials=2, max_epochs=2, grace_epochs=1,
        reduction_factor=3, time_budget_min=None, train_size=None, batch_size=64, precision="auto", cpus_per_trial=None,
        gpus_per_trial=None, max_concurrent=None, output=str(tmp_path), name="broken", storage=None, address="local",
        seed=0,
    )  # fmt: skip
    console = Console(force_terminal=False)
    assert run_search._run(settings, None, False, False, None, console) == 1
    error = capsys.readouterr().err
    assert "every trial of softmax failed" in error
    assert "no_such_key" in error
    failed = [e for e in LossRecords(tmp_path / "broken" / "softmax").read_events() if e["event"] == "failed"]
    assert len(failed) == 2
    assert all("no_such_key" in event["error"] for event in failed)


class _Broken:
    def __init__(self, config):
        self._config = config

    def to_dict(self):
        return {**self._config.to_dict(), "no_such_key": 1}


@pytest.mark.cluster
def test_time_up_ends_a_search(search):
    options = ("--dataset", "digits", "--loss", "softmax", "--trials", 50, "--max-epochs", 300, "--grace-epochs", 300)
    done = search("budget", *options, "--no-confirm", "--time-budget", 0.2)
    assert done.returncode == 0, done.stderr
    states = [trial.state for trial in trials_of(search.output / "budget", "softmax")]
    assert 1 <= len(states) < 50
    assert set(states) <= {TrialState.COMPLETE, TrialState.PRUNED}
    reasons = {e.get("reason") for e in LossRecords(search.output / "budget" / "softmax").read_events()}
    assert "time budget" in reasons


@pytest.mark.cluster
def test_a_trial_whose_worker_dies_goes_on_from_its_checkpoint(search):
    """Losing the worker in mid-trial costs at most what came after the last checkpoint, and no trial."""
    epochs = 60  # it is in the middle when it has a checkpoint, on a fast machine too
    options = ("--dataset", "digits", "--loss", "adaloss", "--trials", 1, "--max-epochs", epochs, "--train-size", 320)
    process = search.start("lost", *options, "--grace-epochs", epochs, "--no-confirm")
    folder = search.output / "lost"
    wait_for(lambda: any((folder / "checkpoints").rglob("checkpoint.json")))
    stored_by = len(epochs_of(folder, "adaloss"))
    wait_for(lambda: len(epochs_of(folder, "adaloss")) > stored_by)  # Ray asks for more when it knows of the checkpoint
    worker = next(p for p in psutil.Process(process.pid).children(recursive=True) if "Trainable" in p.name())
    os.kill(worker.pid, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stdout + stderr
    (trial,) = trials_of(folder, "adaloss")
    assert trial.state == TrialState.COMPLETE
    assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
    events = [event["event"] for event in LossRecords(folder / "adaloss").read_events()]
    assert events == ["started", "resumed", "finished"]
    # It went on from the checkpoint: the first epochs were not run again.
    lines = [json.loads(line) for line in (folder / "adaloss" / "epochs.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines].count(1) == 1


@pytest.mark.cluster
def test_five_kills_lose_nothing_and_change_nothing(search, finished):
    """SIGKILL at five moments, resumed each time: the same trials, values and best as without, one trial at a time."""
    undisturbed, _ = finished
    folder = search.output / "killed"

    def epochs_on_record():
        return sum(len(epochs_of(folder, loss)) for loss in LOSSES)

    process = search.start("killed", *BUDGET)
    for kill in range(1, 6):
        # Spread over the search, and each in a search at work: with an epoch more than before, and others to come.
        wanted = max(2 * kill, epochs_on_record() + 1)
        wait_for(lambda w=wanted: epochs_on_record() >= w, 300)
        process.kill()
        process.communicate()
        process = search.start("killed", "--resume")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stdout + stderr

    for loss in LOSSES:
        expected, got = (trials_of(place, loss) for place in (undisturbed, folder))
        assert [(t.number, t.state, t.params) for t in got] == [(t.number, t.state, t.params) for t in expected]
        assert [t.intermediate_values for t in got] == [t.intermediate_values for t in expected]
        assert read_json(folder / f"best_{loss}.json") == read_json(undisturbed / f"best_{loss}.json")
        kept, best = (torch.load(place / f"best_{loss}.pt", weights_only=True) for place in (folder, undisturbed))
        for part in ("model", "loss"):
            torch.testing.assert_close(kept[part], best[part], rtol=0, atol=0)
        endings = [
            e["trial_id"] for e in LossRecords(folder / loss).read_events() if e["event"] in {"finished", "stopped"}
        ]
        assert sorted(endings) == [f"{loss}-{number:04d}" for number in range(3)]
    assert len(read_json(folder / "run.json")["invocations"]) == 6
