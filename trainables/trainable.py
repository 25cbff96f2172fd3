"""The Ray trainable: one epoch a step, actors reused without anything leaking from one trial to the next.

What trains is imported by the workers, where they need it: the program that starts them reads this module as well, and
torch would cost it seconds for nothing.
"""

import gc
import hashlib
import io
import json
import math
import os
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs
import ray
from ray import tune as ray_tune

from trainables.config import TrialConfig
from trainables.loss_code import register_losses
from trainables.trial_data import TrialData

if TYPE_CHECKING:
    from trainables.placed_data import PlacedData
    from trainables.training import Trainer

__all__ = [
    "CHECKPOINT_INDEX",
    "CHECKPOINT_INTERVAL_S",
    "SHOULD_CHECKPOINT",
    "STATE_FILE",
    "WEIGHTS_FILE",
    "MarginTrainable",
]

STATE_FILE = "state.pt"  # all that the rest of the trial depends on
WEIGHTS_FILE = "weights.pt"  # model and loss alone, of a trial that reached its full length
CHECKPOINT_INDEX = "checkpoint.json"  # which trial and epoch, and the digests of the other files

SHOULD_CHECKPOINT = "should_checkpoint"  # the key of a result with which a Ray trainable asks for a checkpoint

# A checkpoint costs some 50 ms on a local disk; of epochs shorter than this only some are worth one.
CHECKPOINT_INTERVAL_S = 5.0


