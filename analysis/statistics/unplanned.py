"""Differences of two arms on the same seeds that are in no family of comparisons: described, not decided."""

from dataclasses import dataclass

from analysis.loading import Run
from analysis.statistics.generality import ImagesToo, over_seeds_and_images
from analysis.statistics.stats import PairedDifference, paired_difference

__all__ = ["ArmDifference", "arm_difference"]

RoleAndArm = tuple[str, str]


@dataclass(frozen=True)
class ArmDifference:
    """One arm minus another on the paired seeds that both have. Accuracies are fractions, of the test split.

    Args:
        first: role and arm.
        second: likewise.
        result: statistics of the differences; its p is not corrected.
        images_too: the same for other test images, None without two seeds whose images are on record.
    """

    first: RoleAndArm
    second: RoleAndArm
    result: PairedDifference
    images_too: ImagesToo | None

    @property
    def effect(self) -> int:
        """1 or -1 where the interval over seeds excludes 0, by the side on which it lies, else 0."""
        interval = self.result.t_interval
        if interval is None or not interval.excludes(0.0):
            return 0
        return 1 if self.result.mean > 0 else -1


def arm_difference(run: Run, first: RoleAndArm, second: RoleAndArm) -> ArmDifference | None:
    """Return how two arms differ, None without a seed that both were run on.

    Args:
        run: the records.
        first: role and arm, such as ("control", "gated").
        second: what is subtracted.
    """
    sides = [run.seed_runs_of(*side)[["pair", "seed", "accuracy"]] for side in (first, second)]
    both = sides[0].merge(sides[1], on=["pair", "seed"], suffixes=("_a", "_b"))
    if both.empty:
        return None
    a, b = run.correct_images(*first), run.correct_images(*second)
    pairs = [pair for pair in both["pair"] if pair in a.index and pair in b.index]
    images = over_seeds_and_images(a.loc[pairs].to_numpy(), b.loc[pairs].to_numpy()) if len(pairs) > 1 else None
    result = paired_difference((both["accuracy_a"] - both["accuracy_b"]).astype(float).to_numpy())
    return ArmDifference(first, second, result, images)
