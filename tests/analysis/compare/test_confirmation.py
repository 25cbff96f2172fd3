"""What is said of a confirmation, whole or not."""

import csv
import io
import shutil

import pytest

import analysis.findings
from analysis.compare import comparison, comparison_csv, comparison_markdown, comparison_text
from analysis.findings import load_findings
from analysis.loading import load_run
from tests.analysis.compare.conftest import strict

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


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, example_findings):
    return example_findings(EXAMPLES[request.param])


@pytest.fixture(scope="module")
def whole(example_findings):
    return example_findings(EXAMPLES["whole"])


def test_every_example_fits_a_terminal(example):
    lines = comparison_text(example).splitlines()
    assert max(map(len, lines)) <= 110
    assert not [line for line in lines if line != line.rstrip()]


def test_every_example_is_json_markdown_and_csv(command, example, monkeypatch):
    folder = example[0].run.folder
    monkeypatch.setattr(analysis.findings, "load_findings", lambda folders, _: example if folders == [folder] else None)
    code, out, err = command("--json", folder)
    assert (code, err) == (0, "")
    assert strict(out) == comparison(example)
    assert command("--markdown", folder) == (0, comparison_markdown(example) + "\n", "")
    assert command("--csv", folder) == (0, comparison_csv(example) + "\n", "")


def test_the_text_ends_with_the_verdict_and_markdown_begins_with_it(whole):
    (primary, *_) = whole[0].verdicts
    assert primary.decision == "better"
    text, markdown = comparison_text(whole), comparison_markdown(whole)
    headings = ["Test accuracy", "Convergence speed", "Robustness to tuning", "Budget", "Verdict on cifar10"]
    assert [line for line in text.splitlines() if line in headings] == headings
    assert primary.sentence in text.partition("Verdict on cifar10")[2]
    assert markdown.startswith("### Verdict on cifar10\n\n- AdaLoss - ArcFace = ")
    assert "not yet a comparison" not in text + markdown


def test_everything_that_the_protocol_asks_for_is_said(whole):
    text = " ".join(comparison_text(whole).split())
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


def test_the_numbers_of_the_table_are_those_of_the_records(example_run, whole):
    accuracies = load_run(example_run(**EXAMPLES["whole"])).accuracies("winner", "adaloss")
    row, _ = [  # the other one is of the worst class
        line.split() for line in comparison_text(whole).splitlines() if line.startswith("AdaLoss  ") and "tuned" in line
    ]
    expected = [f"{100 * value:.2f}" for value in (accuracies.mean(), accuracies.min(), accuracies.max())]
    assert [row[2], row[5], row[7]] == expected
    assert row[4] == f"{100 * accuracies.std():.2f}"


def test_a_confirmation_that_has_not_begun_leaves_the_search_as_it_was(full_run):
    before = comparison_text(load_findings([full_run.folder])).splitlines()
    full_run.rewrite(confirmation={"seeds": 3, "history": []})
    full_run.seed_run("candidate", "arcface", 0, trial_id="arcface-0000")
    after = comparison_text(load_findings([full_run.folder])).splitlines()
    assert [line for line in after if line not in before] == [
        "the confirmation has 1 runs behind it, none of them of a paired seed: there is no verdict yet"
    ]
    assert comparison(load_findings([full_run.folder]))[0]["confirmation"] is None


def test_random_draws_alone_are_shown_without_a_verdict(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    for arm in ("arcface", "adaloss", "gated"):
        run.seed_runs("robustness", arm, [0.1, 0.8, 0.85])
    text = comparison_text(load_findings([run.folder]))
    assert "Robustness to tuning" in text
    assert "no paired seed is finished: there is no verdict" in text


def test_several_runs_share_the_correction_and_end_in_one_list(example_findings, whole):
    found = example_findings(EXAMPLES["whole"], EXAMPLES["two losses"])
    text = comparison_text(found)
    ending = text.partition("All verdicts")[2]
    assert ending.count("cifar10: AdaLoss - ArcFace = ") == 2
    assert "Holm's correction over 2" in " ".join(text.split())
    entries = comparison(found)
    assert [entry["confirmation"]["verdicts"][0]["family"] for entry in entries] == [2, 2]
    assert "All verdicts" not in comparison_text(whole)


def test_csv_has_one_number_a_line(whole):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(whole))))
    values = {(row["about"], row["subject"], row["quantity"]): row["value"] for row in rows}
    assert len(values) == len(rows)
    (primary, *_) = whole[0].verdicts
    key = ("primary verdict", "adaloss - arcface")
    assert float(values[*key, "result.mean"]) == primary.result.mean
    assert float(values[*key, "p_holm"]) == primary.p_holm
    assert float(values[*key, "differences.3"]) == primary.differences[3]
    assert values[*key, "decision"] == "better"
    assert values["search", "arcface", "best.trial_id"] == "arcface-0000"
    assert {row["dataset"] for row in rows} == {"cifar10"}


# --- What is wrong with one ------------------------------------------------------------------------------------------


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
    verdict = out.partition("Verdict on digits")[2]
    (line,) = [line for line in verdict.splitlines() if line.startswith("ArcFace - softmax")]
    assert line == (
        "ArcFace - softmax = -5.00 pp [-5.00, -5.00], p_holm 0.008, P(A>B) 0.00, n 8, 4 trials x 3 epochs: worse"
    )
    assert "not compared" not in out


def test_where_adaloss_is_late_its_comparison_is_still_to_come(command, new_run):
    run = new_run("run", ("arcface", "adaloss", "softmax"))
    for loss in ("arcface", "softmax"):
        run.seed_runs("winner", loss, [0.9] * 6)
    code, out, _ = command(run.folder)
    assert code == 0
    assert "AdaLoss - ArcFace: not compared, no paired seed of AdaLoss" in out
    (row,) = [line for line in out.splitlines() if line.startswith("ArcFace - softmax")]
    assert "equivalent" in row
