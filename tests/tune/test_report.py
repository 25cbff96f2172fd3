"""The last lines of a run: where everything is, and commands for what comes next."""

import io
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

import analysis.compare
import analysis.dashboard
import analysis.findings
from tests.tune.told import no_findings
from tune import report

FOLDER = Path("my runs/one")


def verdict(decision, needed, pairs=6):
    return SimpleNamespace(decision=decision, seeds_needed=needed, pairs=tuple(range(pairs)))


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Reports on a run in which some files lie, and returns the lines below the verdict."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_search.py"])
    FOLDER.mkdir(parents=True)

    def run(*files, accuracies=("some",), verdicts=(), losses=("arcface", "softmax"), console=None):
        for file in files:
            (FOLDER / file).touch()

        def found(folders):
            (one,) = no_findings(folders)
            one.run.losses, one.accuracies, one.main_verdicts = losses, accuracies, verdicts
            return [one]

        monkeypatch.setattr(analysis.findings, "load_findings", found)
        monkeypatch.setattr(analysis.compare, "summary_text", lambda found, width: f"verdict {width}")
        monkeypatch.setattr(analysis.dashboard, "write_report", lambda found, page: None)
        console = console or Console(file=io.StringIO(), force_terminal=False, width=20)
        report.report(FOLDER, console)
        return console.file.getvalue().splitlines()

    return run


def commands(lines):
    """The commands below "next:", each with what it is for."""
    below = lines[lines.index("next:") + 1 :]
    return {
        purpose.strip().rstrip(":"): shlex.split(line)[-3:]
        for purpose, line in zip(below[::2], below[1::2], strict=True)
    }


def test_where_page_weights_and_records_are(told):
    lines = told("winner_softmax.pt", "winner_arcface.pt", "best_softmax.pt", "best_arcface.pt")
    assert lines[:6] == [
        "verdict 110",
        "",
        "page: my runs/one/report.html",
        "weights: my runs/one/winner_arcface.pt, my runs/one/winner_softmax.pt",
        "records: my runs/one",
        "",
    ]


@pytest.mark.parametrize(("files", "kept"), [((), []), (("best_softmax.pt",), ["my runs/one/best_softmax.pt"])])
def test_a_search_alone_has_the_weights_of_its_best_trials_if_any(told, files, kept):
    lines = told(*files)
    assert [line for line in lines if line.startswith("weights")] == [f"weights: {path}" for path in kept]


def test_after_a_search_alone_comes_the_confirmation(told):
    steps = commands(told(accuracies=()))
    first = next(iter(steps))
    assert first == "hold the tuned losses against each other, on fresh seeds and the test split"
    assert steps[first][-2:] == ["confirm", "my runs/one"]
    assert len(steps) == 3


def test_where_there_is_no_decision_more_seeds_are_advised(told):
    steps = commands(told(verdicts=(verdict("better", None), verdict("inconclusive", 23))))
    assert next(iter(steps.values())) == ["my runs/one", "--confirm-seeds", "23"]


def test_after_a_decision_there_is_what_can_be_looked_at(told):
    steps = commands(told(verdicts=(verdict("equivalent", None),)))
    assert [words[-2:] for words in steps.values()] == [["compare", "my runs/one"], ["dashboard", "my runs/one"]]


@pytest.mark.parametrize(("columns", "width"), [(50, 50), (300, 110)])
def test_a_terminal_is_filled_and_a_very_wide_one_not(told, columns, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    assert any(line.endswith(f"verdict {width}") for line in told(console=console))
