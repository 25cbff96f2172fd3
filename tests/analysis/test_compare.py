import csv
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import compare
from analysis.compare import comparison, comparison_csv, comparison_markdown, comparison_text
from analysis.load import load_run
from analysis.verdict import verdicts
from tune.console import run_command

PROJECT = Path(__file__).parents[2]


def summary_of(run, loss="arcface"):
    (entry,) = comparison([run.folder])
    return next(summary for summary in entry["losses"] if summary["loss"] == loss)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with arguments and returns exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run_command(compare.main)
        return (end.value.code, *capsys.readouterr())

    return run


# --- The best --------------------------------------------------------------------------------------------------------


def test_the_best_has_the_highest_accuracy_in_its_last_epoch(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.99, 0.7])
    run.trial("arcface", 1, [0.5, 0.6, 0.8])
    best = summary_of(run)["best"]
    assert best == {
        "trial_id": "arcface-0001",
        "val_accuracy": 0.8,
        "epochs": 3,
        "config": {"loss": "arcface", "learning_rate": 1.1, "loss_args": {"scale": 8.0}},
    }


@pytest.mark.parametrize("ending", ["stopped", "failed", None])
def test_a_finished_trial_goes_before_a_higher_one_that_is_not(new_run, ending):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6, 0.7])
    run.trial("arcface", 1, [0.95], ending)
    assert summary_of(run)["best"]["trial_id"] == "arcface-0000"


def test_where_none_finished_a_stopped_one_is_the_best(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.6], "stopped")
    run.trial("arcface", 1, [0.9], "failed")
    run.trial("arcface", 2, [0.7], "stopped")
    assert summary_of(run)["best"]["trial_id"] == "arcface-0002"


@pytest.mark.parametrize("numbers", [(3, 1, 2), (1, 2, 3)])
def test_of_equals_the_one_tried_first_is_the_best(new_run, numbers):
    run = new_run()
    for number in numbers:
        run.trial("arcface", number, [0.8])
    assert summary_of(run)["best"]["trial_id"] == "arcface-0001"


@pytest.mark.parametrize("ending", ["failed", "finished", "stopped"])
def test_a_trial_that_diverged_is_never_the_best(new_run, ending):
    run = new_run()
    run.trial("arcface", 0, [0.9, math.nan], ending, error="diverged")
    assert summary_of(run)["best"] is None
    run.trial("arcface", 1, [0.1], "stopped")
    assert summary_of(run)["best"]["trial_id"] == "arcface-0001"


def test_without_a_trial_there_is_no_best(new_run):
    run = new_run()
    run.trial("softmax", 0, [0.5])
    assert summary_of(run)["best"] is None
    assert summary_of(run, "softmax")["best"]["trial_id"] == "softmax-0000"


# --- Counts ----------------------------------------------------------------------------------------------------------


def test_everything_is_counted(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.1, 0.2, 0.3], seconds=2.0)
    run.trial("arcface", 1, [0.1, 0.2, 0.3], seconds=0.5)
    run.trial("arcface", 2, [0.1], "stopped")
    run.trial("arcface", 3, [], "failed", error="Traceback\n  line\nValueError: the first\n")
    run.trial("arcface", 4, [0.1], "failed", error="the second")
    run.trial("arcface", 5, [0.1, 0.2], None)
    run.trial("softmax", 0, [0.5])
    summary = summary_of(run)
    assert {key: summary[key] for key in ("trials", "finished", "stopped", "failed", "unfinished")} == {
        "trials": 6,
        "finished": 2,
        "stopped": 1,
        "failed": 2,
        "unfinished": 1,
    }
    assert summary["epochs"] == 10
    assert summary["seconds"] == pytest.approx(6 + 1.5 + 2 + 2 + 4)
    assert summary["first_error"] == "ValueError: the first"
    assert summary["dimensions"] == 4


def test_an_epoch_that_was_run_again_after_a_resume_counts_once(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6], "interrupted")
    run.event("arcface", 0, "resumed", epoch=1)
    run.epoch("arcface", 0, 2, 0.61, seconds=3.0)
    run.event("arcface", 0, "finished")
    summary = summary_of(run)
    assert (summary["trials"], summary["finished"], summary["epochs"], summary["seconds"]) == (1, 1, 2, 5.0)
    assert summary["best"]["val_accuracy"] == 0.61


