"""Ray's TensorBoard callback with our names."""

import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger.tensorboardx import TBXLoggerCallback
from tensorboardX.summary import hparams

from tune.loggers.values import drawn_of, metrics_of

__all__ = ["TENSORBOARD_FOLDER", "TensorBoardLogger"]

TENSORBOARD_FOLDER = "tensorboard"  # in the run's folder; Ray's own place, the trial's folder, goes when a search ends
_FLUSH_S = 30


class TensorBoardLogger(TBXLoggerCallback):
    """Ray's TensorBoard callback with our names, our place, and epochs as steps.

    Args:
        folder: of all trials' event files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._epoch: dict[Trial, int] = {}

    def log_trial_start(self, trial: Trial) -> None:
        """Wait for the first epoch: only it tells where a resumed trial goes on."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Write an epoch's numbers; one that was trained again after a resume replaces the earlier one."""
        epoch = result["epoch"]
        if epoch <= self._epoch.get(trial, 0):
            self._trial_writer.pop(trial).close()
        if trial not in self._trial_writer:
            place = self._folder / trial.config["trial_id"]
            self._trial_writer[trial] = self._summary_writer_cls(
                str(place),
                purge_step=epoch,
                flush_secs=_FLUSH_S,
                filename_suffix=f".{time.time_ns()}",  # else two files of the same second are one, and broken
            )
        for name, value in metrics_of(result).items():
            self._trial_writer[trial].add_scalar(name, value, global_step=epoch)
        self._trial_writer[trial].flush()
        self._epoch[trial], self._trial_result[trial] = epoch, metrics_of(result)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Write the configuration beside the last epoch's numbers, for the HPARAMS tab, and close the files."""
        writer = self._trial_writer.pop(trial, None)
        metrics = self._trial_result.pop(trial, {})
        self._epoch.pop(trial, None)
        if writer is not None:
            for summary in hparams(drawn_of(trial), metrics):
                writer.file_writer.add_summary(summary)
            writer.close()
