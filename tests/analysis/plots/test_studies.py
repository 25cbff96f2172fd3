"""The Optuna study as pictures: read without harm, and drawn as it is."""

import json
import os
import shutil
import sqlite3

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from analysis.findings import load_findings
from analysis.loading import load_run
from analysis.plots import PAGES, studies
from analysis.plots.studies import LossTrials, StudyError, drawn, importance, judged, place, read_trials

SPACE = {
    "learning_rate": FloatDistribution(0.01, 1.0, log=True),
    "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
    "label_smoothing": CategoricalDistribution((0.0, 0.1)),
}


@pytest.fixture(autouse=True)
def nothing_remembered():
    studies._studies.cache_clear()
    yield
    studies._studies.cache_clear()


@pytest.fixture
def folder(example_run, tmp_path):
    """A run with a study that a test may change."""
    return shutil.copytree(example_run(seeds=0, study=True), tmp_path / "run")


def trial(number, value=0.9, state=TrialState.COMPLETE, early=None, **params):
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        params=params,
        distributions={name: SPACE[name] for name in params},
        intermediate_values={} if early is None else {1: early},
        user_attrs={"number": number},
    )


def numbered(trials):
    for number, item in enumerate(trials):
        item.number = number
    return LossTrials(tuple(trials))


def test_a_loss_whose_name_ends_like_anothers_keeps_its_own_study(folder):
    """The run says which study is whose; by their endings alone a study of `other-arcface` would be ArcFace's."""
    run_file = folder / "run.json"
    run = json.loads(run_file.read_text())
    dataset = run["dataset"]["name"]
    optuna.create_study(study_name=f"{dataset}-other-arcface", storage=f"sqlite:///{folder}/study.db")
    run["studies"] = {loss: f"{dataset}-{loss}" for loss in run["settings"]["losses"]}
    run_file.write_text(json.dumps(run))
    assert len(read_trials(load_run(folder))["arcface"].trials) > 0


def parameters_sheet(folder):
    return next(page for page in PAGES if page.key == "parameters").build(load_findings([folder]))


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_trials_are_those_of_the_records(folder):
    run = load_run(folder)
    found = read_trials(run)
    assert list(found) == run.losses
    states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
    for loss, trials in found.items():
        recorded = run.trials[run.trials["loss"] == loss].set_index("trial_id")
        for item in trials.trials:
            row = recorded.loc[item.user_attrs["trial_id"]]
            assert states[item.state] == row["state"]
            assert item.params["learning_rate"] == row["config"]["learning_rate"]


def test_the_database_stays_as_it_was(folder):
    path = folder / "study.db"
    path.chmod(0o444)
    os.utime(path, ns=(10**18, 10**18))
    content, files = path.read_bytes(), sorted(folder.iterdir())
    assert parameters_sheet(folder).pictures
    assert path.read_bytes() == content
    assert path.stat().st_mtime_ns == 10**18
    assert sorted(folder.iterdir()) == files


def test_a_writer_is_not_kept_waiting_and_a_lock_keeps_no_reader_waiting(folder):
    with sqlite3.connect(folder / "study.db", timeout=0) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert read_trials(load_run(folder))
        connection.execute("COMMIT")


def test_a_file_that_is_written_to_is_not_read(folder):
    (folder / "study.db-journal").write_bytes(b"a transaction in the making")
    with pytest.raises(StudyError, match="written to"):
        read_trials(load_run(folder))
    sheet = parameters_sheet(folder)
    assert not sheet.pictures
    assert sheet.notes == ("Hyperparameters on cifar10: study.db was being written to.",)
    (folder / "study.db-journal").unlink()
    assert parameters_sheet(folder).pictures


@pytest.mark.parametrize("content", [b"", b"this is no database", None])
def test_a_study_that_is_gone_or_damaged_is_said(folder, content):
    path = folder / "study.db"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    sheet = parameters_sheet(folder)
    assert not sheet.pictures
    (note,) = sheet.notes
    assert ("missing" in note) == (content is None)


def test_a_torn_study_is_said(folder):
    path = folder / "study.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in parameters_sheet(folder).notes[0]


def test_the_study_is_read_again_when_another_trial_has_ended(new_run, folder):
    writer = new_run("growing", losses=("arcface",))
    shutil.copy(folder / "study.db", writer.folder)
    writer.trial("arcface", 0, [0.5])
    first = read_trials(load_run(writer.folder))["arcface"]
    assert read_trials(load_run(writer.folder))["arcface"] is first
    writer.trial("arcface", 1, [0.5])
    assert read_trials(load_run(writer.folder))["arcface"] is not first


# --- Importance ------------------------------------------------------------------------------------------------------


def many(count=60, seed=0):
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        rate = float(10 ** rng.uniform(-2, 0))
        value = 0.9 - 0.3 * abs(np.log10(rate / 0.1)) + float(rng.normal(0, 0.003))
        decay = float(10 ** rng.uniform(-5, -2))
        smoothing = float(rng.choice([0.0, 0.1]))
        trials.append(
            trial(number, value, early=value, learning_rate=rate, weight_decay=decay, label_smoothing=smoothing)
        )
    return numbered(trials)


