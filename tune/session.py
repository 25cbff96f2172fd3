"""What a command works with while it lasts: the data, one Ray, the run's lock, the user's signals.

A command loads its data once and enters Ray once, however many stages it goes through: a search and its confirmation
share both. Whatever can be known without Ray is checked before Ray is started.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from rich.console import Console

from trainables.data import (
    Split,
    TrainingData,
    check_test_data,
    count_among,
    load_test_data,
    load_training_data,
)
from trainables.errors import UserError
from trainables.registry import MODELS, default_model
from trainables.trial_data import TrialData
from tune.budgets import default_budget
from tune.cluster.connection import connect, is_local
from tune.cluster.gpu_share import slots_for
from tune.cluster.node_check import NodeCheck
from tune.cluster.slots import Slots
from tune.interruption import Interruption
from tune.opening import Opening
from tune.run_file import locked, note_repeated_test_images, running_command
from tune.settings import SearchSettings
from tune.storage.checkpoints import CheckpointStore
from tune.trials import search_data

__all__ = ["Session", "check_precision", "loaded", "object_bytes"]


class Session:
    """The data of a run from the start, and Ray while :meth:`connected`.

    Args:
        settings: of the run.
        is_tested: whether the test split will be read in the end; a command that could not, does not start.
        console: where what happens is shown.
        callbacks: further ones for Ray.
        opening: where it is told what happens until the first trials run, or None.

    Raises:
        UserError: the data is missing or broken, or does not fit the model.
    """

    def __init__(
        self,
        settings: SearchSettings,
        *,
        is_tested: bool,
        console: Console,
        callbacks: Sequence[ray_tune.Callback] = (),
        opening: Opening | None = None,
    ) -> None:
        self.console, self.callbacks = console, callbacks
        self.interruption = Interruption()
        self._is_tested = is_tested
        self._opening = Opening(None) if opening is None else opening
        self._opening.step(f"reading {settings.dataset}")
        self.data, self.settings = loaded(settings, is_tested=is_tested)
        if settings.storage is not None:
            CheckpointStore(settings.checkpoint_root).check_writable()
        self._slots: Slots | None = None
        self._node_check: NodeCheck | None = None

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Hold Ray, the run's folder and the user's signals while the context lasts.

        Raises:
            UserError: there is no such cluster, it has not what a trial needs, or another search writes to the folder.
        """
        settings = self.settings
        here = is_local(settings.address)
        self._opening.step("starting Ray on this machine" if here else "joining the Ray cluster")
        with connect(settings.address, object_bytes(self.data, is_tested=self._is_tested)):
            self._slots = slots_for(settings, self.data, self.console)
            check_precision(settings, self._slots)
            with (
                NodeCheck(settings.storage_root, settings.own_losses) as self._node_check,
                locked(settings.folder),
                self.interruption.listening(),
            ):
                yield

    @property
    def slots(self) -> Slots:
        """How trials share the hardware."""
        assert self._slots is not None, "not connected"
        return self._slots

    def trouble(self) -> str | None:
        """Return what makes going on senseless, such as a node with other code, or None."""
        assert self._node_check is not None, "not connected"
        return self._node_check.problem()

    @cached_property
    def command(self) -> dict[str, Any]:
        """What runs this command, for the record; asked for once."""
        return running_command(self.slots)

    @cached_property
    def search_data(self) -> TrialData:
        """What trials see that are judged by the validation part; all such stages share it."""
        return search_data(self.data, self.settings.own_losses)

    def read_test_split(self) -> Split:
        """Read the test split: only once everything is chosen. What is odd about it is told.

        That is images that are also trained on, and classes of which it has none.
        """
        test = load_test_data(self.settings.dataset, _data_dir(self.settings))
        known = count_among(test.images, self.data.train.images, self.data.validation.images)
        note_repeated_test_images(self.settings, known)
        if known:
            self.say(f"{known} of the {len(test.labels)} test images are trained on as well, pixel for pixel")
        if untested := self.data.spec.classes_missing_in(test.labels):
            self.say(f"{untested} no test image")
        return test

    def opened(self, trials: int) -> None:
        """Say that trials begin, of which there are so many; what they wait for is shown by their progress."""
        self._opening.end(min(trials, self.slots.concurrent))

    def say(self, line: str) -> None:
        """Show a line, as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def loaded(settings: SearchSettings, *, is_tested: bool) -> tuple[TrainingData, SearchSettings]:
    """Return the data of a run, and its settings with a model that takes the images.

    Raises:
        UserError: the data is missing or broken, or does not fit the model.
    """
    data_dir = _data_dir(settings)
    data = load_training_data(settings.dataset, data_dir, train_size=settings.train_size, seed=settings.seed)
    if is_tested:
        check_test_data(settings.dataset, data_dir)
    return data, _with_model(settings, data)


def check_precision(settings: SearchSettings, slots: Slots) -> None:
    """Raise UserError where trials shall compute in what their hardware has not."""
    if settings.precision == "fp16" and not slots.gpus_per_trial:
        raise UserError("--precision fp16 needs GPUs; use bf16, float32 or auto on CPUs")


def object_bytes(data: TrainingData, *, is_tested: bool) -> int:
    """Return the bytes of images that Ray's object store has to hold at a time.

    A confirmation holds training and validation images, and then these once more in one piece with the test images.
    """
    searched = data.train.images.nbytes + data.validation.images.nbytes
    tested = data.spec.test_size * data.train.images[0].nbytes
    return int(2 * searched + tested if is_tested else searched)


def _data_dir(settings: SearchSettings) -> Path | None:
    return Path(settings.data_dir) if settings.data_dir else None


def _with_model(settings: SearchSettings, data: TrainingData) -> SearchSettings:
    """Return the settings with a model that takes the images."""
    if not settings.model:
        suited = default_budget(settings.dataset).model
        settings = replace(settings, model=suited or default_model(data.spec.image_shape))
    if data.spec.image_shape not in MODELS[settings.model].image_shapes:
        shape = "x".join(map(str, data.spec.image_shape))
        raise UserError(f"--model {settings.model} does not take the {shape} images of {settings.dataset}")
    return settings
