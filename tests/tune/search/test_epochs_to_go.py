"""How many epochs a loss's study may be expected to train still, over searches of invented trials."""

import math
import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.search.invented_trials import MAX_EPOCHS, StudyOnDisk, record, run_all, run_trial
from tune.search.rungs import Rungs
from tune.study import Checkpoint

RUNGS = (1, MAX_EPOCHS, 3)  # of every StudyOnDisk


def test_at_first_every_trial_is_to_come_and_in_the_end_none(tmp_path):
    study = StudyOnDisk(tmp_path, trials=8).open()
    assert study.epochs_to_go() == Rungs(*RUNGS).epochs_to_go({}, 8)
    run_all(study)
    assert study.epochs_to_go() == 0


def test_a_trial_counts_from_the_epoch_that_it_is_in(tmp_path):
    study = StudyOnDisk(tmp_path, trials=1).open()
    number = study.ask().number
    assert study.epochs_to_go() == MAX_EPOCHS
    for epoch in range(1, MAX_EPOCHS + 1):
        study.on_epoch(number, record(epoch, 0.5))
        assert study.epochs_to_go() <= MAX_EPOCHS - epoch  # less where a rung may stop it
    assert study.epochs_to_go() == 0  # its last checkpoint is awaited, no epoch
    study.on_checkpoint(number)
    assert study.epochs_to_go() == 0


def test_an_interrupted_trial_has_behind_it_what_its_checkpoint_has(tmp_path):
    on_disk = StudyOnDisk(tmp_path, trials=1)
    study = on_disk.open()
    trial = study.ask()
    for epoch in range(1, 6):
        study.on_epoch(trial.number, record(epoch, 0.5))
    study.requeue_running()
    assert study.epochs_to_go() == MAX_EPOCHS
    study.set_checkpoints({trial.trial_id: Checkpoint(5, "somewhere")})
    assert study.epochs_to_go() == MAX_EPOCHS - 5
    again = on_disk.open({trial.trial_id: Checkpoint(5, "somewhere")})
    assert again.epochs_to_go() == MAX_EPOCHS - 5
    again.ask()
    assert again.epochs_to_go() == MAX_EPOCHS - 5


def test_more_trials_are_more_epochs(tmp_path):
    on_disk = StudyOnDisk(tmp_path, trials=2)
    run_all(on_disk.open())
    assert on_disk.open().epochs_to_go() == 0
    assert 1 <= on_disk.open(trials=3).epochs_to_go() <= MAX_EPOCHS


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), trials=st.integers(1, 8))
def test_it_is_bounded_all_the_way_and_falls_to_zero(seed, trials):
    """Trials run side by side, an epoch of any of them at a time, some diverge, and some are put back."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        study = StudyOnDisk(Path(folder), trials=trials).open()
        epochs: dict[int, int] = {}
        is_open = True
        while is_open or epochs:
            counts = study.counts
            most = MAX_EPOCHS * (counts.asked - counts.done) - sum(epochs.values())
            assert 0 <= study.epochs_to_go() <= most + 1e-9
            if is_open and (not epochs or chance.random() < 0.5):
                suggestion = study.ask()
                is_open = suggestion is not None
                if suggestion is not None:
                    epochs[suggestion.number] = 0
                continue
            number = chance.choice(sorted(epochs))
            if chance.random() < 0.05:
                study.requeue(number, "out of memory")
                del epochs[number]
                is_open = True
                continue
            epochs[number] += 1
            accuracy = math.nan if chance.random() < 0.05 else chance.random()
            if not study.on_epoch(number, record(epochs[number], accuracy)):
                if study.is_running(number):
                    study.on_checkpoint(number)
                del epochs[number]
        assert study.counts.done == trials
        assert study.epochs_to_go() == 0


def test_looking_changes_nothing(tmp_path):
    """It is asked at every redraw, in the middle of everything."""
    study = StudyOnDisk(tmp_path, trials=3).open()
    run_trial(study, study.ask())
    trial = study.ask()
    goes_on = study.on_epoch(trial.number, record(1, 0.4))
    first = study.epochs_to_go()
    assert [study.epochs_to_go() for _ in range(3)] == [first] * 3
    assert study.is_running(trial.number) == goes_on
