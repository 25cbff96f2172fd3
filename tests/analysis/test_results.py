"""The command that writes results into a README; and the README of this project, which says what the records say."""

import shutil

import numpy as np
import pytest
from PIL import Image

from analysis import compare, dashboard
from analysis import results as command
from analysis.arms import ARMS
from analysis.findings import load_findings
from analysis.plots.files import fingerprint_of
from analysis.plots.results import fingerprint
from analysis.publish import publish
from analysis.results import BEGIN, END, THEMES, block_in, picture_file, results_block, with_block
from tests.analysis.browser import browser_path
from tests.test_project import PROJECT

PUBLISHED = PROJECT / "analysis" / "published"
README = PROJECT / "README.md"


def made_of(runs, readme):
    """The results of published runs, and their pictures."""
    return results_block(load_findings(runs), runs[0].parent, readme.parent)


def differences(readme, published, make=made_of):
    """How a README with results differs from what its published runs make, each a sentence; none is as it should be."""
    text = readme.read_text()
    runs = sorted(path.parent for path in published.glob("*/run.json"))
    marks = [mark for mark in (BEGIN, END) if mark in text]
    pictures = {path.name for path in published.glob("results-*.png")}
    if not runs:
        return [f"{what}, and no run is published" for what in (*marks, *sorted(pictures))]
    if block_in(text) is None:
        return ["runs are published, and the README has no results"]
    block, drawn = make(runs, readme)
    found = [] if block_in(text) == block else ["the README says something else than the records"]
    expected = {picture_file(picture, theme): picture for picture in drawn for theme in THEMES}
    found += [f"{name}: of nothing that is on record" for name in sorted(pictures - expected.keys())]
    for name, picture in expected.items():
        if name not in pictures:
            found.append(f"{name}: missing")
        elif fingerprint_of(published / name) != fingerprint(picture.figure):
            found.append(f"{name}: shows something else than the records")
    return found


# --- This project ----------------------------------------------------------------------------------------------------


def test_the_readme_says_what_the_published_records_say():
    """Where this fails: python analysis/results.py analysis/published/* --readme README.md --pictures."""
    assert differences(README, PUBLISHED) == []


def test_commands_read_the_published_records_by_their_shortest_pattern(called, tmp_path):
    paths = sorted(path for path in PUBLISHED.glob("*") if not path.name.startswith("."))
    assert PUBLISHED / "PLAN.md" in paths
    if any(path.is_dir() for path in paths):
        assert called(compare.main, *paths)[0] == 0
        assert called(dashboard.main, *paths, "--html", tmp_path / "page.html")[0] == 0


# --- A study like it -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(made_once, example_run):
    """A project with a README and published runs of invented numbers, its results written, without pictures."""

    def make(folder):
        published = folder / "analysis" / "published"
        publish(example_run(dataset="mnist", robustness=12), published / "mnist")
        publish(example_run(dataset="cifar10", controls=False), published / "cifar10")
        (published / "PLAN.md").write_text("the plan")
        (folder / "README.md").write_text(f"# Project\n\n{BEGIN}\n{END}\n\nMore.\n")
        block, _ = results_block(load_findings([published / "mnist", published / "cifar10"]), published, folder)
        text = with_block((folder / "README.md").read_text(), block, folder / "README.md")
        (folder / "README.md").write_text(text)

    return made_once("a project with results", make)


