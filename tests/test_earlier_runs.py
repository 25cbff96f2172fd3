"""Runs that an earlier version wrote are read, shown, resumed and extended, with the same numbers."""

import json
import tarfile
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from analysis.compare import comparison
from analysis.findings import load_findings
from analysis.live.follow import FollowedRun
from analysis.loading import load_run
from tests.runs.project import Copy
from tune.records import LossRecords, read_json, read_records

ARCHIVE = Path(__file__).parent / "runs" / "before-folders.tar.xz"


@pytest.fixture
def earlier(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def less(found, known):
    """What of the new findings the earlier version had, too: later ones may say more."""
    if isinstance(known, dict):
        assert known.keys() <= found.keys()
        return {key: less(found[key], value) for key, value in known.items()}
    if isinstance(known, list) and known and isinstance(known[0], dict | list):
        assert len(found) == len(known)
        return [less(one, other) for one, other in zip(found, known, strict=True)]
    return found


def test_a_comparison_says_the_same_numbers(earlier):
    (known,) = json.loads((earlier / "finished.json").read_text())
    (found,) = comparison(load_findings([earlier / "finished"]))
    for run in (known, found):
        del run["run"]
        for verdict in run["confirmation"]["verdicts"]:
            del verdict["run"]
    assert json.loads(json.dumps(less(found, known))) == known
    assert len(known["confirmation"]["verdicts"]) == 9


def test_the_live_page_reads_what_a_comparison_reads(earlier):
    followed = FollowedRun(earlier / "finished")
    assert followed.update()
    assert followed.problem is None
    loaded = load_run(earlier / "finished")
    assert followed.run.seed_runs.equals(loaded.seed_runs)
    assert followed.run.epochs.equals(loaded.epochs)


def test_the_page_shows_every_loss(earlier, tmp_path):
    from analysis.dashboard import write_report

    write_report(load_findings([earlier / "finished"]), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert all(name in text for name in ("AdaLoss - ArcFace", "gated ArcFace", "softmax"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    copy = Copy(tmp_path_factory.mktemp("project"))
    copy.add_tiny_model()
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(copy.folder / "results", filter="data")
    return copy


@pytest.mark.cluster
def test_an_interrupted_search_goes_on_from_its_checkpoint(project):
    folder = project.folder / "results" / "interrupted"
    before = LossRecords(folder / "arcface").read_epochs()
    done = project.run("tune/run_search.py", "--resume", "--max-concurrent", 1, "--name", "interrupted")
    assert (done.returncode, done.stderr) == (0, "")
    epochs = LossRecords(folder / "arcface").read_epochs()
    assert epochs[: len(before)] == before
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 41))
    (resumed,) = (e for e in LossRecords(folder / "arcface").read_events() if e["event"] == "resumed")
    assert resumed["epoch"] == len(before) == 1
    for loss in ("arcface", "adaloss"):
        (trial,) = optuna.load_study(study_name=f"digits-{loss}", storage=f"sqlite:///{folder}/study.db").trials
        assert trial.state == TrialState.COMPLETE
        assert (folder / f"best_{loss}.pt").exists()


@pytest.mark.cluster
def test_a_finished_run_is_extended_and_confirmed_further(project):
    folder = project.folder / "results" / "finished"
    trials = {loss: LossRecords(folder / loss).read_epochs() for loss in ("arcface", "adaloss", "softmax")}
    confirmed = (folder / "confirm.jsonl").read_bytes()
    done = project.run(
        "tune/run_search.py", "--extend", 1, "--confirm-seeds", 3, "--max-concurrent", 1, "--name", "finished"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "confirm.jsonl").read_bytes().startswith(confirmed)
    for loss, epochs in trials.items():
        assert LossRecords(folder / loss).read_epochs()[: len(epochs)] == epochs
        storage = f"sqlite:///{folder}/study.db"
        assert len(optuna.load_study(study_name=f"digits-{loss}", storage=storage).trials) == 4
    run = load_run(folder)
    assert {loss: len(run.accuracies("winner", loss)) for loss in run.losses} == dict.fromkeys(run.losses, 3)
    assert read_json(folder / "run.json")["confirmation"]["seeds"] == 3
    ids = [record["run_id"] for record in read_records(folder / "confirm.jsonl")]
    assert len(set(ids)) == len(ids)