@pytest.mark.parametrize("error", ["", "  \n"])
def test_an_error_without_words_does_no_harm(new_run, error):
    run = new_run()
    run.trial("arcface", 0, [], "failed", error=error)
    assert summary_of(run)["first_error"] is None


# --- As text ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_run(new_run):
    run = new_run("full", ("arcface", "adaloss_per_class", "softmax"))
    run.trial("arcface", 0, [0.5, 0.6, 0.98765])
    run.trial("arcface", 1, [0.5], "stopped")
    run.trial("arcface", 2, [0.5], None)
    run.trial("adaloss_per_class", 0, [], "failed", error="Traceback\nRuntimeError: [out] of memory")
    return run


def test_the_table_has_a_row_for_every_loss_and_is_aligned(full_run):
    lines = comparison_text([full_run.folder]).splitlines()
    assert lines[0] == "digits, ArcFaceCNN: 4 trials per loss, at most 3 epochs"
    header, *rows = lines[2:6]
    assert [row.split()[0] for row in rows] == ["arcface", "adaloss_per_class", "softmax"]
    assert len({len(line) for line in (header, *rows)}) == 1
    for column in ("best val. acc.", "trial", "finished", "failed"):
        assert column in header
    # Numbers end where their headings end.
    end = header.index("best val. acc.") + len("best val. acc.")
    assert [row[:end].split()[1:] for row in rows] == [["98.77", "%"], ["-"], ["-"]]
    assert all(row[end : end + 2] == "  " for row in rows)
    assert "3 (1 unfinished)" in rows[0]


def test_the_best_configuration_and_the_first_error_are_named(full_run):
    text = comparison_text([full_run.folder])
    assert "best arcface: learning_rate 0.1, scale 8" in text
    assert "best softmax" not in text
    assert "adaloss_per_class: 1 failed; the first: RuntimeError: [out] of memory" in text


def test_a_selected_best_is_not_called_a_comparison(full_run):
    assert "not yet a comparison" in comparison_text([full_run.folder]).splitlines()[-1]


def test_a_run_on_a_part_of_the_data_is_marked(new_run):
    part, whole = new_run("part", partial=True), new_run("whole")
    assert comparison_text([part.folder]).startswith("digits, a part of it (100 training images), ArcFaceCNN")
    assert "part" not in comparison_text([whole.folder])
    assert [entry["partial"] for entry in comparison([part.folder, whole.folder])] == [True, False]


def test_several_runs_follow_each_other(new_run):
    first, second = new_run("one"), new_run("two", ("adaloss",))
    text = comparison_text([first.folder, second.folder])
    assert text == comparison_text([first.folder]) + "\n\n" + comparison_text([second.folder])


# --- Confirmed -------------------------------------------------------------------------------------------------------

EXAMPLES = {
    "whole": {"robustness": 8},
    "running": {"dataset": "mnist", "finished": False, "controls": False},
    "many losses": {
        "dataset": "digits",
        "seeds": 6,
        "losses": ("arcface", "adaloss", "softmax", "adaloss_per_class", "norm_softmax"),
        "robustness": 20,
    },
    "one seed": {"seeds": 1},
    "two losses": {"losses": ("arcface", "adaloss"), "controls": False},
    "no adaloss": {"losses": ("arcface", "softmax")},
    "alone": {"losses": ("arcface",)},
    "unknown data": {"dataset": "my_own"},
}


@pytest.fixture(params=EXAMPLES)
def example(request, example_run):
    return example_run(**EXAMPLES[request.param])


def test_every_example_fits_a_terminal(example):
    lines = comparison_text([example]).splitlines()
    assert max(map(len, lines)) <= 110
    assert not [line for line in lines if line != line.rstrip()]


def test_every_example_is_json_markdown_and_csv(command, example):
    code, out, err = command("--json", example)
    assert (code, err) == (0, "")
    assert strict(out) == comparison([example])
    assert command("--markdown", example) == (0, comparison_markdown([example]) + "\n", "")
    assert command("--csv", example) == (0, comparison_csv([example]) + "\n", "")


