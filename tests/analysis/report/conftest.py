"""Studies whose verdicts are set beforehand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.findings import load_findings
from analysis.report.study import DataSet, arranged
from tests.analysis.conftest import RunWriter

SEEDS = 10
BOUND_PP = {"mnist": 0.1, "cifar10": 0.3}
# Mean and standard deviation of a difference, in multiples of the bound, that have the decision with ten seeds.
DECISIONS = {"better": (5.0, 1.0), "worse": (-5.0, 1.0), "equivalent": (0.0, 0.5), "inconclusive": (0.5, 4.0)}
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", "gated", "yoked_replay", "gate_off")


def spread(dataset: str, decision: str, seed: int) -> np.ndarray:
    """Ten differences, as fractions, with exactly the mean and deviation that have a decision."""
    mean, sd = (part * BOUND_PP[dataset] / 100 for part in DECISIONS[decision])
    values = np.random.default_rng(seed).normal(size=SEEDS)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


def study_in(folder: Path, data: dict[str, dict[str, str]]) -> list[DataSet]:
    """A study of decisions: AdaLoss against ArcFace, softmax and each control, by data set."""
    folders = []
    for dataset, decisions in data.items():
        run = RunWriter(folder / dataset, ("arcface", "adaloss", "softmax"), dataset=dataset)
        run.rewrite(confirmation={"seeds": SEEDS, "candidates": 3, "candidate_seeds": 3, "history": []})
        adaloss = np.full(SEEDS, 0.9) + np.random.default_rng(99).normal(0, 1e-4, SEEDS)
        run.seed_runs("winner", "adaloss", adaloss)
        for number, (arm, decision) in enumerate(decisions.items()):
            role = "control" if arm in CONTROLS else "winner"
            run.seed_runs(role, arm, adaloss - spread(dataset, decision, number))
        folders.append(run.folder)
    return arranged(load_findings(folders))


@pytest.fixture
def study(tmp_path) -> Callable[..., list[DataSet]]:
    """Makes a study of decisions, by data set."""
    return lambda **data: study_in(tmp_path, data)


@pytest.fixture(scope="module")
def decided(tmp_path_factory) -> Callable[..., list[DataSet]]:
    """Makes the same study of both data sets with other decisions, which is all that the plan looks at."""
    rivals = dict.fromkeys(("arcface", "softmax", *CONTROLS), "better")
    made = study_in(tmp_path_factory.mktemp("study"), {"mnist": rivals, "cifar10": rivals})

    def make(**data: dict[str, str]) -> list[DataSet]:
        return [_with(data_set, data[data_set.name]) for data_set in made]

    return make


def _with(data_set: DataSet, decisions: dict[str, str]) -> DataSet:
    verdicts = tuple(
        replace(verdict, decision=decisions[verdict.second]) if verdict.first == "adaloss" else verdict
        for verdict in data_set.main.verdicts
    )
    return replace(data_set, main=replace(data_set.main, verdicts=verdicts))
