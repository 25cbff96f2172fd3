"""An Optuna study in memory, in step with the one in the database: everything is read here, and written there first.

The database is the one truth about a search. It is read once, when the study is opened; after that this process is the
only one that writes to it, so what is in memory is what it holds. A trial is drawn in memory and then written with all
of its parameters in one transaction: a kill finds it whole or not at all.
"""

import bisect
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tune.search.sampler import RepeatableTPESampler
from tune.storage.trial_rows import TrialRows

__all__ = ["StoredStudy"]


class StoredStudy:
    """The trials of a study, and the few writes that a search needs.

    Args:
        name: of the study in the database; made there where it is not.
        storage: the database, Optuna's own and not its cached view.
        seed: of the draws.
        startup_trials: drawn at random before TPE has anything to go by.
    """

    def __init__(self, name: str, storage: RDBStorage, *, seed: int, startup_trials: int) -> None:
        optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        stored_id = storage.get_study_id_from_name(name)
        self._database, self._rows = storage, TrialRows(storage, stored_id)
        self._memory = InMemoryStorage()
        # No pruner: the rungs prune, at the same epochs whatever the order in which results come in.
        self._study = optuna.create_study(
            storage=self._memory,
            direction="maximize",
            sampler=RepeatableTPESampler(seed, startup_trials, self._excerpt),
            pruner=optuna.pruners.NopPruner(),
        )
        self._id = self._memory.get_study_id_from_name(self._study.study_name)
        self._stored_ids: list[int] = []  # of the trials in the database, by number
        self._history = _History()
        for trial in self._rows.read():
            self._stored_ids.append(trial._trial_id)
            handed: Any = _Handed(trial)
            self._memory.create_new_trial(self._id, handed)
            self._history.add(trial)
        self._waiting = {trial.number for trial in self.trials(TrialState.WAITING)}
        self._running = {trial.number for trial in self.trials(TrialState.RUNNING)}

    def __len__(self) -> int:
        return len(self._stored_ids)

    def __getitem__(self, number: int) -> FrozenTrial:
        """Return a trial as it stands; not to be changed."""
        return self._memory.get_trial(number)  # there is no other study, so ids are numbers

    @property
    def waiting(self) -> list[int]:
        """Numbers of the trials that are to go on."""
        return sorted(self._waiting)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in some states, or all; not to be changed."""
        return self._memory.get_all_trials(self._id, deepcopy=False, states=states or None)

    def ask(self, first_point: Mapping[str, Any] | None = None) -> optuna.Trial:
        """Return a trial to draw from, a waiting one first; :meth:`save` writes what was drawn.

        Args:
            first_point: values of a new trial that are not to be drawn.
        """
        if self._waiting:
            number = min(self._waiting)
            self._waiting.discard(number)
            self._memory.set_trial_state_values(number, TrialState.RUNNING)
            self._running.add(number)
            return optuna.Trial(self._study, number)
        if first_point is not None:
            self._study.enqueue_trial(dict(first_point))
        trial = self._study.ask()
        self._running.add(trial.number)
        return trial

    def save(self, number: int, user_attrs: Mapping[str, Any]) -> None:
        """Write a trial that runs now."""
        for key, value in user_attrs.items():
            self._memory.set_trial_user_attr(number, key, value)
        trial = self[number]
        if number == len(self._stored_ids):
            newest = self._stored_ids[-1] if self._stored_ids else -1
            self._stored_ids.append(self._rows.create(trial, after=newest))
            return
        stored_id = self._stored_ids[number]
        known = self._database.get_trial(stored_id).params
        missing = {name: value for name, value in trial.params.items() if name not in known}
        self._rows.run_again(stored_id, trial, missing)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Keep the value of a running trial's epoch; it is in the database with the trial's next step, if not now."""
        self._rows.report(self._stored_ids[number], epoch, value)
        self._memory.set_trial_intermediate_value(number, epoch, value)

    def end(self, number: int, state: TrialState, user_attrs: Mapping[str, Any]) -> None:
        """Write how a running trial ended; its value is that of its last epoch, unless it failed."""
        trial = self[number]
        step = trial.last_step
        value = None if step is None or state == TrialState.FAIL else trial.intermediate_values[step]
        self._rows.end(self._stored_ids[number], state, value, user_attrs)
        for key, content in user_attrs.items():
            self._memory.set_trial_user_attr(number, key, content)
        self._memory.set_trial_state_values(number, state, None if value is None else [value])
        self._running.discard(number)
        self._history.add(self[number])

    def wait(self, number: int) -> None:
        """Write that a running trial is to go on later."""
        self._rows.wait(self._stored_ids[number])
        self._memory.set_trial_state_values(number, TrialState.WAITING)
        self._running.discard(number)
        self._waiting.add(number)

    def _excerpt(self) -> list[FrozenTrial]:
        numbers = self._history.numbers()
        return [self[number] for number in sorted({*numbers, *self._running})]


class _Handed:
    """A trial that its new owner need not copy: Optuna's storage in memory would, for half of the time of opening."""

    def __init__(self, trial: FrozenTrial) -> None:
        self._trial = trial

    def __deepcopy__(self, memo: Any) -> FrozenTrial:
        return self._trial


class _History:
    """Which of the ended trials the next draw goes by: all, and of very many the best and the newest.

    TPE tells the best tenth, and at most 25, from all others, and weighs these the less the older they are. Going
    through ten thousand for each draw would take longer the longer a search runs, and say no more.
    """

    BEST, NEWEST = 25, 225

    def __init__(self) -> None:
        self._best: list[tuple[tuple[bool, int, float], int]] = []  # rank and number, the lowest first
        self._newest: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, trial: FrozenTrial) -> None:
        """Take in a trial, if it has ended with a value."""
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or trial.value is None:
            return
        self._count += 1
        # As TPE ranks them: those that ended, then the stopped ones by how far they came.
        rank = (trial.state == TrialState.COMPLETE, trial.last_step or 0, trial.value)
        bisect.insort(self._best, (rank, trial.number))
        bisect.insort(self._newest, trial.number)
        if len(self._best) > self.BEST:
            del self._best[0]
        del self._newest[: -self.NEWEST - self.BEST]

    def numbers(self) -> list[int]:
        """Return the numbers of those that count."""
        best = {number for _, number in self._best}
        others = [number for number in self._newest if number not in best]
        return sorted([*best, *others[-self.NEWEST :]])
