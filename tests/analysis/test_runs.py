"""`analysis.load`: tables of which a notebook can be sure, with the numbers of the report."""

import csv
import io
import math
import subprocess
import sys
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analysis
from analysis.compare import comparison, comparison_csv, comparison_text
from analysis.findings import load_findings
from analysis.frames import FRAMES
from analysis.plots import PAGES
from analysis.runs import Runs
from tests.analysis.conftest import RunWriter
from tests.analysis.hostile import HOSTILE, write_hostile_run
from tests.test_earlier_runs import ARCHIVE
from tests.test_project import PROJECT
from tune.records import RecordError, write_json

# The interface: a change here breaks somebody's notebook, and belongs into the CHANGELOG.
MEASURED = (
    "epoch int64, val_accuracy float64, val_loss float64, train_accuracy float64, train_loss float64, "
    "margin_rad float64, margin_raw_rad float64, margin_per_class_rad object, difficulty float64, competence float64, "
    "scale float64, learning_rate float64, seconds float64, images_per_s float64"
)
SEED_RUN = "run_id string, role string, arm string, pair int64, seed int64, counted bool"
PAIR = "kind string, first string, second string"
KNOWN = {
    "search": "loss string, dimensions int64, trials int64, finished int64, stopped int64, failed int64, "
    "unfinished int64, epochs int64, seconds float64, best_trial_id string, best_val_accuracy float64, "
    "best_epochs Int64, best_config object, first_error string",
    "trials": "loss string, trial_id string, state string, epochs int64, val_accuracy float64, seconds float64, "
    "config object, error string",
    "epochs": f"loss string, trial_id string, {MEASURED}",
    "confirmation_runs": f"{SEED_RUN}, trial_id string, config object, epochs int64, seconds float64, "
    "accuracy float64, failed bool, val_accuracy float64, test_accuracy float64, test_loss float64, ece float64, "
    "mean_confidence float64, error string, "
    "time float64",
    "curves": f"{SEED_RUN}, {MEASURED}",
    "class_accuracies": f"{SEED_RUN}, class_index int64, class_name string, images int64, accuracy float64",
    "accuracies": "role string, arm string, seeds int64, failed int64, mean float64, sd float64, lowest float64, "
    "highest float64, validation float64",
    "verdict_table": f"{PAIR}, decision string, pairs int64, difference float64, sd float64, t_low float64, "
    "t_high float64, bca_low float64, bca_high float64, images_low float64, images_high float64, p float64, "
    "p_holm float64, family int64, superiority float64, superiority_low float64, superiority_high float64, "
    "correlation float64, first_accuracy float64, second_accuracy float64, bound float64, seeds_needed Int64, "
    "sentence string",
    "differences": f"{PAIR}, pair int64, difference float64",
    "statistics": "about string, subject string, quantity string, value float64, text string",
}
SMALL = {"dataset": "mnist", "seeds": 6, "trials": 6, "max_epochs": 4, "robustness": 3}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def folders(example_run):
    return [example_run(**SMALL), example_run(**{**SMALL, "dataset": "cifar10", "robustness": 0})]


@pytest.fixture(scope="module")
def both(folders):
    return analysis.load(*folders)


def declared(table):
    return ", ".join(f"{name} {dtype}" for name, dtype in table.dtypes.items())


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_the_tables_of_a_confirmed_run_are_the_interface(both):
    assert KNOWN.keys() == FRAMES.keys()
    for name, columns in KNOWN.items():
        table = getattr(both, name)
        assert declared(table) == f"run string, dataset string, {columns}", name
        assert len(table), name
        assert list(table["dataset"].unique()) == ["mnist", "cifar10"]


@pytest.mark.parametrize("kind", ["new", "begun", "search only", "interrupted", "earlier", "failed"])
def test_what_a_run_does_not_have_is_an_empty_table_or_cell_of_the_same_types(kind, new_run, earlier):
    if kind in {"interrupted", "earlier"}:
        folder = earlier / ("finished" if kind == "earlier" else kind)
    else:
        run = new_run()
        folder = run.folder
    if kind == "begun":
        run.trial("arcface", 0, [], None)
    if kind == "search only":
        run.trial("arcface", 0, [0.5, 0.75])
        run.trial("softmax", 0, [], "failed", error="Traceback\nValueError: no")
    if kind == "failed":
        run.seed_runs("winner", "arcface", [None, None])
    runs = analysis.load(folder)
    for name, columns in KNOWN.items():
        assert declared(getattr(runs, name)) == f"run string, dataset string, {columns}", name
    matrix = runs.correct_images()
    assert (matrix.shape, matrix.index.names, matrix.columns.name) == ((0, 0), ["arm", "pair"], "image")
    confirmed = kind in {"earlier", "failed"}
    assert [len(runs.confirmation_runs) > 0, len(runs.accuracies) > 0] == [confirmed, confirmed]
    assert repr(runs)
    assert runs._repr_html_()
    assert isinstance(dict(runs.figures), dict)


