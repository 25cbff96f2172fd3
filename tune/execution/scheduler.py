"""Ray's scheduler, as a thin layer over the studies: it is told of every result first, and asks the study what to do.

Ray's own ASHA forgets its rungs on a restore, lets NaN pass, and its searcher hears of a stopped trial only as
completed. Here one call takes in a result: record, study and rungs are in step before Ray acts on the decision.
"""

import contextlib
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune.cluster.private_ray import IdleWorkers, error_file_name
from tune.execution.stages import Stages
from tune.full_disk import leaving_when_full
from tune.study import Study

__all__ = ["StudyCallback", "StudyScheduler"]


class StudyScheduler(FIFOScheduler):
    """Lets each trial go on as long as its study says.

    Args:
        stages: of the run.
        idle_workers: told of the first trial.
        may_requeue: whether a trial that runs out of memory shares it with others, and can run again beside fewer.
    """

    def __init__(self, stages: Stages[Any], idle_workers: IdleWorkers, *, may_requeue: bool = False) -> None:
        super().__init__()
        self._stages, self._idle_workers = stages, idle_workers
        self._may_put_back = may_requeue
        self.requeued: list[str] = []  # ids of trials that ran out of memory and were put back

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Have Ray keep the workers of trials that are over."""
        super().on_trial_add(tune_controller, trial)
        self._idle_workers.keep(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Take in an epoch; Ray calls this before all other hooks."""
        study, number = self._stages.study_of(trial.config), trial.config["number"]
        if study is None or not study.is_running(number):  # interrupted while this epoch ran: it will be run again
            return str(TrialScheduler.STOP)
        with leaving_when_full(result.get("error")):
            if self._may_put_back and result.get("out_of_memory"):
                self.requeued.append(trial.config["trial_id"])
                study.requeue(number, result["error"])
                return str(TrialScheduler.STOP)
            goes_on = study.on_epoch(number, result)
            if goes_on and self._stages.current.out_of_time():
                study.stop(number, "time budget")
                goes_on = False
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl


class StudyCallback(Callback):
    """Tells the studies what Ray's schedulers do not hear of: that a checkpoint is stored, and whether a trial whose
    worker was lost is run again or given up. Deletes checkpoints that are of no more use, and shows where things stand.

    Args:
        stages: of the run.
    """

    def __init__(self, stages: Stages[Any]) -> None:
        self._stages = stages

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Show the newest state."""
        if self._stages.progress is not None:
            self._stages.progress.update()

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A checkpoint is in the storage; Ray calls this before it acts on what the scheduler said of the epoch."""
        with leaving_when_full():
            if (study := self._running(trial)) is not None:
                study.on_checkpoint(trial.config["number"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray is done with the trial; whatever it still had to save is in the storage."""
        study, checkpoint = self._stages.study_of(trial.config), trial.checkpoint
        if study is None or checkpoint is None or study.needs_checkpoint(trial.config["number"]):
            return
        with contextlib.suppress(OSError):  # the storage does not answer: what is left goes at the end of the run
            checkpoint.filesystem.delete_dir(checkpoint.path)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray runs the trial again, from its last checkpoint."""
        error = _error_of(trial)
        with leaving_when_full(error):
            if (study := self._running(trial)) is not None:
                study.on_restart(trial.config["number"], error)
        if self._stages.progress is not None:
            self._stages.progress.say(f"{trial.config['trial_id']}: worker lost, goes on from its last checkpoint")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray gave the trial up."""
        error = _error_of(trial)
        with leaving_when_full(error):
            if (study := self._running(trial)) is not None:
                study.on_error(trial.config["number"], error)

    def _running(self, trial: Trial) -> Study | None:
        """Return the study of a trial, or None where the trial does not run."""
        study = self._stages.study_of(trial.config)
        return study if study is not None and study.is_running(trial.config["number"]) else None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl


def _error_of(trial: Trial) -> str:
    """Return Ray's account of why a worker was lost; it lies in the driver's folder and reaches the storage later."""
    try:
        return Path(trial.local_path, error_file_name()).read_text().strip()
    except OSError:
        return "its worker was lost"
