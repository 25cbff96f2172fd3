"""The stages of a run, one after the other: what the next one is, follows from what the last one left on record."""

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trainables.config import TrialConfig
from trainables.trial_data import TrialData
from tune.execution.progress import Progress
from tune.interruption import Interruption
from tune.storage.retry import StudyUnreachable
from tune.study import Study, Suggestion

__all__ = ["Stage", "StageGenerator", "Stages", "never"]

T = TypeVar("T")


def never() -> bool:
    """Say that the time of a stage is never up."""
    return False


@dataclass(frozen=True)
class Stage:
    """A part of a run: its trials are all known, or drawn from what was learnt, and the next part needs their results.

    Args:
        name: of Ray's folder below the storage, if it is the first one that Ray is given.
        studies: by name; they take turns.
        data: what the trials train on and are judged by.
        to_trial: makes the whole configuration of a trial of what a study hands out.
        progress: where it is shown.
        is_followed: whether another stage comes, so that workers are worth keeping.
        out_of_time: whether the time is up; trials then end with the epoch they are in.
    """

    name: str
    studies: Mapping[str, Study]
    data: TrialData
    to_trial: Callable[[Suggestion], TrialConfig]
    progress: Progress
    is_followed: bool = False
    out_of_time: Callable[[], bool] = never

    @property
    def to_go(self) -> int:
        """How many trials are not done."""
        return sum(study.counts.asked - study.counts.done for study in self.studies.values())


StageGenerator = Generator[Stage, None, T]


class Stages(Generic[T]):
    """Where a run is in its stages.

    Args:
        generator: of the stages; it goes on when the last one it gave is over, or broke off, and returns the outcome.
        interruption: when the user wants to stop, stages are passed over.
    """

    def __init__(self, generator: StageGenerator[T], interruption: Interruption) -> None:
        self._generator, self._interruption = generator, interruption
        self._current: Stage | None = None
        self._outcomes: list[T] = []  # one, in the end
        self.number = 0

    def __enter__(self) -> "Stages[T]":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(self._generator):
            self._leave()

    @property
    def current(self) -> Stage:
        """The stage that is under way."""
        assert self._current is not None, "no stage is under way"
        return self._current

    @property
    def is_over(self) -> bool:
        """Whether there are no more stages."""
        return bool(self._outcomes)

    @property
    def outcome(self) -> T:
        """What the run came to, once all stages are over."""
        (outcome,) = self._outcomes
        return outcome

    def go_on(self, error: BaseException | None = None) -> bool:
        """Leave the current stage and enter the next one that has trials to run.

        Args:
            error: with which the current one broke off; it is raised where the run asked for the stage.

        Returns:
            Whether there is one.

        Raises:
            Exception: whatever the run raises between its stages.
        """
        error = self._leave() or error
        try:
            while True:
                stage = next(self._generator) if error is None else self._generator.throw(error)
                self._enter(stage)
                if stage.to_go > 0 and not self._interruption:
                    return True
                error = self._leave()
        except StopIteration as end:
            self._outcomes = [end.value]
            return False

    @property
    def progress(self) -> Progress | None:
        """Where the current stage is shown, if one is under way."""
        return None if self._current is None else self._current.progress

    def study_of(self, config: Mapping[str, Any]) -> Study | None:
        """Return the study of a trial by the trial's configuration, or None where it is of a stage that is over."""
        if self._current is None or config["stage"] != self.number:
            return None
        return self._current.studies[config["study"]]

    def _enter(self, stage: Stage) -> None:
        self.number += 1
        self._current = stage
        stage.progress.__enter__()

    def _leave(self) -> BaseException | None:
        """Put back what runs, for a later resume; return what kept a study from doing so."""
        stage, self._current = self._current, None
        if stage is None:
            return None
        stage.progress.__exit__(None, None, None)
        try:
            for study in stage.studies.values():
                study.requeue_running()
        except (Exception, StudyUnreachable) as error:  # noqa: BLE001  raised by the run, where it gave the stage
            return error
        return None
