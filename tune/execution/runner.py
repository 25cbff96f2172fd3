"""Lets Ray run what the studies hand out: as many trials at a time as fit, until all is done or the user stops it.

One run of Ray's goes through all stages of a command, so that the workers of one are those of the next: a worker has
torch imported and the images at hand.
"""

import itertools
from typing import Any, TypeVar

import ray
from ray import tune as ray_tune

from trainables.errors import UserError
from trainables.trainable import MarginTrainable
from trainables.trial_data import TrialData
from tune.cluster.private_ray import IdleWorkers
from tune.cluster.slots import Capacity, Slots
from tune.execution.scheduler import StudyCallback, StudyScheduler
from tune.execution.searcher import StudySearcher
from tune.execution.stages import StageGenerator, Stages
from tune.full_disk import LeaveRay
from tune.session import Session
from tune.storage.checkpoints import CheckpointStore
from tune.storage.retry import StudyUnreachable
from tune.study import Suggestion

__all__ = ["MAX_WORKER_LOSSES", "run_stages"]

MAX_WORKER_LOSSES = 3  # a trial whose worker is lost more often is given up
_NO_LIMIT = 10**9  # the searcher knows how many trials there are, and how many there may be at the moment

T = TypeVar("T")


def run_stages(generator: StageGenerator[T], session: Session) -> T:
    """Run all trials that the studies still have, stage after stage.

    Args:
        generator: of the stages; what one is broken off with, it is told where it gave that stage.
        session: connected. When the user wants to stop, or there is trouble, trials in flight go back to their studies.

    Returns:
        What the generator returns.

    Raises:
        UserError: there was trouble.
    """
    with Stages(generator, session.interruption) as stages:
        if stages.go_on():
            _Passes(stages, session).run()
        return stages.outcome


class _Passes:
    """Ray goes through the stages once, and again from where it is for what ran out of memory."""

    def __init__(self, stages: Stages[Any], session: Session) -> None:
        self._stages, self._session = stages, session
        self._placed: tuple[TrialData, ray.ObjectRef] | None = None

    def run(self) -> None:
        """Run all trials, beside fewer others from the first on that does not find the memory it needs.

        That a trial runs out of memory which it shares says nothing of the trial. It is put back, no others are
        started, and when those that run have ended, it and all that is left run half as many at a time. A trial that
        runs out of memory of its own is a failed one.
        """
        slots = self._session.slots
        for count in itertools.count(1):
            name = self._stages.current.name if count == 1 else f"{self._stages.current.name}-{count}"
            try:
                requeued = self._pass(name, slots)
            except LeaveRay as leaving:
                goes_on = self._stages.go_on(leaving.__cause__)
            except (Exception, StudyUnreachable) as error:  # noqa: BLE001  the run says what becomes of it
                goes_on = self._stages.go_on(error)
            else:
                fewer = slots.halved()
                if requeued and fewer is not None:
                    slots = fewer
                    self._tell_of_fewer(requeued, slots)
                    goes_on = True
                else:
                    goes_on = not self._stages.is_over and self._stages.go_on()
            if not goes_on:
                return

    def _tell_of_fewer(self, requeued: list[str], slots: Slots) -> None:
        stage = self._stages.current
        checkpoints = CheckpointStore(self._session.settings.checkpoint_root).newest()
        for study in stage.studies.values():
            study.set_checkpoints(checkpoints)
        gpus = f" with {slots.gpus_per_trial:g} GPU each" if slots.gpus_per_trial else ""
        stage.progress.say(
            f"out of memory beside others: {', '.join(requeued)}; run again, and all that follow, "
            f"{slots.concurrent} at a time{gpus}"
        )

    def _pass(self, name: str, slots: Slots) -> list[str]:
        """Let Ray go on from the current stage; return the ids of trials that ran out of memory beside others."""
        stages, session = self._stages, self._session
        idle_workers = IdleWorkers(slots.concurrent)
        scheduler = StudyScheduler(stages, idle_workers, may_requeue=slots.halved() is not None)

        def to_config(study: str, suggestion: Suggestion) -> dict[str, Any]:
            return {
                "stage": stages.number,
                "study": study,
                "number": suggestion.number,
                "trial_id": suggestion.trial_id,
                "trial": stages.current.to_trial(suggestion).to_dict(),
                "data": self._place(stages.current.data),
                "checkpoint": suggestion.checkpoint.path if suggestion.checkpoint else None,
                "threads": slots.threads,
                "gpus": slots.gpus_per_trial,
                "checkpoint_interval_s": session.settings.checkpoint_interval_s,
                "niceness": session.settings.niceness,
            }

        tuner = ray_tune.Tuner(
            ray_tune.with_resources(MarginTrainable, {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial}),
            tune_config=ray_tune.TuneConfig(
                search_alg=StudySearcher(
                    stages,
                    to_config,
                    closed=lambda: bool(session.interruption or scheduler.requeued),
                    capacity=Capacity(slots),
                    idle_workers=idle_workers,
                ),
                scheduler=scheduler,
                num_samples=_NO_LIMIT,
                max_concurrent_trials=_NO_LIMIT,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["trial_id"]),
                trial_dirname_creator=lambda trial: str(trial.config["trial_id"]),
            ),
            run_config=ray_tune.RunConfig(
                name=name,
                storage_path=session.settings.checkpoint_root,
                failure_config=ray_tune.FailureConfig(max_failures=MAX_WORKER_LOSSES),
                checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=False),
                stop=_Interrupted(session),
                callbacks=[StudyCallback(stages), *session.callbacks],
                verbose=0,
            ),
        )
        tuner.fit()
        return scheduler.requeued

    def _place(self, data: TrialData) -> ray.ObjectRef:
        """Return where a stage's images lie in Ray's object store; stages that share them put them there once."""
        if self._placed is None or self._placed[0] is not data:
            self._placed = (data, ray.put(data))
        return self._placed[1]


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
