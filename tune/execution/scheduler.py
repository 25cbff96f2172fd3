"""Ray's scheduler, as a thin layer over the books: it is told of every result first, and asks the book what to do.

Ray's own ASHA forgets its rungs on a restore, lets NaN pass, and its searcher hears of a stopped trial only as
completed. Here one call takes in a result: record, study and rungs are in step before Ray acts on the decision.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import EXPR_ERROR_FILE
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune.full_disk import leaving_when_full
from tune.study import Book

__all__ = ["BookCallback", "BookScheduler"]


class BookScheduler(FIFOScheduler):
    """Lets each trial go on as long as its book says.

    Args:
        books: by name.
        out_of_time: whether the search's time is up; trials then end with the epoch they are in.
        may_put_back: whether a trial that runs out of memory shares it with others, and can run again beside fewer.
    """

    def __init__(
        self, books: Mapping[str, Book], out_of_time: Callable[[], bool], *, may_put_back: bool = False
    ) -> None:
        super().__init__()
        self._books = books
        self._out_of_time = out_of_time
        self._may_put_back = may_put_back
        self.put_back: list[str] = []  # ids of trials that ran out of memory and were put back

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Take in an epoch; Ray calls this before all other hooks."""
        book, number = self._books[trial.config["book"]], trial.config["number"]
        if not book.is_open(number):  # interrupted while this epoch ran: it will be run again
            return str(TrialScheduler.STOP)
        with leaving_when_full(result.get("error")):
            if self._may_put_back and result.get("out_of_memory"):
                self.put_back.append(trial.config["trial_id"])
                book.put_back(number, result["error"])
                return str(TrialScheduler.STOP)
            goes_on = book.epoch_done(number, result)
            if goes_on and self._out_of_time():
                book.stop(number, "time budget")
                goes_on = False
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl


class BookCallback(Callback):
    """Tells the books what Ray's schedulers do not hear of: that a checkpoint is stored, and whether a trial whose
    worker was lost is run again or given up. Deletes checkpoints that are of no more use.

    Args:
        books: by name.
    """

    def __init__(self, books: Mapping[str, Book]) -> None:
        self._books = books

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A checkpoint is in the storage; Ray calls this before it acts on what the scheduler said of the epoch."""
        book, number = self._books[trial.config["book"]], trial.config["number"]
        with leaving_when_full():
            if book.is_open(number):
                book.checkpointed(number)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray is done with the trial; whatever it still had to save is in the storage."""
        book, number, checkpoint = self._books[trial.config["book"]], trial.config["number"], trial.checkpoint
        if checkpoint is None or book.needs_checkpoint(number):
            return
        with contextlib.suppress(OSError):  # the storage does not answer: what is left goes at the end of the run
            checkpoint.filesystem.delete_dir(checkpoint.path)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray runs the trial again, from its last checkpoint."""
        book, number, error = self._books[trial.config["book"]], trial.config["number"], _error_of(trial)
        with leaving_when_full(error):
            if book.is_open(number):
                book.restarted(number, error)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray gave the trial up."""
        book, number, error = self._books[trial.config["book"]], trial.config["number"], _error_of(trial)
        with leaving_when_full(error):
            if book.is_open(number):
                book.given_up(number, error)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl


def _error_of(trial: Trial) -> str:
    """Return Ray's account of why a worker was lost; it lies in the driver's folder and reaches the storage later."""
    try:
        return Path(trial.local_path, EXPR_ERROR_FILE).read_text().strip()
    except OSError:
        return "its worker was lost"