def test_what_is_missing_is_missing_and_what_is_there_is_there(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.75])
    run.trial("softmax", 0, [], "failed", error="Traceback\nValueError: no")
    runs = analysis.load(run.folder)
    finished, failed = runs.trials.to_dict("records")
    assert (finished["val_accuracy"], finished["epochs"], finished["seconds"]) == (0.75, 2, 4.0)
    assert finished["error"] is None
    assert (failed["state"], failed["error"]) == ("failed", "Traceback\nValueError: no")
    assert math.isnan(failed["val_accuracy"])
    assert runs.epochs["margin_per_class_rad"].tolist() == [None, None]
    assert runs.search["first_error"].tolist() == [pd.NA, "ValueError: no"]
    assert runs.search["best_epochs"].tolist() == [2, pd.NA]


def test_every_table_and_column_is_described():
    assert list(Runs.describe().index) == list(KNOWN)
    for name in KNOWN:
        assert isinstance(getattr(Runs, name).__doc__ or getattr(Runs, name).func.__doc__, str), name
        described = Runs.describe(name)
        assert ", ".join(f"{column} {dtype}" for column, dtype in described["dtype"].items()).endswith(KNOWN[name])
        assert described["meaning"].str.len().min() > 3
    with pytest.raises(KeyError, match="verdict_table"):
        Runs.describe("verdicts")


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_verdicts_are_those_of_a_comparison_of_the_same_runs_together(both, folders):
    plain = comparison(load_findings(folders))
    verdicts = [verdict for run in plain for verdict in run["confirmation"]["verdicts"]]
    rows = both.verdict_table.to_dict("records")
    assert len(rows) == len(verdicts) == len(both.verdicts) > 10
    for row, known, verdict in zip(rows, verdicts, both.verdicts, strict=True):
        for name in ("run", "kind", "first", "second", "decision", "p_holm", "family", "bound", "sentence"):
            assert row[name] == known[name] == getattr(verdict, name)
        result = known["result"]
        assert (row["pairs"], row["difference"], row["p"]) == (result["n"], result["mean"], result["p"])
        assert (row["t_low"], row["t_high"]) == (result["t_interval"]["low"], result["t_interval"]["high"])
        assert (row["bca_low"], row["bca_high"]) == (result["bca_interval"]["low"], result["bca_interval"]["high"])
        assert row["images_high"] == known["images_too"]["interval"]["high"]
        assert row["superiority"] == result["superiority"]["share"]
        assert row["superiority_low"] == result["superiority"]["interval"]["low"]
    assert set(both.verdict_table.query("kind == 'primary'")["family"]) == {2}  # Holm over both runs
    alone = analysis.load(folders[0]).verdict_table
    assert set(alone.query("kind == 'primary'")["family"]) == {1}


def test_a_difference_can_be_computed_anew_from_the_runs_of_the_confirmation(both):
    runs = both.confirmation_runs
    winners = runs[runs["counted"] & (runs["role"] == "winner") & (runs["dataset"] == "cifar10")]
    wide = winners.pivot(index="pair", columns="arm", values="test_accuracy")
    own = wide["adaloss"] - wide["arcface"]
    table = both.verdict_table
    (row,) = table[(table["dataset"] == "cifar10") & (table["kind"] == "primary")].to_dict("records")
    assert row["difference"] == pytest.approx(own.mean(), abs=1e-15)
    assert row["sd"] == pytest.approx(own.std(), abs=1e-15)
    pairs = both.differences.query("dataset == 'cifar10' and kind == 'primary'").set_index("pair")["difference"]
    assert pairs.tolist() == pytest.approx(own.tolist(), abs=1e-15)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 300)] * 3), min_size=2, max_size=8))
