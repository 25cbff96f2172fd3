"""What losses are held against: as the run was planned, or as a reader asks for afterwards."""

import csv
import io
import json
from functools import partial

import pytest

from analysis import compare, dashboard
from analysis.findings import load_findings
from analysis.live.runs import Runs
from analysis.loading import load_run
from analysis.plots import PAGES
from tune.records import RecordError


@pytest.fixture
def command(called):
    """Runs compare with arguments and returns exit code, output and errors."""
    return partial(called, compare.main)


@pytest.fixture
def run(new_run):
    """Writes a run of three losses, planned with a reference, and returns its folder."""

    def write(reference=None, name="run", losses=("arcface", "adaloss", "softmax")):
        writer = new_run(name, losses)
        if reference is not None:
            writer.info["settings"]["reference"] = reference
            writer.rewrite()
        for loss, accuracy in zip(losses, (0.90, 0.92, 0.94), strict=False):
            writer.seed_runs("winner", loss, [accuracy + 0.001 * pair for pair in range(6)])
        return writer.folder

    return write


def pairs(folder, reference=None):
    (found,) = load_findings([folder], reference)
    return [f"{v.kind}: {v.first} - {v.second}" for v in found.verdicts]


def test_a_run_keeps_the_reference_that_it_was_planned_with(run):
    assert pairs(run("softmax")) == ["primary: adaloss - softmax", "primary: arcface - softmax"]
    assert load_run(run("adaloss", "other")).reference == "adaloss"


@pytest.mark.parametrize("reference", [None, "arcface"])
def test_a_run_of_an_earlier_version_is_held_against_arcface(run, reference):
    assert pairs(run(reference)) == [
        "primary: adaloss - arcface",
        "baseline: adaloss - softmax",
        "baseline: arcface - softmax",
    ]


@pytest.mark.parametrize("reference", ["nosuch", 3, ["arcface"]])
def test_a_reference_that_is_none_of_the_losses_is_a_damaged_file(run, reference):
    with pytest.raises(RecordError, match=r"run\.json.*reference.*damaged or edited"):
        load_run(run(reference))


def test_another_reference_may_be_asked_for_and_is_said_in_every_form(run, command):
    folder = run()
    caveat = "The reference was changed to softmax after the run was planned with ArcFace"
    code, text, _ = command(folder, "--reference", "softmax")
    assert code == 0
    assert "AdaLoss - softmax = -2.00 pp" in text.partition("Verdict on digits")[2]
    assert "AdaLoss - ArcFace" not in text.partition("Verdict on digits")[2].partition("AdaLoss and ArcFace;")[0]
    assert caveat in " ".join(text.split())
    assert caveat in " ".join(command("--markdown", folder, "--reference", "softmax")[1].split())
    (entry,) = json.loads(command("--json", folder, "--reference", "softmax")[1])
    assert (entry["reference"], entry["planned_reference"]) == ("softmax", "arcface")
    assert any(caveat in said for said in entry["confirmation"]["caveats"])
    rows = list(csv.DictReader(io.StringIO(command("--csv", folder, "--reference", "softmax")[1])))
    assert [(row["subject"], row["value"]) for row in rows if row["about"] == "reference"] == [("softmax", "arcface")]


def test_the_reference_that_it_was_planned_with_may_be_named(run, command):
    folder = run()
    for option in ((), ("--json",), ("--csv",), ("--markdown",)):
        assert command(*option, folder, "--reference", "arcface") == command(*option, folder)


def test_the_published_claim_is_adalosss_whatever_the_reference(run):
    (planned,), (changed,) = load_findings([run()]), load_findings([run(name="b")], "softmax")
    assert planned.claims == changed.claims
    assert planned.claims[0].adaloss == pytest.approx(0.9225)


def test_a_reference_that_a_run_does_not_have_is_said_in_one_line(run, command, called, tmp_path):
    folder = run()
    for end in (
        command(folder, "--reference", "cosface"),
        called(dashboard.main, folder, "--html", tmp_path / "page.html", "--reference", "cosface"),
    ):
        code, out, err = end
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"--reference cosface: {folder} has arcface, adaloss, softmax; choose one of them" in err


def test_the_pages_have_the_reference_that_is_asked_for(run, called, tmp_path):
    folder, target = run(), tmp_path / "page.html"
    assert called(dashboard.main, folder, "--html", target, "--reference", "adaloss")[0] == 0
    assert "ArcFace - AdaLoss = -2.00 pp" in target.read_text()
    assert "The reference was changed to AdaLoss" in target.read_text()
    look = Runs([folder], 0, "adaloss").look(PAGES[0])
    assert "ArcFace - AdaLoss = -2.00 pp" in str(look.blocks[0].component)
    assert look.problems == []


def test_the_live_page_leaves_runs_alone_that_do_not_have_the_reference(run):
    folders = [run(), run(name="other", losses=("arcface", "adaloss"))]
    look = Runs(folders, 0, "softmax").look(PAGES[0])
    assert "AdaLoss - softmax = -2.00 pp" in str(look.blocks[0].component)
    assert "AdaLoss - ArcFace = +2.00 pp" in str(look.blocks[0].component)
    assert "other: --reference softmax is none of its losses (arcface, adaloss)" in str(look.problems)


def test_runs_without_a_primary_comparison_end_in_the_list_of_verdicts_too(run, command):
    folders = [run(), run(name="other", losses=("arcface", "softmax"))]
    code, text, _ = command(*folders)
    assert code == 0
    ending = text.partition("All verdicts")[2]
    assert "digits: AdaLoss - ArcFace = +2.00 pp" in ending
    assert "digits: ArcFace - softmax = -2.00 pp" in ending