def test_the_text_ends_with_the_verdict_and_markdown_begins_with_it(example_run):
    folder = example_run(robustness=8)
    (primary, *_) = verdicts([load_run(folder)])
    assert primary.decision == "better"
    text, markdown = comparison_text([folder]), comparison_markdown([folder])
    headings = ["Test accuracy", "Convergence speed", "Robustness to tuning", "Budget", "Verdict on cifar10"]
    assert [line for line in text.splitlines() if line in headings] == headings
    assert primary.sentence in text.partition("Verdict on cifar10")[2]
    assert markdown.startswith("### Verdict on cifar10\n\n- AdaLoss - ArcFace = ")
    assert "not yet a comparison" not in text + markdown


def test_everything_that_the_protocol_asks_for_is_said(example_run):
    text = " ".join(comparison_text([example_run(robustness=8)]).split())
    for words in (
        "AdaLoss - softmax",
        "ArcFace - softmax",
        "AdaLoss - gated ArcFace",
        "AdaLoss does not beat",
        "70.00 % AdaLoss 3 of 3",
        "The published claim: AdaLoss 68.13 %, ArcFace 62.35 %, difference +5.78 pp",
        "at the published defaults: AdaLoss",
        "after tuning: AdaLoss",
        "both accuracies lie above the published ones",
        "Collapsed: at most 15.00 %",
        "Expected best of so many independent draws",
        "ArcFace 6 12 of 12",
        "controls - -",
        "chosen adaloss: adaloss-0000, learning_rate 0.2",
        "failed and count at chance: 1 of 34 (ArcFace)",
    ):
        assert words in text, words


def test_the_numbers_of_the_table_are_those_of_the_records(example_run):
    folder = example_run(robustness=8)
    accuracies = load_run(folder).accuracies("winner", "adaloss")
    (row,) = [
        line.split()
        for line in comparison_text([folder]).splitlines()
        if line.startswith("AdaLoss  ") and "tuned" in line
    ]
    expected = [f"{100 * value:.2f}" for value in (accuracies.mean(), accuracies.min(), accuracies.max())]
    assert [row[2], row[5], row[7]] == expected
    assert row[4] == f"{100 * accuracies.std():.2f}"


def test_a_confirmation_that_has_not_begun_leaves_the_search_as_it_was(full_run):
    before = comparison_text([full_run.folder]).splitlines()
    full_run.rewrite(confirmation={"seeds": 3, "history": []})
    full_run.seed_run("candidate", "arcface", 0, trial_id="arcface-0000")
    after = comparison_text([full_run.folder]).splitlines()
    assert [line for line in after if line not in before] == [
        "the confirmation has 1 runs behind it, none of them of a paired seed: there is no verdict yet"
    ]
    assert comparison([full_run.folder])[0]["confirmation"] is None


