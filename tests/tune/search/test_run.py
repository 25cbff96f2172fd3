"""The whole search, on the digits, as a user starts it.

`test_at_work.py` looks at one under way, `test_loss_study_kills.py` kills one at each of its writes, without training.
"""

import shutil
import time

import optuna
import pytest
import torch
from optuna.trial import TrialState

from analysis.compare import comparison
from analysis.findings import load_findings
from tune import run_search
from tune.records import LossRecords, read_json

pytestmark = pytest.mark.cluster

BUDGET = (
    "--dataset", "digits", "--trials", 3, "--max-epochs", 3, "--grace-epochs", 1, "--train-size", 320,
    "--model", "ArcFaceCNN", "--max-concurrent", 1, "--no-confirm",
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


def test_the_output_ends_with_a_table_in_plain_lines(finished):
    _, done = finished
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    table = done.stdout[done.stdout.index("best val. acc.") :]
    assert all(loss in table for loss in LOSSES)


def test_a_finished_run_has_nothing_to_resume_and_can_be_extended(search, finished, here):
    folder = shutil.copytree(finished[0], search.output / "extended")
    place = ("--output", search.output, "--name", "extended")
    before = (folder / "arcface" / "trials.jsonl").read_text()
    again = here(run_search.main, *place, "--resume")
    assert (again.returncode, again.stderr) == (0, "")
    assert (folder / "arcface" / "trials.jsonl").read_text() == before

    extended = here(run_search.main, *place, "--extend", 1)
    assert extended.returncode == 0, extended.stderr
    assert [len(trials_of(folder, loss)) for loss in LOSSES] == [4, 4, 4]
    assert (folder / "arcface" / "trials.jsonl").read_text().startswith(before)
    assert read_json(folder / "run.json")["settings"]["trials"] == 4


def test_a_kill_loses_nothing_and_changes_nothing(search, finished, here):
    """SIGKILL in the middle, then resume: the same trials, values, best and weights as without."""
    undisturbed, _ = finished
    folder = search.output / "killed"

    def epochs_on_record():
        return sum(len(epochs_of(folder, loss)) for loss in LOSSES)

    process = search.start("killed", *BUDGET)
    wait_for(lambda: epochs_on_record() >= 4)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    states = [trial.state for loss in LOSSES for trial in trials_of(folder, loss)]
    assert TrialState.RUNNING in states
    assert len(states) < 9
    resumed = here(run_search.main, "--resume", "--output", search.output, "--name", "killed")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr

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
    assert [invocation["resumed"] for invocation in read_json(folder / "run.json")["invocations"]] == [False, True]


def test_a_search_in_which_every_trial_failed_fails(here, tmp_path, monkeypatch):
    """The workers meet a configuration that the driver let pass."""
    from tune.search import run as search

    genuine = search.trial_config
    monkeypatch.setattr(search, "trial_config", lambda *a: _Broken(genuine(*a)))
    options = ("--dataset", "digits", "--loss", "softmax", "--trials", 2, "--max-epochs", 2, "--max-concurrent", 1)
    done = here(run_search.main, *options, "--output", tmp_path, "--name", "broken")
    assert done.returncode == 1
    assert "every trial of softmax failed" in done.stderr
    assert "no_such_key" in done.stderr
    failed = [e for e in LossRecords(tmp_path / "broken" / "softmax").read_events() if e["event"] == "failed"]
    assert len(failed) == 2
    assert all("no_such_key" in event["error"] for event in failed)


class _Broken:
    def __init__(self, config):
        self._config = config

    def to_dict(self):
        return {**self._config.to_dict(), "no_such_key": 1}