@pytest.fixture
def project(written, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(written, tmp_path / "project")


def runs_of(project):
    return [project / "analysis" / "published" / name for name in ("mnist", "cifar10")]


def test_the_command_prints_the_results_and_writes_them_between_the_marks(called, project, monkeypatch):
    monkeypatch.chdir(project)
    before = (project / "README.md").read_text()
    code, out, err = called(command.main, *(f"analysis/published/{name}" for name in ("mnist", "cifar10")))
    assert (code, err) == (0, "")
    assert out == block_in(before) + "\n"
    (project / "README.md").write_text(f"# Project\n\n{BEGIN}\nold\n{END}\n\nMore.\n")
    everything = [path.relative_to(project) for path in sorted((project / "analysis" / "published").glob("*"))]
    code, out, err = called(command.main, *everything, "--readme", "README.md")
    assert (code, out) == (0, "results: README.md\n")
    assert err == "passed over, since runs are folders: analysis/published/PLAN.md\n"
    assert (project / "README.md").read_text() == before
    assert before.startswith("# Project\n\n")
    assert before.endswith("\n\nMore.\n")
    assert 'src="analysis/published/results-accuracy-light.png"' in before


def test_other_commands_take_the_same_pattern(called, project, tmp_path):
    everything = sorted((project / "analysis" / "published").glob("*"))
    code, out, err = called(compare.main, *everything)
    assert (code, err) == (0, f"passed over, since runs are folders: {everything[0]}\n")
    assert "Verdict on mnist" in out
    assert called(dashboard.main, *everything, "--html", tmp_path / "page.html")[0] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "README.md: cannot be read"),
        ("# Nothing\n", "needs the lines"),
        (f"{BEGIN}\n", "needs the lines"),
        (f"{END}\n{BEGIN}\n", "needs the lines"),
        (f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n", "once each"),
    ],
)
def test_a_readme_without_its_marks_is_said_in_one_line(called, project, text, says):
    readme = project / "README.md"
    readme.unlink() if text is None else readme.write_text(text)
    code, out, err = called(command.main, *runs_of(project), "--readme", readme)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert (readme.read_text() if readme.exists() else None) == text


def test_two_runs_of_a_data_set_are_said_in_one_line(called, project):
    mnist, _ = runs_of(project)
    code, out, err = called(command.main, mnist, shutil.copytree(mnist, mnist.with_name("again")))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "mnist: 2 runs with 6 paired seeds or more" in err


# --- What the test of this project would see -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anew(written):
    """The results of the two runs, made once: every copy has the same."""
    made = made_of(runs_of(written), written / "README.md")
    return lambda runs, readme: made


def without_pictures(found):
    return [problem for problem in found if not problem.endswith("png: missing")]


def test_a_readme_that_fits_is_fine_but_for_its_pictures(project, anew):
    found = differences(project / "README.md", project / "analysis" / "published", anew)
    assert len(found) == 2 * 5
    assert without_pictures(found) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("better", "worse"), ("99.11 %", "99.12 %"), ("ArcFace", "Arcface"), ("results-margins", "margins")],
)
def test_a_number_or_a_word_that_is_not_of_the_records_is_seen(project, anew, old, new):
    readme = project / "README.md"
    text = readme.read_text()
    assert old in block_in(text)
    readme.write_text(text.replace(old, new, 1))
    found = differences(readme, project / "analysis" / "published", anew)
    assert without_pictures(found) == ["the README says something else than the records"]


def test_a_run_that_came_or_went_is_seen(project):
    published = project / "analysis" / "published"
    shutil.rmtree(published / "cifar10")
    found = without_pictures(differences(project / "README.md", published))
    assert found == ["the README says something else than the records"]
    shutil.rmtree(published / "mnist")
    assert len(differences(project / "README.md", published)) == 2
    (project / "README.md").write_text("# Project\n")
    assert differences(project / "README.md", published) == []


def test_runs_without_results_are_seen(project):
    (project / "README.md").write_text(f"# Project\n{BEGIN}\n")
    found = differences(project / "README.md", project / "analysis" / "published")
    assert found == ["runs are published, and the README has no results"]


# --- Pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_are_files_that_tell_of_which_records_they_are(called, project, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", browser_path())
    published, readme = project / "analysis" / "published", project / "README.md"
    code, _, err = called(command.main, *runs_of(project), "--readme", readme, "--pictures")
    assert code == 0
    assert f"10 pictures: {published}" in err
    assert differences(readme, published) == []
    with Image.open(published / "results-curves-light.png") as image:
        assert image.width == 2 * 700
        colours = np.array(image.convert("RGB"), dtype=int).reshape(-1, 3)
    for loss in ("arcface", "adaloss", "softmax"):
        drawn = np.array([int(ARMS[loss].look.colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(colours - drawn).max(axis=1) < 16).sum() > 500
    sizes = [path.stat().st_size for path in published.glob("*.png")]
    assert sum(sizes) < 1_000_000
    shutil.copy(published / "results-margins-light.png", published / "results-curves-light.png")
    shutil.copy(published / "results-margins-light.png", published / "results-other-light.png")
    assert differences(readme, published) == [
        "results-other-light.png: of nothing that is on record",
        "results-curves-light.png: shows something else than the records",
    ]
