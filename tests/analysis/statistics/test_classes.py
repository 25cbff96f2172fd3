"""The worst class and the calibration of an arm, from what is on record."""

import numpy as np
import pytest

from analysis.compare import comparison_csv, comparison_markdown, comparison_text
from analysis.findings import load_findings
from analysis.loading import load_run
from analysis.report.export import as_plain
from analysis.statistics.classes import classes_and_calibration

pytestmark = pytest.mark.usefixtures("no_warning")

BY_CLASS = [[0.9, 0.8, 1.0] + [0.95] * 7, [0.7, 0.85, 1.0] + [0.95] * 7, [0.95, 0.6, 1.0] + [0.95] * 7]


@pytest.fixture
def tested(new_run):
    """Writes three runs of ArcFace with accuracies by class, and changes to each record."""

    def write(changes=({}, {}, {}), by_class=BY_CLASS):
        run = new_run("run", ("arcface", "adaloss"))
        for pair, (row, change) in enumerate(zip(by_class, changes, strict=True)):
            run.seed_run("winner", "arcface", pair, 0.9, **{"class_accuracy": row, **change})
        return run.folder

    return write


def test_the_worst_class_is_by_mean_and_that_of_a_seed_by_seed(tested):
    found = classes_and_calibration(load_run(tested()), "winner", "arcface")
    assert found.worst_class == "1"
    assert found.worst_mean == pytest.approx((0.8 + 0.85 + 0.6) / 3)
    assert found.worst_of_seed == pytest.approx((0.8 + 0.7 + 0.6) / 3)
    assert found.worst_of_seed <= found.worst_mean
    assert found.gap == pytest.approx((0.2 + 0.3 + 0.4) / 3)
    assert (found.seeds, found.calibrated, found.ece, found.confidence) == (3, 0, None, None)


def test_calibration_is_the_mean_of_the_runs_that_recorded_it(tested):
    changes = ({"ece": 0.02, "mean_confidence": 0.9}, {"ece": 0.04, "mean_confidence": 0.8}, {"ece": None})
    found = classes_and_calibration(load_run(tested(changes)), "winner", "arcface")
    assert (found.calibrated, found.seeds) == (2, 3)
    assert found.ece == pytest.approx(0.03)
    assert found.confidence == pytest.approx(0.85)


@pytest.mark.parametrize(("without", "worst"), [(0, "1"), (1, "0")])
def test_a_class_without_images_is_left_out(tested, without, worst):
    by_class = [[None if place == without else a for place, a in enumerate(row)] for row in BY_CLASS]
    assert classes_and_calibration(load_run(tested(by_class=by_class)), "winner", "arcface").worst_class == worst


def test_without_any_class_there_is_nothing_to_say(tested):
    assert classes_and_calibration(load_run(tested(by_class=[[None] * 10] * 3)), "winner", "arcface") is None


def test_runs_that_failed_and_arms_without_a_record_have_no_part(tested):
    run = load_run(tested(({}, {"error": "diverged"}, {})))
    found = classes_and_calibration(run, "winner", "arcface")
    assert found.seeds == 2
    assert found.worst_mean == pytest.approx(np.mean([0.8, 0.6]))
    assert classes_and_calibration(run, "winner", "adaloss") is None


def test_it_is_in_every_output(tested):
    changes = ({"ece": 0.02, "mean_confidence": 0.9},) * 3
    found = load_findings([tested(changes)])
    assert "best - worst, pp" in comparison_text(found)
    assert "| ArcFace | tuned | 1 | 75.00 % | 70.00 % | 30.00 | 2.00 | 90.00 % |" in comparison_markdown(found)
    (row,) = as_plain(found[0])["confirmation"]["classes"]
    assert (row["arm"], row["worst_class"], row["ece"]) == ("arcface", "1", pytest.approx(0.02))
    assert ",winner classes,arcface,worst_of_seed,0.7" in comparison_csv(found)


def test_a_run_of_an_earlier_version_has_its_worst_class_and_a_dash(tested):
    found = load_findings([tested()])
    assert "| ArcFace | tuned | 1 | 75.00 % | 70.00 % | 30.00 | - | - |" in comparison_markdown(found)
