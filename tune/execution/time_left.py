"""How long a part of a run will still take: epochs to go, by the speed that was measured since this program started."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tune.study import Study

__all__ = ["Later", "TimeLeft", "duration"]


@dataclass(frozen=True)
class Later:
    """What a run goes on with after a part of it.

    Args:
        name: of what comes, as in "5 min with the confirmation".
        epochs: that it trains, counted in epochs of the part before: one on twice as many images is two.
    """

    name: str
    epochs: float


class TimeLeft:
    """Tells the time left from the epochs that were trained while it looked, and those that are still to be.

    The speed counts from the first epoch that is seen, not from the start: starting takes its time once. It is known
    when every running trial has had time for one epoch more, for the first ones come at once.

    Args:
        studies: by name.
        later: what follows, or None.
        limit_s: how many seconds the part may still take, whatever there is to do.
    """

    def __init__(
        self, studies: Mapping[str, Study], later: Later | None = None, limit_s: Callable[[], float] = lambda: math.inf
    ) -> None:
        self._studies, self._later, self._limit_s = studies, later, limit_s
        self._first: tuple[float, int] | None = None  # when the first epochs were seen, and how many
        self._newest = (0.0, 0)

    def look(self, now: float) -> None:
        """Take in how many epochs there are at a time, in seconds of any clock."""
        epochs = sum(study.counts.epochs for study in self._studies.values())
        if epochs > self._newest[1]:
            self._newest = (now, epochs)
            self._first = self._first or self._newest

    def epochs_per_second(self, now: float) -> float | None:
        """Return how many epochs are trained a second, by all trials together; None before that is known."""
        if self._first is None:
            return None
        running = sum(len(study.counts.running) for study in self._studies.values())
        trained, took_s = self._newest[1] - self._first[1], self._newest[0] - self._first[0]
        if trained < max(1, running) or took_s <= 0:
            return None
        # Where nothing more comes although every trial has had time for it, the speed is less than it was.
        return min(trained / took_s, (trained + running) / (now - self._first[0]))

    def seconds(self, now: float) -> float | None:
        """Return the seconds that are left for the part itself; None before there is a speed to go by."""
        speed = self.epochs_per_second(now)
        if speed is None:
            return None
        epochs = sum(study.epochs_to_go() for study in self._studies.values())
        return max(0.0, min(epochs / speed, self._limit_s()))

    def with_later(self, now: float) -> tuple[str, float] | None:
        """Return what follows, and the seconds that are left with it; None where nothing does, or none is known."""
        seconds, speed = self.seconds(now), self.epochs_per_second(now)
        if self._later is None or not self._later.epochs or seconds is None or not speed:
            return None
        return self._later.name, seconds + self._later.epochs / speed

    def text(self, now: float) -> str:
        """Return such as "about 4 min left, 6 min with the confirmation"; nothing where there is nothing to say."""
        seconds = self.seconds(now)
        if not seconds:
            return ""
        left = f"about {duration(seconds)} left"
        later = self.with_later(now)
        return left if later is None else f"{left}, {duration(later[1])} with {later[0]}"


def duration(seconds: float) -> str:
    """Return a time as one would say it, such as 10 s, 4 min, 2.5 h or 3.1 days."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
