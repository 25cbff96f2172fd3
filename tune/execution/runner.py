"""Lets Ray run what the studies hand out: as many trials at a time as fit, until all is done or the user stops it."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune as ray_tune

from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.trainable import MarginTrainable
from trainables.trial_data import TrialData
from tune.cluster.slots import Capacity, Slots
from tune.execution.progress import Progress
from tune.execution.scheduler import StudyCallback, StudyScheduler
from tune.execution.searcher import StudySearcher
from tune.full_disk import LeaveRay
from tune.session import Session
from tune.storage.checkpoints import CheckpointStore
from tune.study import Study, Suggestion

__all__ = ["MAX_WORKER_LOSSES", "Stage", "run_stage"]

MAX_WORKER_LOSSES = 3  # a trial whose worker is lost more often is given up


@dataclass(frozen=True)
class Stage:
    """A part of a run that Ray goes through in one go.

    Args:
        name: of Ray's folder below the storage; each stage and invocation has its own, so that nothing is overwritten.
        storage_path: where Ray keeps checkpoints.
        data: what the trials train on and are judged by.
        to_trial: makes the whole configuration of a trial of what a study hands out.
    """

    name: str
    storage_path: str
    data: TrialData
    to_trial: Callable[[Suggestion], TrialConfig]


def run_stage(
    stage: Stage,
    studies: Mapping[str, Study],
    session: Session,
    progress: Progress,
    *,
    out_of_time: Callable[[], bool] = lambda: False,
) -> None:
    """Run all trials that the studies still have.

    Args:
        stage: what to run.
        studies: by name; they take turns.
        session: connected. When the user wants to stop, or there is trouble, trials in flight go back to their studies.
        progress: where it is shown.
        out_of_time: whether the time is up; trials then end with the epoch they are in.

    Raises:
        UserError: there was trouble.
    """
    met: BaseException | None = None
    try:
        with progress:
            _Passes(stage, studies, session, progress, out_of_time).run()
    except LeaveRay as leaving:
        met = leaving.__cause__
    finally:
        for study in studies.values():
            study.requeue_running()
    if met is not None:
        raise met


@dataclass(frozen=True)
class _Passes:
    """What `run_stage` was given: Ray goes through the stage once, and again for what ran out of memory."""

    stage: Stage
    studies: Mapping[str, Study]
    session: Session
    progress: Progress
    out_of_time: Callable[[], bool]

    def run(self) -> None:
        """Run all trials, beside fewer others from the first on that does not find the memory it needs.

        That a trial runs out of memory which it shares says nothing of the trial. It is put back, no others are
        started, and when those that run have ended, it and all that is left run half as many at a time. A trial that
        runs out of memory of its own is a failed one.
        """
        slots = self.session.slots
        for count in itertools.count(1):
            remaining = sum(study.counts.asked - study.counts.done for study in self.studies.values())
            if remaining <= 0 or self.session.interruption:
                return
            name = self.stage.name if count == 1 else f"{self.stage.name}-{count}"
            requeued = self._pass(name, slots, remaining)
            fewer = slots.halved()
            if not requeued or fewer is None:
                return
            slots = fewer
            checkpoints = CheckpointStore(self.stage.storage_path).newest()
            for study in self.studies.values():
                study.set_checkpoints(checkpoints)
            gpus = f" with {slots.gpus_per_trial:g} GPU each" if slots.gpus_per_trial else ""
            self.progress.say(
                f"out of memory beside others: {', '.join(requeued)}; run again, and all that follow, "
                f"{slots.concurrent} at a time{gpus}"
            )

    def _pass(self, name: str, slots: Slots, count: int) -> list[str]:
        """Let Ray run up to `count` trials; return the ids of those that ran out of memory beside others."""
        scheduler = StudyScheduler(self.studies, self.out_of_time, may_requeue=slots.halved() is not None)

        def to_config(study: str, suggestion: Suggestion) -> dict[str, Any]:
            return {
                "study": study,
                "number": suggestion.number,
                "trial_id": suggestion.trial_id,
                "trial": self.stage.to_trial(suggestion).to_dict(),
                "checkpoint": suggestion.checkpoint.path if suggestion.checkpoint else None,
                "threads": slots.threads,
                "gpus": slots.gpus_per_trial,
                "checkpoint_interval_s": self.session.settings.checkpoint_interval_s,
            }

        def is_closed() -> bool:
            if self.session.interruption or scheduler.requeued:
                return True
            return self.out_of_time() and not any(study.counts.requeued for study in self.studies.values())

        tuner = ray_tune.Tuner(
            ray_tune.with_resources(
                ray_tune.with_parameters(MarginTrainable, data=self.stage.data),
                {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial},
            ),
            tune_config=ray_tune.TuneConfig(
                search_alg=StudySearcher(self.studies, to_config, closed=is_closed, capacity=Capacity(slots)),
                scheduler=scheduler,
                num_samples=count,
                max_concurrent_trials=count,  # the searcher knows how many there may be at the moment
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["trial_id"]),
                trial_dirname_creator=lambda trial: str(trial.config["trial_id"]),
            ),
            run_config=ray_tune.RunConfig(
                name=name,
                storage_path=self.stage.storage_path,
                failure_config=ray_tune.FailureConfig(max_failures=MAX_WORKER_LOSSES),
                checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=False),
                stop=_Interrupted(self.session),
                callbacks=[StudyCallback(self.studies), self.progress, *self.session.callbacks],
                verbose=0,
            ),
        )
        tuner.fit()
        return scheduler.requeued


class _Interrupted(ray_tune.Stopper):
    """Leaves Ray's loop between two of its steps when the user wants to stop, or there is trouble.

    Raising leaves at once. A stop in Ray's own way waits ten seconds for trials in mid-epoch, as long as some job
    managers give a program before they kill it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._session.interruption:
            raise LeaveRay
        if trouble := self._session.trouble():
            raise LeaveRay from UserError(trouble)
        return False

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Interrupted":
        return self  # Ray copies its specification for every trial; there is one interruption

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl
