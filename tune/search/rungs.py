"""ASHA's rungs: which trials go on, decided from what is on record alone, so that it survives any restart.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934, algorithm 2, in the variant that
only stops: a trial goes on unless it is below the best 1/reduction_factor of those that reached the same rung before.
"""

import itertools
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
        self._max_epochs = max_epochs
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

    def epochs_to_go(self, reached: Mapping[int, int], new: int) -> float:
        """Return how many epochs trials may be expected to train still, at most to their full length.

        Args:
            reached: epochs that trials under way have behind them, by number.
            new: how many have not begun.
        """
        epochs = going = 0.0  # trials that are expected to go on from the rung before
        for start, end in itertools.pairwise((0, *self.milestones, self._max_epochs)):
            within = [epoch for epoch in reached.values() if start <= epoch < end] + [0] * (new if start == 0 else 0)
            epochs += going * (end - start) + sum(end - epoch for epoch in within)
            going += len(within)
            if end in self._recorded:
                # One that was interrupted may be on record where it comes again: it is not compared with itself.
                others = sum(reached.get(number, end) >= end for number in self._recorded[end])
                going = self._going_on(others, going)
        return epochs

    def _going_on(self, before: int, arriving: float) -> float:
        """Return how many of so many more trials may be expected to go on from a rung that others have reached."""
        whole = math.floor(arriving)
        certain = sum(self._share_after(before + other) for other in range(whole))
        return certain + (arriving - whole) * self._share_after(before + whole)

    def _share_after(self, others: int) -> float:
        """Return the probability that a trial goes on from a rung that so many others have reached.

        Its accuracy is taken to be like theirs. The cutoff lies (others - 1)(1 - 1/F) steps above their lowest, and of
        the others + 1 places among them it has each with equal probability. So of few trials more go on than 1/F.
        """
        if not others:
            return 1.0
        return (1 + (others - 1) / self.reduction_factor) / (others + 1)
