"""Studies whose verdicts are set beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.findings import load_findings
from analysis.report.study import DataSet, arranged

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


@pytest.fixture
def study(new_run) -> Callable[..., list[DataSet]]:
    """Makes a study of decisions: AdaLoss against ArcFace, softmax and each control, by data set."""

    def make(**data: dict[str, Any]) -> list[DataSet]:
        folders = []
        for dataset, decisions in data.items():
            losses = ("arcface", "adaloss", "softmax")
            run = new_run(dataset, losses, dataset=dataset)
            run.rewrite(confirmation={"seeds": SEEDS, "candidates": 3, "candidate_seeds": 3, "history": []})
            adaloss = np.full(SEEDS, 0.9) + np.random.default_rng(99).normal(0, 1e-4, SEEDS)
            run.seed_runs("winner", "adaloss", adaloss)
            for number, (arm, decision) in enumerate(decisions.items()):
                role = "control" if arm in CONTROLS else "winner"
                run.seed_runs(role, arm, adaloss - spread(dataset, decision, number))
            folders.append(run.folder)
        return arranged(load_findings(folders))

    return make
