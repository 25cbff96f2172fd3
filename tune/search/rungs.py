"""ASHA's rungs: which trials go on, decided from what is on record alone, so that it survives any restart.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934, algorithm 2, in the variant that
only stops: a trial goes on unless it is below the best 1/reduction_factor of those that reached the same rung before.
"""

import math
from collections.abc import Mapping

import numpy as np

__all__ = ["WORST_ACCURACY", "Rungs"]

WORST_ACCURACY = 0.0  # what a diverged trial leaves in the rung that it did not reach


class Rungs:
    """The milestones of a search and the accuracies that trials had there.

    Args:
        grace_epochs: the first milestone.
        max_epochs: the full length of a trial, where nothing is left to decide.
        reduction_factor: ratio of successive milestones, and the inverse of the share that goes on.
    """

    def __init__(self, grace_epochs: int, max_epochs: int, reduction_factor: float) -> None:
        self.reduction_factor = reduction_factor
        count = math.floor(math.log(max_epochs / grace_epochs, reduction_factor) + 1e-9) + 1
        milestones = (round(grace_epochs * reduction_factor**k) for k in range(count))
        self._recorded: dict[int, dict[int, float]] = {m: {} for m in milestones if m < max_epochs}

    @property
    def milestones(self) -> tuple[int, ...]:
        """Epochs at which trials are judged, ascending."""
        return tuple(self._recorded)

    def goes_on(self, number: int, epoch: int, accuracy: float) -> bool:
        """Record trial `number` if `epoch` is a milestone, and say whether it goes on.

        The first to come always does.
        """
        rung = self._recorded.get(epoch)
        if rung is None:
            return True
        before = [value for other, value in rung.items() if other != number]
        rung[number] = accuracy
        return not before or accuracy >= float(np.percentile(before, (1 - 1 / self.reduction_factor) * 100))

    def replay(self, number: int, accuracies: Mapping[int, float]) -> None:
        """Enter a trial's known accuracies by epoch, without a decision."""
        for epoch, accuracy in accuracies.items():
            if epoch in self._recorded:
                self._recorded[epoch][number] = accuracy

    def diverged(self, number: int, epoch: int) -> None:
        """Enter a trial that broke in `epoch` as the worst of the next rung."""
        for milestone, rung in self._recorded.items():
            if milestone >= epoch:
                rung[number] = WORST_ACCURACY
                return
