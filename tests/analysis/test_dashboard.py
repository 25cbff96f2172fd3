"""The command: a page or pictures from whatever lies in a folder, or one line that says why not."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from analysis import dashboard
from analysis.dashboard import write_pictures, write_report
from analysis.findings import load_findings
from tests.analysis.browser import browser_path
from tune.records import RecordError

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def command(called):
    """Runs the command with arguments and returns exit code, output and errors."""
    return partial(called, dashboard.main)


@pytest.fixture
def small_run(new_run):
    """A search of two trials."""
    writer = new_run("small")
    writer.trial("arcface", 0, [0.5, 0.6, 0.7])
    writer.trial("softmax", 0, [0.5, 0.8])
    return writer.folder


def is_page(path):
    text = path.read_text()
    return text.startswith("<!doctype html>") and text.endswith("</html>\n")


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_is_written_and_named(command, small_run, tmp_path):
    target = tmp_path / "page.html"
    assert command(small_run, "--html", target) == (0, f"page: {target}\n", "")
    assert is_page(target)
    assert "digits" in target.read_text()


def test_several_runs_come_on_one_page(command, small_run, new_run, tmp_path):
    other = new_run("other", dataset="mnist")
    other.trial("arcface", 0, [0.5])
    code, _, _ = command(small_run, other.folder, "--html", tmp_path / "page.html")
    assert code == 0
    assert "<title>Losses compared: digits, mnist</title>" in (tmp_path / "page.html").read_text()


def test_a_report_replaces_the_earlier_one_and_leaves_nothing_else(small_run):
    target = small_run / "report.html"
    target.write_text("the earlier one")
    files = {path.name for path in small_run.iterdir()}
    write_report(load_findings([small_run]), target)
    assert is_page(target)
    assert {path.name for path in small_run.iterdir()} == files


def test_a_report_that_fails_leaves_the_earlier_one(small_run, monkeypatch):
    target = small_run / "report.html"
    target.write_text("the earlier one")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_report(load_findings([small_run]), target)
    assert target.read_text() == "the earlier one"
    assert not [path for path in small_run.iterdir() if path.name.endswith(".tmp")]


def test_the_command_runs_from_anywhere_as_a_program(small_run, tmp_path):
    target = tmp_path / "page.html"
    result = subprocess.run(
        [sys.executable, PROJECT / "analysis" / "dashboard.py", small_run, "--html", target],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert is_page(target)


# --- What can be shown is shown --------------------------------------------------------------------------------------


def test_a_run_without_a_trial_gives_a_page_of_notes(command, new_run, tmp_path):
    assert command(new_run().folder, "--html", tmp_path / "page.html")[0] == 0
    assert "no epoch has been recorded yet" in (tmp_path / "page.html").read_text()


def test_a_running_run_with_torn_lines_gives_a_page(command, example_run, tmp_path):
    folder = example_run(finished=False)
    assert not (folder / "confirm.jsonl").read_bytes().endswith(b"\n")
    assert command(folder, "--html", tmp_path / "page.html")[0] == 0
    assert "so far: what is said of them is provisional" in (tmp_path / "page.html").read_text()


def test_losses_with_unequal_seeds_give_a_page_that_says_so(command, new_run, tmp_path):
    writer = new_run(losses=("arcface", "adaloss"))
    writer.rewrite(confirmation={"seeds": 3})
    writer.seed_runs("winner", "arcface", [0.8, 0.81, 0.82])
    writer.seed_runs("winner", "adaloss", [0.9, 0.91])
    assert command(writer.folder, "--html", tmp_path / "page.html")[0] == 0
    assert "the 2 that both have are compared" in (tmp_path / "page.html").read_text()


# --- Bad input -------------------------------------------------------------------------------------------------------


def error_of(result):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_folders_that_hold_no_run(command, tmp_path):
    target = tmp_path / "page.html"
    assert "there is no such folder" in error_of(command(tmp_path / "nowhere", "--html", target))
    assert "run.json is missing" in error_of(command(tmp_path, "--html", target))
    (tmp_path / "run.json").write_text("{}")
    assert "not written by this program" in error_of(command(tmp_path, "--html", target))
    (tmp_path / "run.json").write_text('{"format": 1, "sett')
    assert "cannot be read" in error_of(command(tmp_path, "--html", target))
    assert not target.exists()


def test_a_damaged_record_is_named(command, small_run, tmp_path):
    path = small_run / "arcface" / "epochs.jsonl"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": "two"'))
    assert "epochs.jsonl, line 2" in error_of(command(small_run, "--html", tmp_path / "page.html"))


def test_the_same_run_twice(command, small_run, tmp_path):
    again = small_run.parent / "x" / ".." / small_run.name
    assert "given twice" in error_of(command(small_run, again, "--html", tmp_path / "page.html"))


@pytest.mark.parametrize("target", ["missing/page.html", "folder"])
def test_targets_that_cannot_be_written(command, small_run, tmp_path, target):
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in error_of(command(small_run, "--html", tmp_path / target))
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission(command, small_run, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in error_of(command(small_run, "--html", tmp_path / "locked" / "page.html"))


def test_no_run_at_all(command):
    assert "Missing argument" in error_of(command("--html", "page.html"))


def test_options_out_of_range(command, small_run):
    assert "--port" in error_of(command(small_run, "--port", 70000))
    assert "--interval" in error_of(command(small_run, "--interval", 0))


# --- The live page ---------------------------------------------------------------------------------------------------


def test_without_a_target_the_live_page_is_served(command, small_run, monkeypatch):
    served = []
    monkeypatch.setattr("analysis.live.server.serve", lambda folders, **options: served.append((folders, options)))
    assert command(small_run, "--port", 8051, "--interval", 1.5, "--allowed-host", "a.b") == (0, "", "")
    expected = {"host": "127.0.0.1", "port": 8051, "interval_s": 1.5, "allowed_hosts": ["a.b"], "reference": None}
    assert served == [([small_run], expected)]


# --- PNG files -------------------------------------------------------------------------------------------------------


def test_every_picture_becomes_a_png_file_of_its_size(command, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", browser_path())
    folder = tmp_path / "pictures"
    code, out, _ = command(small_run, "--png", folder)
    assert (code, out) == (0, f"7 pictures: {folder}\n")
    names = {path.name for path in folder.iterdir()}
    assert {"best-so-far-digits.png", "curves-digits-arcface.png", "rungs-digits.png", "timeline-digits.png"} <= names
    assert len(names) == 7
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20]) == 1600
        assert int.from_bytes(content[20:24]) >= 300


def test_without_a_browser_there_is_one_clear_line(command, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no browser"))
    assert "Chromium or Google Chrome" in error_of(command(small_run, "--png", tmp_path / "pictures"))


def test_a_browser_that_ends_at_once_is_said(command, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(shutil.which("false")))
    assert "BROWSER_PATH" in error_of(command(small_run, "--png", tmp_path / "pictures"))


def test_pictures_need_a_folder_that_can_be_made(small_run, tmp_path):
    with pytest.raises(RecordError, match="cannot be written"):
        write_pictures(load_findings([small_run]), tmp_path / "no" / "folder")
