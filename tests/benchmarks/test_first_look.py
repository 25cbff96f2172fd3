"""The first look at peers and rules: every number of its text is that of the records beside it."""

import re

import numpy as np
import pytest
from scipy import stats

from analysis.compare import comparison_markdown
from analysis.findings import load_findings
from tests.test_project import PROJECT
from tune.records import read_records

LOOK = PROJECT / "benchmarks" / "first_look"
TEXT = (LOOK / "README.md").read_text()
PREDICTIONS = " ".join(TEXT.partition("## The predictions")[2].split())


@pytest.mark.parametrize(("heading", "run"), [("MNIST", "mnist-draws"), ("CIFAR-10", "cifar10-draws")])
def test_every_row_is_one_of_the_comparison(heading, run):
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*$", section, re.MULTILINE)
    told = comparison_markdown(load_findings([LOOK / run])).splitlines()
    assert len(rows) > 12
    assert [row for row in rows if row not in told] == []


def accuracies(run, arm, role="robustness", value="val_accuracy"):
    """In percent, by pair."""
    records = [r for r in read_records(LOOK / run / "confirm.jsonl") if (r["arm"], r["role"]) == (arm, role)]
    return {record["pair"]: (100 * record[value], record["config"]) for record in records}


def differences(first, second, pairs=None):
    return np.array([first[pair][0] - second[pair][0] for pair in (first if pairs is None else pairs)])


def interval(values):
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.2f} pp [{values.mean() - half:.2f}, {values.mean() + half:.2f}]"


def test_what_became_of_the_quantile():
    run = "mnist-draws"
    adaloss = accuracies(run, "adaloss")
    by_gap = [pair for pair, (_, config) in adaloss.items() if config["loss_args"]["difficulty"] == "gap"]
    ahead = differences(accuracies(run, "adaloss_quantile"), adaloss, by_gap)
    assert (
        f"On the {len(by_gap)} draws in which AdaLoss has that difficulty the difference is {interval(ahead)}"
        in PREDICTIONS
    )


def test_what_became_of_the_relative_rule():
    run = "mnist-relative"
    tested = {"role": "winner", "value": "test_accuracy"}
    relative, arcface = (accuracies(run, arm, **tested) for arm in ("adaloss_relative", "arcface"))
    control = accuracies(run, "adaloss_relative_permuted", "control", "test_accuracy")
    assert f"ahead of ArcFace by {interval(differences(relative, arcface))}" in PREDICTIONS
    assert f"of the control by {interval(differences(relative, control))}" in PREDICTIONS
    defaults = accuracies(run, "arcface", "untuned", "test_accuracy")
    means = [np.mean([value for value, _ in found.values()]) for found in (defaults, arcface)]
    assert (
        f"defaults ({means[0]:.2f} %) is ahead of what 8 trials of 3 epochs found for it ({means[1]:.2f} %)"
        in PREDICTIONS
    )


def test_what_became_of_the_trapezoid():
    worst = {}
    for run in ("cifar10-draws", "mnist-draws"):
        behind = -differences(accuracies(run, "adaloss_trapezoid"), accuracies(run, "arcface"))
        worst[run] = behind.max()
    assert worst["cifar10-draws"] < 5
    assert (
        f"draws on CIFAR-10 is {worst['cifar10-draws']:.2f} pp behind, on MNIST {worst['mnist-draws']:.2f} pp"
        in PREDICTIONS
    )
    adaloss = -differences(accuracies("cifar10-draws", "adaloss_trapezoid"), accuracies("cifar10-draws", "adaloss"))
    assert f"behind AdaLoss by {np.median(adaloss):.2f} pp on CIFAR-10" in PREDICTIONS
