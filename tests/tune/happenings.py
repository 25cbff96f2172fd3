"""What happens in the middle of a search or a confirmation that runs in this process, at a moment that a test names."""

from collections.abc import Callable

from ray import tune as ray_tune

from tune import report


class Happens(ray_tune.Callback):
    """Calls functions when so many epochs were trained.

    Args:
        functions: by number of the epoch, counted over all trials, from 1.
        of: what the ids of the trials begin with that count.
    """

    def __init__(self, functions: dict[int, Callable[[], object]], of: str = "") -> None:
        self._functions, self._of, self._count = functions, of, 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self._count += trial.config["trial_id"].startswith(self._of)
        self._functions.pop(self._count, lambda: None)()

    def __getstate__(self):
        return {}  # Ray pickles it


def let_happen(monkeypatch, functions: dict[int, Callable[[], object]], of: str = "") -> None:
    """Have it happen in the commands that the test runs from now on."""
    happens = Happens(functions, of)
    monkeypatch.setattr(report, "loggers", lambda *_, **__: [happens])
