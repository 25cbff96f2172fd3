"""The few lines with which a search ends."""

import dataclasses
from pathlib import Path

import pytest

from analysis.compare import comparison_text, summary_text
from analysis.findings import load_findings
from analysis.report.summary import seeds_to_add

SEEDS = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.93]
GAPS = [0.010, 0.012, 0.009, 0.011, 0.010, 0.013, 0.008, 0.010]


def searched(new_run, name="run", partial=False):
    run = new_run(name, ("arcface", "adaloss"), partial=partial)
    for loss in ("arcface", "adaloss"):
        run.trial(loss, 0, [0.5, 0.6, 0.9])
    return run


def confirmed(new_run, gaps, **options):
    """AdaLoss ahead by gaps, on as many paired seeds."""
    run = searched(new_run, **options)
    run.rewrite(confirmation={"seeds": len(gaps), "candidates": 1, "candidate_seeds": 1, "history": []})
    run.seed_runs("winner", "arcface", SEEDS[: len(gaps)])
    run.seed_runs("winner", "adaloss", [seed + gap for seed, gap in zip(SEEDS, gaps, strict=False)])
    return run


def test_the_verdict_comes_first_and_the_tables_are_left_to_the_comparison(new_run):
    found = load_findings([confirmed(new_run, GAPS).folder])
    text = summary_text(found, 110)
    (verdict,) = found[0].main_verdicts
    assert text.startswith("Verdict on digits\n-----------------\n\nAdaLoss - ArcFace = +1.04 pp")
    assert " ".join(text.split()).count(verdict.sentence) == 1
    assert "AdaLoss 94.04 % and ArcFace 93.00 %" in text
    assert len(text.splitlines()) < 20 < len(comparison_text(found).splitlines())


@pytest.mark.parametrize("width", [40, 76, 110])
def test_it_is_as_wide_as_the_terminal(new_run, width):
    found = load_findings([confirmed(new_run, GAPS).folder])
    lines = summary_text(found, width).splitlines()
    assert max(map(len, lines)) <= width
    words = [line.split() for line in lines]
    assert sum(words, []) == summary_text(found, 1000).split()  # noqa: RUF017


def test_what_limits_the_verdict_is_told(new_run):
    found = load_findings([confirmed(new_run, GAPS[:2], partial=True).folder])
    text = " ".join(summary_text(found, 110).split())
    assert "2 paired seeds can never show a difference" in text
    assert found[0].caveats
    for caveat in found[0].caveats:
        assert f"Note: {' '.join(caveat.split())}" in text


def test_a_search_alone_has_no_verdict(new_run):
    text = summary_text(load_findings([searched(new_run).folder]), 110)
    assert text.startswith("Search on digits\n")
    assert "not yet a comparison of the losses" in text
    assert "Verdict" not in text


def test_of_a_confirmation_that_has_one_loss_alone_it_is_said_that_nothing_can_be_compared(new_run):
    run = searched(new_run)
    run.seed_runs("winner", "arcface", SEEDS)
    said = "only ArcFace has paired seeds: there is nothing to compare it with"
    assert said in summary_text(load_findings([run.folder]), 110)


def found_with(found, *verdicts):
    """Findings whose main verdicts have been changed; each is given as its changes."""
    (verdict,) = found.main_verdicts
    return dataclasses.replace(found, verdicts=tuple(dataclasses.replace(verdict, **changes) for changes in verdicts))


@pytest.mark.parametrize(
    ("decision", "needed", "seeds"),
    [
        ("inconclusive", 23, 23),
        ("inconclusive", 200, 200),
        ("inconclusive", 201, None),
        ("inconclusive", None, None),
        ("inconclusive", 8, None),  # so many there are
        ("better", 23, None),
        ("equivalent", None, None),
    ],
)
def test_more_seeds_are_advised_where_they_may_decide(new_run, decision, needed, seeds):
    (found,) = load_findings([Path(confirmed(new_run, GAPS).folder)])
    assert seeds_to_add(found_with(found, {"decision": decision, "seeds_needed": needed})) == seeds


def test_of_several_verdicts_the_one_that_needs_most_counts(new_run):
    (found,) = load_findings([confirmed(new_run, GAPS).folder])
    open_ = [{"decision": "inconclusive", "seeds_needed": needed} for needed in (20, 40, None)]
    assert seeds_to_add(found_with(found, *open_)) == 40
    assert seeds_to_add(found_with(found)) is None
