"""What mean accuracy hides: the class that is recognised worst, and whether confidence is what it says."""

from dataclasses import dataclass

import numpy as np

from analysis.loading import Run

__all__ = ["ClassesAndCalibration", "classes_and_calibration"]


@dataclass(frozen=True)
class ClassesAndCalibration:
    """An arm's worst class and calibration over its paired seeds; what failed has no part in it.

    Args:
        role: winner, untuned or control.
        arm: a loss or a control.
        seeds: runs with accuracies by class on record.
        worst_class: the name of the class with the lowest mean accuracy.
        worst_mean: that mean, a fraction.
        worst_of_seed: mean over seeds of the accuracy of each seed's own worst class; never above worst_mean.
        gap: mean over seeds of best class - worst class, a fraction.
        calibrated: runs with a calibration error on record; older versions recorded none.
        ece: mean expected calibration error, a fraction, see :func:`trainables.evaluation.calibration`; None without.
        confidence: mean confidence in the predicted class, a fraction; None without.
    """

    role: str
    arm: str
    seeds: int
    worst_class: str
    worst_mean: float
    worst_of_seed: float
    gap: float
    calibrated: int
    ece: float | None
    confidence: float | None


def classes_and_calibration(run: Run, role: str, arm: str) -> ClassesAndCalibration | None:
    """Return an arm's worst class and calibration, None where no run has accuracies by class on record."""
    tested = run.seed_runs_of(role, arm)
    tested = tested[tested["class_accuracy"].notna() & ~tested["failed"].astype(bool)]
    if tested.empty:
        return None
    # (seeds, C); a class without a test image has none
    by_class = np.array([[np.nan if a is None else a for a in row] for row in tested["class_accuracy"]], dtype=float)
    by_class = by_class[:, ~np.isnan(by_class).any(axis=0)]
    if not by_class.shape[1]:
        return None
    known = [
        name
        for place, name in enumerate(run.info["dataset"]["classes"])
        if all(row[place] is not None for row in tested["class_accuracy"])
    ]
    means = by_class.mean(axis=0)
    worst = int(means.argmin())
    calibration = tested[["ece", "mean_confidence"]].astype(float).dropna()
    return ClassesAndCalibration(
        role=role,
        arm=arm,
        seeds=len(tested),
        worst_class=known[worst],
        worst_mean=float(means[worst]),
        worst_of_seed=float(by_class.min(axis=1).mean()),
        gap=float((by_class.max(axis=1) - by_class.min(axis=1)).mean()),
        calibrated=len(calibration),
        ece=float(calibration["ece"].mean()) if len(calibration) else None,
        confidence=float(calibration["mean_confidence"].mean()) if len(calibration) else None,
    )