def test_random_draws_alone_are_shown_without_a_verdict(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    for arm in ("arcface", "adaloss", "gated"):
        run.seed_runs("robustness", arm, [0.1, 0.8, 0.85])
    text = comparison_text([run.folder])
    assert "Robustness to tuning" in text
    assert "no paired seed is finished: there is no verdict" in text


def test_several_runs_share_the_correction_and_end_in_one_list(example_run):
    folders = [example_run(robustness=8), example_run(**EXAMPLES["two losses"])]
    text = comparison_text(folders)
    ending = text.partition("All verdicts")[2]
    assert ending.count("cifar10: AdaLoss - ArcFace = ") == 2
    assert "Holm's correction over 2" in " ".join(text.split())
    entries = comparison(folders)
    assert [entry["confirmation"]["verdicts"][0]["family"] for entry in entries] == [2, 2]
    assert "All verdicts" not in comparison_text(folders[:1])


def test_csv_has_one_number_a_line(example_run):
    folder = example_run(robustness=8)
    rows = list(csv.DictReader(io.StringIO(comparison_csv([folder]))))
    values = {(row["about"], row["subject"], row["quantity"]): row["value"] for row in rows}
    assert len(values) == len(rows)
    (primary, *_) = verdicts([load_run(folder)])
    key = ("primary verdict", "adaloss - arcface")
    assert float(values[*key, "result.mean"]) == primary.result.mean
    assert float(values[*key, "p_holm"]) == primary.p_holm
    assert float(values[*key, "differences.3"]) == primary.differences[3]
    assert values[*key, "decision"] == "better"
    assert values["search", "arcface", "best.trial_id"] == "arcface-0000"
    assert {row["dataset"] for row in rows} == {"cifar10"}


# --- What is wrong with a confirmation -------------------------------------------------------------------------------


def test_a_run_given_twice_would_count_twice(command, full_run):
    code, out, err = command(full_run.folder, full_run.folder / ".." / full_run.folder.name)
    assert (code, out) == (2, "")
    assert "given twice" in err


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--json", "--markdown"), ("--csv", "--markdown", "--json")])
def test_one_form_at_a_time(command, full_run, options):
    code, out, err = command(*options, full_run.folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exclude each other" in err


def test_a_half_written_confirmation_is_shown_as_far_as_it_goes(command, new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_runs("winner", "arcface", [0.9, 0.91])
    run.seed_runs("winner", "adaloss", [0.92, 0.93])
    path = run.folder / "confirm.jsonl"
    path.write_text(path.read_text()[:-40])
    code, out, err = command(run.folder)
    assert (code, err) == (0, "")
    assert "AdaLoss has 1 seeds and ArcFace has 2 seeds; the 1 that both have are compared" in out
    assert "inconclusive (at least 6 seeds needed)" in " ".join(out.split())


def test_a_damaged_confirmation_is_said_in_one_line(command, example_run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(example_run(robustness=8), folder)
    path = folder / "confirm.jsonl"
    path.write_text('{"run_id": 1}\n' + path.read_text())
    code, out, err = command(folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{path}, line 1: 'run_id' is 1, not text" in err


def test_where_all_seeds_failed_that_is_said(command, new_run):
    run = new_run("run", ("arcface", "adaloss", "softmax"))
    for loss in ("arcface", "adaloss", "softmax"):
        run.seed_runs("winner", loss, [None] * 6)
    run.seed_runs("control", "gated", [None] * 6)
    code, out, err = command(run.folder)
    assert (code, err) == (0, "")
    out = " ".join(out.split())
    assert "inconclusive (every run failed)" in out
    assert "6 of 6 runs of ArcFace failed and count at chance, 10.00 %" in out
    assert "equivalent" not in out
    assert "better" not in out.replace("not shown to be better", "")


def test_one_loss_alone_is_shown_and_not_compared(command, new_run):
    run = new_run("run", ("arcface",))
    run.seed_runs("winner", "arcface", [0.9] * 6)
    code, out, err = command(run.folder)
    assert (code, err) == (0, "")
    assert "only ArcFace has paired seeds: there is nothing to compare it with" in out
    assert "90.00 %" in out


def test_without_adaloss_the_others_are_compared(command, new_run):
    run = new_run("run", ("arcface", "softmax"))
    for loss, accuracy in (("arcface", 0.9), ("softmax", 0.95)):
        run.seed_runs("winner", loss, [accuracy + 0.001 * pair for pair in range(8)])
    code, out, _ = command(run.folder)
    assert code == 0
    assert "AdaLoss - ArcFace: not compared, no paired seed of AdaLoss" in out
    (row,) = [line for line in out.splitlines() if line.startswith("ArcFace - softmax")]
    assert row.split()[3:5] == ["-5.00", "[-5.00,"]
    assert "worse" in row


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


# --- As a command ----------------------------------------------------------------------------------------------------


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_is_the_comparison(command, full_run, new_run):
    other = new_run("other")
    other.trial("arcface", 0, [0.5, math.nan], "failed", error="diverged")
    code, out, err = command("--json", full_run.folder, other.folder)
    assert (code, err) == (0, "")
    assert strict(out) == comparison([full_run.folder, other.folder])


def test_the_command_prints_the_text(command, full_run):
    assert command(full_run.folder) == (0, comparison_text([full_run.folder]) + "\n", "")


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
        "import analysis.compare, analysis.load\n"
        "heavy = {'ray', 'torch', 'torchvision', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", program, str(PROJECT / "analysis" / "compare.py"), str(full_run.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == comparison_text([full_run.folder]) + "\n"
