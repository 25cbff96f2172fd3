"""The study of one loss on disk, and the hand that drives it, in the place of Ray."""

import functools
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import optuna

from search_spaces import SEARCH_SPACES
from tune.records import LossRecords
from tune.search.loss_study import LossStudy, SearchPlan

MAX_EPOCHS = 9


@functools.cache
def empty_database():
    """The content of a database without studies: to make its tables takes longer than most of a search in it."""
    with tempfile.TemporaryDirectory() as folder:
        optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db").engine.dispose()
        return Path(folder, "study.db").read_bytes()


class StudyOnDisk:
    """A study on disk that can be opened again and again, as after a kill."""

    def __init__(self, folder, loss="arcface", trials=8, **options):
        self.folder, self.loss = folder, loss
        given = {"max_epochs": MAX_EPOCHS, "grace_epochs": 1, "reduction_factor": 3, "seed": 0, **options}
        self.plan = SearchPlan(trials, **given)

    def open(self, checkpoints=None, **changes):
        database = Path(self.folder, "study.db")
        if not database.exists():
            database.write_bytes(empty_database())
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{database}", skip_compatibility_check=True, skip_table_creation=True
        )
        records = LossRecords(self.folder / self.loss)
        plan = replace(self.plan, **changes)
        return LossStudy(f"digits-{self.loss}", SEARCH_SPACES[self.loss], storage, records, plan, checkpoints)

    def trials(self):
        storage = f"sqlite:///{self.folder}/study.db"
        return optuna.load_study(study_name=f"digits-{self.loss}", storage=storage).trials

    def events(self):
        return [(e["trial_id"], e["event"]) for e in LossRecords(self.folder / self.loss).read_events()]


def curve(config, epoch):
    """A made-up but smooth accuracy: better near a learning rate of 0.1, growing with the epochs."""
    return (1 - abs(math.log10(config["learning_rate"]) + 1) / 3) * epoch / (epoch + 1)


def record(epoch, accuracy):
    return {"epoch": epoch, "val_accuracy": accuracy, "seconds": 1.0}


def run_trial(study, suggestion, accuracy=curve):
    """Run a suggested trial to its end and return the number of its epochs."""
    epoch = suggestion.checkpoint.epoch if suggestion.checkpoint else 0
    goes_on = True
    while goes_on:
        epoch += 1
        goes_on = study.on_epoch(suggestion.number, record(epoch, accuracy(suggestion.config, epoch)))
    if study.is_running(suggestion.number):
        study.on_checkpoint(suggestion.number)
    return epoch


def run_all(study):
    while (suggestion := study.ask()) is not None:
        run_trial(study, suggestion)
