"""The study of one loss, killed at any of its writes and opened again."""

import pytest
from optuna.trial import TrialState

from tests.tune.search.invented_trials import StudyOnDisk, curve, record
from tune.records import LossRecords
from tune.storage.trial_rows import TrialRows
from tune.study import Checkpoint

MAX_EPOCHS = 5  # with rungs at 1 and 3, and checkpoints at 2, 4 and 5


class Killed(BaseException):
    pass


class KillSwitch:
    """Raises in the n-th call of any of a study's or its records' writing methods: before it, or just after."""

    def __init__(self, monkeypatch, at, after):
        self.calls, self.at, self.after = 0, at, after
        storage, records = TrialRows, LossRecords
        for owner, names in (
            (storage, ("create", "run_again", "report", "end", "wait")),
            (records, ("event", "epoch")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, method):
        def call(*arguments, **options):
            self.calls += 1
            mine = self.calls == self.at
            if mine and not self.after:
                raise Killed
            result = method(*arguments, **options)
            if mine:
                raise Killed
            return result

        return call


def search_with_kills(on_disk, checkpoints):
    """Run a search, opening the study again after each kill; checkpoints are what a trial had saved."""
    deleted = {}
    while True:
        try:
            study = on_disk.open(checkpoints=checkpoints)
            while (suggestion := study.ask()) is not None:
                epoch = suggestion.checkpoint.epoch if suggestion.checkpoint else 0
                goes_on = True
                while goes_on:
                    epoch = min(epoch + 1, MAX_EPOCHS)  # at its full length, a trial reports the last one again
                    goes_on = study.on_epoch(suggestion.number, record(epoch, curve(suggestion.config, epoch)))
                    # Ray saves after it has asked the scheduler; here every other epoch, and the last.
                    if epoch % 2 == 0 or epoch == MAX_EPOCHS:
                        checkpoints[suggestion.trial_id] = Checkpoint(epoch, "/somewhere")
                        if study.is_running(suggestion.number):
                            study.on_checkpoint(suggestion.number)
                if not study.needs_checkpoint(suggestion.number):
                    deleted[suggestion.trial_id] = checkpoints.pop(suggestion.trial_id, None)
            assert checkpoints[study.trial_id(study.best().number)].epoch == MAX_EPOCHS
            return study
        except Killed:
            full = [study.trial_id(t.number) for t in on_disk.trials() if t.state == TrialState.COMPLETE]
            saved = checkpoints | deleted
            assert all(saved[trial_id].epoch == MAX_EPOCHS for trial_id in full)


@pytest.mark.parametrize(
    ("loss", "stride"),
    [
        ("arcface", 11),
        ("adaloss", 13),
        pytest.param("arcface", 1, marks=pytest.mark.slow),
        pytest.param("adaloss", 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_write_changes_nothing_in_the_end(tmp_path, loss, stride, after):
    """The same trials, states, values and events as a search that nothing interrupted, whatever the write."""

    def search(folder, at):
        folder.mkdir()
        on_disk = StudyOnDisk(folder, loss=loss, trials=5, max_epochs=MAX_EPOCHS)
        with pytest.MonkeyPatch.context() as patch:
            switch = KillSwitch(patch, at, after)
            study = search_with_kills(on_disk, {})
        trials = [(t.number, t.state, t.params, t.intermediate_values, t.value) for t in on_disk.trials()]
        endings = [event for event in on_disk.events() if event[1] in {"finished", "stopped", "failed"}]
        epochs = [(e["trial_id"], e["epoch"], e["val_accuracy"]) for e in LossRecords(folder / loss).read_epochs()]
        return switch.calls, trials, sorted(endings), sorted(epochs), study.best().number

    calls, *undisturbed = search(tmp_path / "undisturbed", at=-1)
    assert calls > 40
    for at in range(1, calls + 1, stride):
        _, *disturbed = search(tmp_path / f"{at}", at)
        assert disturbed == undisturbed, f"killed at write {at} of {calls}"