def test_any_accuracies_give_their_differences(tmp_path_factory, rights):
    arms = dict(zip(("arcface", "adaloss", "softmax"), np.array(rights).T / 300, strict=True))
    run = RunWriter(tmp_path_factory.mktemp("any") / "run", tuple(arms))
    for arm, values in arms.items():
        run.seed_runs("winner", arm, values.tolist())
    runs = analysis.load(run.folder)
    assert [len(runs.verdict_table), len(runs.differences)] == [3, 3 * len(rights)]
    for row in runs.verdict_table.to_dict("records"):
        difference = arms[row["first"]] - arms[row["second"]]
        assert row["difference"] == pytest.approx(difference.mean(), abs=1e-12)
        assert row["t_low"] - 1e-12 <= row["difference"] <= row["t_high"] + 1e-12
        own = runs.differences.query("first == @row['first'] and second == @row['second']")
        assert own["difference"].to_numpy() == pytest.approx(difference, abs=1e-12)


def test_images_and_classes_add_up_to_the_accuracies(both):
    for dataset in ("mnist", "cifar10"):
        runs = both.confirmation_runs.query("dataset == @dataset and role == 'winner'").set_index(["arm", "pair"])
        matrix = both.correct_images(run=dataset)
        assert matrix.dtypes.unique().tolist() == [bool]
        assert matrix.shape == (18, 10_000)
        assert matrix.mean(axis=1).to_dict() == runs["test_accuracy"].to_dict()
        classes = both.class_accuracies.query("dataset == @dataset and role == 'winner'")
        right = (classes["accuracy"] * classes["images"]).groupby([classes["arm"], classes["pair"]]).sum()
        assert (right / 10_000).to_dict() == pytest.approx(runs["test_accuracy"].to_dict())
        assert len(classes["class_name"].unique()) == 10
    assert both.correct_images("control", "mnist").index.get_level_values("arm").nunique() == 6


def test_curves_end_where_their_runs_do(both):
    candidates = both.confirmation_runs.query("role == 'candidate'").set_index(["dataset", "run_id"])
    last = both.curves.query("role == 'candidate'").groupby(["dataset", "run_id"]).last()
    assert last["epoch"].unique().tolist() == [4]
    assert last["val_accuracy"].to_dict() == pytest.approx(candidates["val_accuracy"].to_dict(), abs=0.02)
    assert both.curves.groupby(["run", "run_id"]).size().sum() == both.confirmation_runs["epochs"].sum()
    margins = both.curves.query("arm == 'adaloss' and role == 'winner'")["margin_rad"]
    assert margins.between(0, math.pi).all()


def test_statistics_are_the_csv_of_a_comparison(both, folders):
    known = list(csv.DictReader(io.StringIO(comparison_csv(load_findings(folders)))))
    rows = both.statistics.to_dict("records")
    assert len(rows) == len(known) > 500
    for row, line in zip(rows, known, strict=True):
        assert [row[key] for key in ("run", "about", "quantity")] == [line[key] for key in ("run", "about", "quantity")]
        if row["text"] is None:
            value = {"True": "1", "False": "0"}.get(line["value"], line["value"])
            assert row["value"] == float(value)
        else:
            assert math.isnan(row["value"])
            assert line["value"].removeprefix("'") == row["text"]


def test_runs_that_count_no_more_are_told_apart(new_run):
    run = new_run("run", ("adaloss", "arcface"))
    for number, accuracies in ((1, [0.5, 0.5]), (2, [0.9, 0.8])):
        for pair, accuracy in enumerate(accuracies):
            for role in ("winner", "candidate"):
                run_id = f"{role}-adaloss-{number:04d}-{pair}"
                run.seed_run(role, "adaloss", pair, accuracy, run_id=run_id, trial_id=f"adaloss-{number:04d}")
    run.seed_run("winner", "adaloss", 1, 0.7, run_id="again", trial_id="adaloss-0002")
    write_json(run.folder / "winner_adaloss.json", {"trial_id": "adaloss-0002", "config": {}})
    runs = analysis.load(run.folder)
    table = runs.confirmation_runs
    assert table[table["counted"] & (table["role"] == "winner")]["accuracy"].tolist() == [0.9, 0.7]
    assert table[table["role"] == "candidate"]["counted"].all()
    assert runs.accuracies["mean"].tolist() == [0.8]


def test_another_reference_is_held_against_the_others(folders):
    runs = analysis.load(folders[0], reference="softmax")
    assert set(runs.verdict_table.query("kind == 'primary'")["second"]) == {"softmax"}


# --- Pictures and text -----------------------------------------------------------------------------------------------