class MarginTrainable(ray_tune.Trainable):
    """Trains one configuration of one loss.

    The configuration has ``trial`` (fields of TrialConfig), ``trial_id``, ``checkpoint`` (path or URI of a checkpoint
    folder to go on from, or None), ``data`` (a TrialData, or where it lies in Ray's object store), ``threads`` and
    ``gpus``, the trial's share of a GPU: with none it runs on the CPU. ``checkpoint_interval_s`` is how many seconds
    are at least between two checkpoints of a trial under way, ``niceness`` how far its process gives way to others.

    An exception in a trial is the trial's result, not the actor's end: it is reported as ``error``, so it is on record
    and is not tried again. Only the loss of a worker makes Ray run the trial again.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare the first trial of this process."""
        import torch

        self._device: torch.device | None = None
        torch.backends.cudnn.deterministic = True
        self._data_from: TrialData | ray.ObjectRef | None = None
        self._placed: PlacedData | None = None
        self._trainer: Trainer | None = None
        self._has_lost_gpu = False
        self._is_warm = False
        self._take(config["data"])
        self._prepare(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial; everything that trains is built anew.

        If an earlier trial has left the GPU unusable for this process, the first step raises, and Ray runs the trial
        again in another process.
        """
        self._has_lost_gpu = self._loses_gpu()
        if not self._has_lost_gpu:
            self._keep_imports()
            self._take(new_config["data"])
            self._prepare(new_config)
        return True

    def _keep_imports(self) -> None:
        """Have later collections, one a trial, not go through what the first trial has had imported.

        It lives as long as this process, and to look at it takes a third of a second, as long as some epochs.
        """
        if not self._is_warm:
            self._release()
            gc.freeze()
            self._is_warm = True

    def _loses_gpu(self) -> bool:
        """Return whether the last trial's error has ended this process's CUDA context; nothing can bring it back."""
        import torch

        if self._error is None or self._device is None or self._device.type != "cuda":
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def _prepare(self, config: dict[str, Any]) -> None:
        import torch

        from trainables.devices import device_for, device_name
        from trainables.placed_data import PlacedData
        from trainables.training import Trainer

        self._error: str | None = None
        self._is_out_of_memory = False
        self._record: dict[str, Any] | None = None  # of the newest epoch
        self._trial_id = config["trial_id"]
        gpus = config.get("gpus", 0)
        self._place = {"device": None, "precision": config["trial"].get("precision"), "gpus": gpus}
        self._checkpoint_interval_s = config.get("checkpoint_interval_s", CHECKPOINT_INTERVAL_S)
        self._last_checkpoint_time = time.monotonic()
        self._release()
        _give_way(config.get("niceness", 0))
        # Ray exports OMP_NUM_THREADS, on launched clusters always as 1; the trial's own share is what counts.
        torch.set_num_threads(config["threads"])
        try:
            self._device = device_for(gpus)
            self._place["device"] = device_name(self._device)
            if self._placed is None:  # for the first trial with this data, or where there was no room for it before
                self._placed = PlacedData.of(self._data, self._device)
            register_losses(self._data.losses)
            trial = TrialConfig.from_dict(config["trial"])
            self._trainer = Trainer(trial, self._placed.train, self._placed.validation, self._data.num_classes)
            self._place["precision"] = self._trainer.precision
            if config.get("checkpoint"):
                filesystem, path = pyarrow.fs.FileSystem.from_uri(config["checkpoint"])
                with filesystem.open_input_stream(f"{path}/{STATE_FILE}") as file:
                    self._load(file.read())
        except Exception as error:  # noqa: BLE001  reported by the first step: setup has no way to report
            self._broke(error)

    def _take(self, data: "TrialData | ray.ObjectRef") -> None:
        """Read other data than that of the trial before; what is placed on the device stays if it is the same."""
        self.config.pop("data", None)  # Ray sends the configuration back with every result
        is_shared = isinstance(data, ray.ObjectRef)  # whose reference comes anew with each trial
        if data is self._data_from or (is_shared and data == self._data_from):
            return
        self._placed = None
        self._data: TrialData = ray.get(data) if is_shared else data
        self._data_from = data

    def _broke(self, error: Exception) -> None:
        from trainables.devices import is_out_of_memory

        self._error = "".join(traceback.format_exception(error))
        self._is_out_of_memory = is_out_of_memory(error)

    def step(self) -> dict[str, Any]:
        """Train one epoch and return what ``epochs.jsonl`` says of it, or an ``error`` and whether memory ran out.

        With test images, the last epoch's result also has what :meth:`Trainer.examine` says. A trial restored from
        the end of its last epoch trains no further: it reports that epoch again. The last epoch always asks for a
        checkpoint: a search's trial is finished when that is there.

        Raises:
            RuntimeError: this process has lost its GPU, through no fault of this trial.
        """
        if self._has_lost_gpu:
            raise RuntimeError("an earlier trial left this process without its GPU")
        epoch = 0
        if self._trainer is not None:
            epoch = min(self._trainer.epoch + 1, self._trainer.config.max_epochs)
        if self._error is None:
            try:
                return {**self._epoch(), **self._place}
            except Exception as error:  # noqa: BLE001  whatever broke this trial is its result
                self._broke(error)
        if self._is_out_of_memory:
            self._release()  # others need it now, and this actor's next trial may be long in coming
        judged = {} if self._data.validation_images is None else {"val_accuracy": math.nan}
        error_fields = {"error": self._error, "out_of_memory": self._is_out_of_memory}
        return {"epoch": epoch, **judged, **error_fields, **self._place}

    def _epoch(self) -> dict[str, Any]:
        trainer, placed = self._trainer, self._placed
        assert trainer is not None
        assert placed is not None
        result: dict[str, Any] = {}
        if not trainer.is_complete:
            self._record = trainer.train_epoch()
        if trainer.is_complete or time.monotonic() - self._last_checkpoint_time >= self._checkpoint_interval_s:
            self._last_checkpoint_time = time.monotonic()
            result[SHOULD_CHECKPOINT] = True
        assert self._record is not None
        result |= self._record
        if placed.test is not None and trainer.is_complete and not math.isnan(self._record["train_accuracy"]):
            result |= trainer.examine(placed.test)
        return result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save as Ray does, and leave nothing in the folder for temporary files if that fails: the disk may be full."""
        if checkpoint_dir is not None:
            return super().save(checkpoint_dir)
        with tempfile.TemporaryDirectory() as folder:
            return super().save(folder)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the trial's state with its newest record, and its weights alone at its full length."""
        assert self._trainer is not None
        folder = Path(checkpoint_dir)
        state = {**self._trainer.state_dict(), "record": self._record}
        index = {
            "trial_id": self._trial_id,
            "epoch": self._trainer.epoch,
            "sha256": _save(state, folder / STATE_FILE),
        }
        if self._trainer.is_complete:
            weights = {key: state[key] for key in ("config", "epoch", "model", "loss")}
            weights["data"] = self._data.describe()
            own = [code.to_dict() for code in self._data.losses if code.name == state["config"]["loss"]]
            if own:
                weights["loss_code"] = own[0]
            index["weights_sha256"] = _save(weights, folder / WEIGHTS_FILE)
        (folder / CHECKPOINT_INDEX).write_text(json.dumps(index))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from a checkpoint of this trial, after its worker was lost."""
        if self._error is not None:
            return  # this trial could not even be built; that is what there is to report
        try:
            self._load((Path(checkpoint_dir) / STATE_FILE).read_bytes())
        except Exception as error:  # noqa: BLE001  reported by the next step
            self._broke(error)

    def _load(self, content: bytes) -> None:
        import torch

        assert self._trainer is not None
        state = torch.load(io.BytesIO(content), map_location=self._device, weights_only=True)
        self._trainer.load_state_dict(state)
        self._record = state["record"]

    def cleanup(self) -> None:
        """Free what the last trial held."""
        if not self._has_lost_gpu:
            self._release()

    def _release(self) -> None:
        import torch

        self._trainer = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _give_way(niceness: int) -> None:
    """Have this process give way to others as far as it is asked to; only root could take that back."""
    if hasattr(os, "setpriority") and niceness > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


def _save(value: dict[str, Any], path: Path) -> str:
    """Write what torch can load again, and return the file's digest."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
