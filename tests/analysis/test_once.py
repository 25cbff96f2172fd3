"""What runs show is computed once for all that is made of it."""

import io
import sys
from functools import wraps

import pytest
from rich.console import Console

import analysis.findings
from analysis import compare, dashboard
from analysis.live.runs import Runs
from analysis.plots import PAGES
from tune import report


@pytest.fixture
def calls(monkeypatch):
    """The calls of `comparisons`, from wherever in the analysis."""
    original, seen = analysis.findings.comparisons, []

    @wraps(original)
    def counted(run):
        seen.append([run.folder])
        return original(run)

    for name, module in list(sys.modules.items()):
        if name.startswith("analysis.") and getattr(module, "comparisons", None) is original:
            monkeypatch.setattr(module, "comparisons", counted)
    return seen


@pytest.fixture
def folder(new_run):
    run = new_run("run", ("arcface", "adaloss", "softmax"))
    for loss in ("arcface", "adaloss", "softmax"):
        run.trial(loss, 0, [0.5, 0.6])
        run.seed_runs("winner", loss, [0.9] * 6)
    run.seed_runs("control", "gated", [0.9] * 6)
    return run.folder


def test_text_and_page_at_the_end_of_a_command(folder, calls):
    screen = io.StringIO()
    report.report(folder, Console(file=screen))
    assert calls == [[folder]]
    assert "Verdict on digits" in screen.getvalue()
    assert "AdaLoss - ArcFace = +0.00 pp" in (folder / "report.html").read_text()


@pytest.mark.parametrize("option", ["", "--json", "--markdown", "--csv"])
def test_a_comparison(folder, calls, called, option):
    assert called(compare.main, folder, *filter(None, [option]))[0] == 0
    assert calls == [[folder]]


def test_a_page(folder, calls, called, tmp_path):
    assert called(dashboard.main, folder, "--html", tmp_path / "page.html")[0] == 0
    assert calls == [[folder]]


def test_the_live_page_once_for_each_change(folder, calls):
    runs = Runs([folder], interval_s=0)
    for _ in range(2):
        for page in PAGES:
            runs.look(page)
    assert calls == [[folder]]
    with (folder / "confirm.jsonl").open("a") as file:
        file.write((folder / "confirm.jsonl").read_text().splitlines()[0].replace('"pair": 0', '"pair": 6') + "\n")
    for page in PAGES:
        runs.look(page)
    assert calls == [[folder], [folder]]