def test_the_pictures_are_those_of_the_pages(folders):
    runs = analysis.load(folders[0])
    drawn = {f"{page.key}/{p.key}": p.figure for page in PAGES for p in page.build(runs.findings).pictures}
    assert list(runs.figures) == list(drawn)
    assert len(runs.figures) == len(drawn) > 15
    for key in ("overview/overview-differences", "paired/differences-mnist"):
        assert runs.figures[key].to_json() == drawn[key].to_json()
    assert runs.page("search").notes is not None


def test_an_unknown_picture_is_answered_with_the_nearest(both):
    with pytest.raises(KeyError, match="did you mean overview/overview-differences"):
        both.figures["overview/overview-difference"]
    with pytest.raises(KeyError, match="no page; there are overview, "):
        both.page("nosuch")
    assert "nosuch/x" not in both.figures


def test_the_report_is_the_commands(both, folders):
    assert both.report() == comparison_text(load_findings(folders))


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.texts = set(), []

    def handle_starttag(self, tag, attrs):
        self.names.add((tag, *attrs))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_notebook_shows_the_verdict_and_no_text_of_a_run_as_more_than_text(tmp_path, both):
    shown = Elements()
    shown.feed(both._repr_html_())
    sentences = [verdict.sentence for verdict in both.verdicts if verdict.kind == "primary"]
    assert [text for text in shown.texts if text in sentences] == sentences
    assert all(sentence in repr(both) for sentence in sentences)

    hostile = analysis.load(write_hostile_run(tmp_path))
    shown = Elements()
    shown.feed(hostile._repr_html_())
    assert shown.names <= {("div",), ("p",), ("b",), ("ul",), ("li",), ("code",)}
    assert any("onerror=alert(5)" in text for text in shown.texts)
    assert "\x1b" not in repr(hostile)
    assert set(hostile.class_accuracies["class_name"]) == set(HOSTILE)  # data are as they are


# --- What is no run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "damaged", "file", "none", "twice", "reference"])
def test_what_cannot_be_loaded_is_one_clear_error(kind, tmp_path, new_run):
    folder, run = tmp_path / kind, new_run("good").folder
    if kind not in {"missing", "file"}:
        folder.mkdir()
    if kind == "foreign":
        (folder / "run.json").write_text('{"name": "of something else"}')
    if kind == "damaged":
        (folder / "run.json").write_text('{"settings": ')
    if kind == "file":
        folder.touch()
    arguments = {"none": [], "twice": [run, f"{run}/../good"], "reference": [run]}.get(kind, [run, folder])
    with pytest.raises(RecordError) as error:
        analysis.load(*arguments, **({"reference": "nosuch"} if kind == "reference" else {}))
    assert str(error.value).count("\n") == 0
    words = {"none": "results/NAME", "twice": "given twice", "reference": "nosuch"}
    assert words.get(kind, str(folder)) in str(error.value)


def test_one_of_several_runs_must_be_named(both, folders):
    for name in ("mnist", folders[0], str(folders[0])):
        assert both.correct_images(run=name).equals(analysis.load(folders[0]).correct_images())
    for name in (None, "digits"):
        with pytest.raises(RecordError, match="mnist"):
            both.correct_images(run=name)


def test_the_package_itself_loads_nothing_and_a_run_is_read_without_ray_and_torch(folders):
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(PROJECT)!r})
        import analysis
        before = {{"pandas", "numpy", "scipy", "plotly", "ray", "torch", "optuna"}} & set(sys.modules)
        from analysis import Runs, load
        import analysis.loading, analysis.runs
        assert load is analysis.load is analysis.runs.load and Runs is analysis.Runs
        assert "load" in dir(analysis) and not hasattr(analysis, "nosuch")
        runs = analysis.load({str(folders[0])!r})
        repr(runs), runs.trials
        print(before, {{"ray", "torch", "optuna", "plotly"}} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("set() set()\n", "")


def test_folders_may_be_texts_or_paths(folders):
    assert analysis.load(str(folders[0])).trials.equals(analysis.load(Path(folders[0])).trials)


def test_arms_that_were_tested_on_different_images_are_edited_records(new_run):
    run = new_run()
    for arm, images in (("arcface", 3), ("softmax", 4)):
        confusion = [[images] + [0] * 9, *[[0] * 10] * 9]
        run.seed_run("winner", arm, 0, 1.0, confusion=confusion, correct_bits="4A==")
    with pytest.raises(RecordError, match="arms were tested on different images"):
        analysis.load(run.folder).correct_images()