def test_what_decides_alone_is_the_most_important_and_shares_sum_to_one():
    shares = importance(many(), None, 0.1)
    assert set(shares) == set(SPACE)
    assert shares["learning_rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)


def test_importance_is_repeatable_and_silent(capfd):
    trials = many()
    before = optuna.logging.get_verbosity()
    assert importance(trials, None, 0.1) == importance(LossTrials(trials.trials), None, 0.1)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_trials_have_no_importance(count):
    assert importance(many(count), None, 0.1) is None


def test_equal_accuracies_or_equal_values_have_no_importance():
    rates = [0.01 * (n + 1) for n in range(20)]
    assert importance(numbered([trial(n, 0.5, learning_rate=r) for n, r in enumerate(rates)]), None, 0.1) is None
    assert importance(numbered([trial(n, n / 20, learning_rate=0.1) for n in range(20)]), None, 0.1) is None


def test_a_parameter_that_not_every_trial_has_is_left_out():
    trials = list(many().trials)
    trials[3] = trial(3, 0.4, early=0.4, learning_rate=0.2, weight_decay=0.001)
    assert "label_smoothing" not in importance(numbered(trials), None, 0.1)


def test_trials_are_judged_by_the_epoch_or_by_the_end_and_broken_ones_at_chance():
    trials = numbered(
        [
            trial(0, 0.9, early=0.3, learning_rate=0.1),
            trial(1, state=TrialState.PRUNED, early=0.2, learning_rate=0.2),
            trial(2, state=TrialState.FAIL, learning_rate=0.9),
            trial(3, state=TrialState.FAIL, early=0.25, learning_rate=0.8),
            trial(4, state=TrialState.PRUNED, learning_rate=0.3),
        ]
    )
    assert judged(trials, 1, 0.1) == {0: 0.3, 1: 0.2, 2: 0.1, 3: 0.25}
    assert judged(trials, None, 0.1) == {0: 0.9}


# --- Pictures --------------------------------------------------------------------------------------------------------


def test_a_page_of_few_trials_says_what_importance_needs(example_run):
    sheet = parameters_sheet(example_run(seeds=0, trials=6, study=True))
    assert not [picture for picture in sheet.pictures if picture.key.startswith("importance")]
    assert len(sheet.notes) == 3
    assert "needs 10 trials with different accuracies; 6 have ended" in sheet.notes[0]
    assert len([picture for picture in sheet.pictures if picture.key.startswith("parallel")]) == 3


def test_slices_draw_every_trial_at_its_value_and_accuracy(folder):
    sheet = parameters_sheet(folder)
    (picture,) = (p for p in sheet.pictures if p.key == "slices-cifar10-arcface")
    trials = read_trials(load_run(folder))["arcface"].trials
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    trace = next(t for t in picture.figure.data if t.name == "finished" and t.xaxis == "x")
    np.testing.assert_allclose(trace.x, [t.params["learning_rate"] for t in finished], atol=1e-6)
    np.testing.assert_allclose(trace.y, [100 - 100 * t.value for t in finished], atol=1e-3)
    failed = [t for t in picture.figure.data if t.name == "failed"]
    assert failed
    assert all(set(t.y) == {90.0} for t in failed)


def test_parallel_lines_pass_through_places_in_the_range(folder):
    sheet = parameters_sheet(folder)
    (picture,) = (p for p in sheet.pictures if p.key == "parallel-cifar10-softmax")
    trials = read_trials(load_run(folder))["softmax"].trials
    best = max((t for t in trials if t.state == TrialState.COMPLETE), key=lambda t: t.value)
    line = next(t for t in picture.figure.data if t.name.startswith("best tenth"))
    expected = [place(best.params[name], best.distributions[name]) for name in best.params]
    np.testing.assert_allclose(line.x[:-1], expected, atol=1e-6)
    assert len([a for a in picture.figure.layout.annotations if a.text]) == len(best.params)


def test_drawing_is_thinned_to_300_with_the_best_kept():
    rates = np.geomspace(0.01, 1.0, 900)
    trials = numbered(
        [
            trial(n, n / 900, TrialState.COMPLETE if n % 3 == 0 else TrialState.PRUNED, 0.2, learning_rate=float(rate))
            for n, rate in enumerate(rates)
        ]
    )
    chosen = drawn(trials)
    assert len(chosen) == 300
    finished = [t.number for t in chosen if t.state == TrialState.COMPLETE]
    assert set(range(810, 900, 3)) <= set(finished)
    assert len(finished) == 200
    few = many()
    assert drawn(few) == list(few.trials)


@given(st.floats(0.01, 1.0))
def test_places_are_shares_of_the_range(value):
    assert 0 <= place(value, FloatDistribution(0.01, 1.0, log=True)) <= 1
    assert place(0.1, FloatDistribution(0.01, 1.0, log=True)) == pytest.approx(0.5)
    assert place(value, FloatDistribution(0.0, 2.0)) == pytest.approx(value / 2)
    assert place(3, IntDistribution(1, 5)) == pytest.approx(0.5)
    assert place("b", CategoricalDistribution(("a", "b", "c"))) == pytest.approx(0.5)
    assert place(1.0, FloatDistribution(1.0, 1.0)) == 0.5
