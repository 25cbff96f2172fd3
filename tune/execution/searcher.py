"""Ray's search algorithm, as a thin layer over the studies: deals out trials of all studies in turn."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from tune.full_disk import leaving_when_full
from tune.study import Study, Suggestion

__all__ = ["StudySearcher"]


class StudySearcher(Searcher):
    """Asks the study that has started the fewest trials, so that all losses advance together.

    Whatever ends a search early, or a machine that slows down in the middle, then meets all losses alike. What became
    of a trial goes to the studies through the scheduler, which Ray tells first.

    Args:
        studies: by name.
        to_config: makes Ray's trial configuration of a suggestion.
        closed: whether no more trials shall start.
        capacity: how many trials there may be at a time, at the moment.
    """

    def __init__(
        self,
        studies: Mapping[str, Study],
        to_config: Callable[[str, Suggestion], dict[str, Any]],
        closed: Callable[[], bool],
        capacity: Callable[[], int],
    ) -> None:
        super().__init__(metric="epoch", mode="max")  # Ray wants one; the studies judge
        self._studies = studies
        self._to_config = to_config
        self._closed = closed
        self._capacity = capacity
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's configuration, None for not yet, or FINISHED."""
        if self._closed():
            return str(Searcher.FINISHED)
        if len(self._live) >= self._capacity():
            return None
        for name in sorted(self._studies, key=self._order):
            with leaving_when_full():
                suggestion = self._studies[name].ask()
            if suggestion is not None:
                self._live.add(trial_id)
                return self._to_config(name, suggestion)
        return str(Searcher.FINISHED)

    def _order(self, name: str) -> tuple[bool, int]:
        """Put first what was put back, then what has started the fewest."""
        counts = self._studies[name].counts
        return not counts.requeued, counts.started

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Make room for another; the scheduler has told the study."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the studies are their own record, and a database's password must not be pickled."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a run goes on from its studies."""
        raise NotImplementedError("a run goes on from its studies, not from Ray's snapshot")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Write nothing, as :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl
