"""Ray's search algorithm, as a thin layer over the studies: deals out trials of all studies in turn."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from tune.cluster.private_ray import IdleWorkers
from tune.execution.stages import Stages
from tune.full_disk import leaving, leaving_when_full
from tune.study import Study, Suggestion

__all__ = ["StudySearcher"]


class StudySearcher(Searcher):
    """Asks the study that has started the fewest trials, so that all losses advance together.

    Whatever ends a search early, or a machine that slows down in the middle, then meets all losses alike. What became
    of a trial goes to the studies through the scheduler, which Ray tells first. When the last trial of a stage is over,
    the next stage begins.

    Args:
        stages: of the run; one is under way.
        to_config: makes Ray's trial configuration of a suggestion.
        closed: whether no more trials shall start.
        capacity: how many trials there may be at a time, at the moment.
        idle_workers: let go when they will not be needed again.
    """

    def __init__(
        self,
        stages: Stages[Any],
        to_config: Callable[[str, Suggestion], dict[str, Any]],
        closed: Callable[[], bool],
        capacity: Callable[[], int],
        idle_workers: IdleWorkers,
    ) -> None:
        super().__init__(metric="epoch", mode="max")  # Ray wants one; the studies judge
        self._stages = stages
        self._to_config = to_config
        self._closed = closed
        self._capacity = capacity
        self._idle_workers = idle_workers
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's configuration, None for not yet, or FINISHED."""
        while not self._closed():
            if len(self._live) >= self._capacity():
                return None
            config = self._ask()
            if config is not None:
                self._live.add(trial_id)
                return config
            if self._live:
                if not self._stages.current.is_followed:
                    self._idle_workers.let_go()
                return None
            with leaving():
                if not self._stages.go_on():
                    break
        self._idle_workers.let_go()
        return str(Searcher.FINISHED)

    def _ask(self) -> dict[str, Any] | None:
        """Return the configuration of the stage's next trial, or None when no more shall start."""
        stage = self._stages.current
        studies = stage.studies
        if stage.out_of_time() and not any(study.counts.requeued for study in studies.values()):
            return None
        for name in sorted(studies, key=lambda name: _rank(studies[name])):
            with leaving_when_full():
                suggestion = studies[name].ask()
            if suggestion is not None:
                return self._to_config(name, suggestion)
        return None

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


def _rank(study: Study) -> tuple[bool, int]:
    """Put first what was put back, then what has started the fewest."""
    return not study.counts.requeued, study.counts.started
