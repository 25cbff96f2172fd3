import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.compare import comparison, comparison_text
from analysis.findings import load_findings
from tests.analysis.compare.conftest import strict

PROJECT = Path(__file__).parents[3]


def test_json_is_strict_and_is_the_comparison(command, full_run, new_run):
    other = new_run("other")
    other.trial("arcface", 0, [0.5, math.nan], "failed", error="diverged")
    code, out, err = command("--json", full_run.folder, other.folder)
    assert (code, err) == (0, "")
    assert strict(out) == comparison(load_findings([full_run.folder, other.folder]))


def test_the_command_prints_the_text(command, full_run):
    assert command(full_run.folder) == (0, comparison_text(load_findings([full_run.folder])) + "\n", "")


@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "damaged", "file"])
def test_what_is_no_run_is_said_in_one_line(command, kind, tmp_path, full_run):
    folder = tmp_path / kind
    if kind != "missing":
        folder.mkdir()
    if kind == "foreign":
        (folder / "run.json").write_text('{"name": "of something else"}')
    if kind == "damaged":
        (folder / "run.json").write_text('{"settings": ')
    if kind == "file":
        folder = full_run.folder / "run.json"
    code, out, err = command(full_run.folder, folder)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert str(folder) in err


def test_a_damaged_record_is_said_in_one_line(command, full_run):
    path = full_run.folder / "arcface" / "epochs.jsonl"
    path.write_text("{\n" + path.read_text())
    code, _, err = command(full_run.folder)
    assert code == 2
    assert f"{path}, line 1" in err


def test_without_a_run_the_command_says_what_is_missing(command):
    code, out, err = command()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "RUN" in err


def test_the_command_starts_anywhere_and_loads_neither_ray_nor_torch(full_run, tmp_path):
    program = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "import analysis.compare, analysis.loading\n"
        "heavy = {'ray', 'torch', 'torchvision', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", program, str(PROJECT / "analysis" / "compare.py"), str(full_run.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == comparison_text(load_findings([full_run.folder])) + "\n"


def test_a_run_given_twice_would_count_twice(command, full_run):
    code, out, err = command(full_run.folder, full_run.folder / ".." / full_run.folder.name)
    assert (code, out) == (2, "")
    assert "given twice" in err


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--json", "--markdown"), ("--csv", "--markdown", "--json")])
def test_one_form_at_a_time(command, full_run, options):
    code, out, err = command(*options, full_run.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exclude each other" in err


# --- What files may hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [{}, {"loss": 3, "loss_args": "none"}, {"loss_args": [1], "x": {"deep": [None]}}, {"x": math.nan}]
)
def test_a_configuration_may_hold_anything(command, new_run, config):
    run = new_run("run", ("arcface",))
    winner = json.dumps({"trial_id": "arcface-0000", "config": config})  # with NaN, which our writers replace
    (run.folder / "winner_arcface.json").write_text(winner)
    run.seed_runs("winner", "arcface", [0.9] * 2, config=config)
    run.event("arcface", 0, "started", config=config)
    run.epoch("arcface", 0, 1, 0.5)
    run.event("arcface", 0, "finished")
    for option in ((), ("--json",), ("--markdown",), ("--csv",)):
        code, out, err = command(*option, run.folder)
        assert (code, err) == (0, "")
        assert "arcface-0000" in out


def test_names_from_files_command_no_terminal(command, new_run):
    run = new_run("run", ("arcface", "adaloss"), dataset="\x1b[2Jdigits\nerror: none")
    run.trial("arcface", 0, [], "failed", error="\x1b[31mred\nlast\x07")
    run.seed_runs("winner", "arcface", [0.9] * 6)
    run.seed_runs("winner", "adaloss", [0.9] * 6)
    run.seed_runs("control", "\x1b]0;title\x07", [0.9] * 6)
    for option in ((), ("--markdown",)):
        code, out, _ = command(*option, run.folder)
        assert code == 0
        assert not [c for c in out if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r\n=1+1", " =1+1"])
def test_no_text_from_a_file_is_a_formula(command, new_run, name):
    """A spreadsheet computes what begins so; a quotation mark before it keeps it a text."""
    run = new_run("run", ("arcface", "adaloss"), dataset=name)
    run.trial("arcface", 0, [], "failed", error=name)
    run.seed_runs("winner", "arcface", [0.9] * 2, config={"loss": "arcface", "note": name})
    run.seed_runs("control", name, [0.9] * 2)
    code, out, _ = command("--csv", run.folder)
    assert code == 0
    rows = list(csv.reader(io.StringIO(out)))
    assert all(len(row) == 6 for row in rows)
    texts = [cell for row in rows for cell in row if not is_number(cell)]
    assert not [text for text in texts if text.lstrip().startswith(("=", "+", "-", "@"))]
    assert [text for text in texts if text.startswith("'") and text.endswith(name.strip())]


def is_number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


def test_an_error_that_quotes_a_file_commands_no_terminal(command, new_run):
    run = new_run("run", ("arcface", "\x1b[31m\x07evil"))
    code, out, err = command(run.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not [c for c in err if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize("loss", ["../../elsewhere", "/etc", "a/b", "..", ".", "a\0b", "\x1b[2J"])
def test_a_loss_that_is_no_name_leads_nowhere(command, new_run, loss):
    run = new_run("run", ("arcface",))
    path = run.folder / "run.json"
    info = json.loads(path.read_text())
    info["settings"]["losses"] = [loss]
    info["search_spaces"] = {loss: {"dimensions": 1}}
    path.write_text(json.dumps(info))
    code, out, err = command(run.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is no name of a loss" in err


def test_what_lies_beside_runs_is_passed_over_in_one_line(command, full_run, tmp_path):
    """`compare.py analysis/published/*` names the plan and the pictures too."""
    others = [tmp_path / name for name in ("PLAN.md", "margins-light.png", "page.html")]
    for path in others:
        path.write_text("text")
    code, out, err = command(others[0], full_run.folder, *others[1:])
    assert (code, out) == (0, comparison_text(load_findings([full_run.folder])) + "\n")
    assert err == f"passed over, since runs are folders: {others[0]} and 2 more\n"
    code, out, err = command(others[0])
    assert (code, out) == (2, "")
    assert err == f"error: {others[0]}: there is no such folder\n"
