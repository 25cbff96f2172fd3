"""A search, from settings to records: opens the books, lets Ray run the trials, and leaves a run that can go on."""

import contextlib
import fcntl
import itertools
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from ray import tune as ray_tune
from rich.console import Console

from search_spaces import SEARCH_SPACES
from trainables.config import TrialConfig
from trainables.data import TrainingData, load_training_data
from trainables.errors import UserError
from trainables.models import MODELS, default_model
from trainables.trainable import MarginTrainable, TrialData
from tune import provenance
from tune.checkpoints import CheckpointStore
from tune.cluster import Interruption, Slots, connect, plan_slots
from tune.progress import Progress
from tune.records import LossRecords, read_json, read_records, write_json
from tune.scheduler import StudyScheduler, WorkerLosses
from tune.searcher import StudySearcher
from tune.settings import RUN_FILE, SearchSettings, check_output
from tune.study import LossStudy, Suggestion

__all__ = ["Outcome", "run_search"]

STUDY_FILE = "study.db"
MAX_WORKER_LOSSES = 3  # a trial whose worker is lost more often is given up


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Args:
        folder: the run.
        interrupted: the signal's name, or None.
        failures: last line of the first failed trial's error, by loss, for losses of which every trial failed.
    """

    folder: Path
    interrupted: str | None
    failures: dict[str, str]


def run_search(settings: SearchSettings, *, resume: bool, console: Console) -> Outcome:
    """Run a search, or go on with one, until it is done or interrupted.

    Args:
        settings: of the search; its ``trials`` may be more than a resumed run had.
        resume: whether the run exists.
        console: where progress is shown.

    Raises:
        UserError: the search cannot run; nothing was written, or a resumed run is as it was.
    """
    settings.validate()
    check_output(settings)
    if not resume and (settings.folder / RUN_FILE).exists():
        raise UserError(f"{settings.folder} exists already: add --resume to go on with it, or choose another --name")
    data = _load_data(settings)
    if not settings.model:
        settings = replace(settings, model=default_model(data.spec.image_shape))
    if data.spec.image_shape not in MODELS[settings.model].image_shapes:
        shape = "x".join(map(str, data.spec.image_shape))
        raise UserError(f"--model {settings.model} does not take the {shape} images of {settings.dataset}")
    store = CheckpointStore(settings.checkpoint_root)
    if settings.storage is not None:
        store.check_writable()
    interruption = Interruption()
    with connect(settings.address, data.train.images.nbytes + data.validation.images.nbytes):
        slots = plan_slots(settings.model, settings.cpus_per_trial, settings.gpus_per_trial, settings.max_concurrent)
        if settings.precision == "fp16" and not slots.gpus_per_trial:
            raise UserError("--precision fp16 needs GPUs; use bf16, float32 or auto on CPUs")
        with _locked(settings.folder), interruption.listening():
            _write_run_file(settings, data, slots, resume)
            studies = _open_studies(settings, data, store)
            _announce(settings, data, slots, console)
            _run_trials(settings, data, slots, studies, interruption, console)
            _keep_best(settings, studies, store)
    return Outcome(
        folder=settings.folder,
        interrupted=interruption.signal.name if interruption.signal else None,
        failures=_total_failures(settings, studies),
    )


def _load_data(settings: SearchSettings) -> TrainingData:
    data_dir = Path(settings.data_dir) if settings.data_dir else None
    return load_training_data(settings.dataset, data_dir, train_size=settings.train_size, seed=settings.seed)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second search out of the run's folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock_file = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--output: {folder} cannot be written: {error.strerror}") from None
    with lock_file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another search is writing to {folder}; wait for it, or choose another --name") from None
        yield


def _write_run_file(settings: SearchSettings, data: TrainingData, slots: Slots, resume: bool) -> None:
    """Write provenance; a resumed run must have the same data, and gets one more invocation."""
    path = settings.folder / RUN_FILE
    invocation = {
        "time": time.time(),
        "command": shlex.join(sys.argv),
        "resumed": resume,
        "versions": provenance.versions(),
        "git": provenance.git_state(),
        "hardware": provenance.hardware(),
        "slots": {
            "cpus_per_trial": slots.cpus_per_trial,
            "gpus_per_trial": slots.gpus_per_trial,
            "concurrent": slots.concurrent,
            "nodes": slots.nodes,
        },
    }
    dataset = {
        "name": settings.dataset,
        "source": data.source,
        "fingerprint": data.fingerprint,
        "split_sha256": data.split_sha256,
        "train_images": len(data.train.labels),
        "validation_images": len(data.validation.labels),
        "classes": list(data.spec.class_names),
        "partial": settings.train_size is not None,
    }
    earlier: list[dict[str, Any]] = []
    if resume:
        run = read_json(path)
        earlier = run["invocations"]
        for key in ("fingerprint", "split_sha256"):
            if run["dataset"][key] != dataset[key]:
                raise UserError(f"the data of {settings.dataset} is not what the run was started with ({key} differs)")
    spaces = {
        loss: {"dimensions": len(SEARCH_SPACES[loss].parameters), "parameters": SEARCH_SPACES[loss].describe()}
        for loss in settings.losses
    }
    write_json(
        path,
        {
            "format": 1,
            "settings": settings.to_dict(),
            "dataset": dataset,
            "search_spaces": spaces,
            "invocations": [*earlier, invocation],
        },
    )


def _open_studies(settings: SearchSettings, data: TrainingData, store: CheckpointStore) -> dict[str, LossStudy]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = (settings.folder / STUDY_FILE).resolve()
    if not database.exists() and any(settings.folder.glob("*/trials.jsonl")):
        raise UserError(f"{database} is missing, and without it the run cannot go on; put it back or start a new run")
    storage = optuna.storages.RDBStorage(f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": 60}})
    checkpoints = store.newest()
    return {
        loss: LossStudy(
            f"{data.spec.name}-{loss}",
            SEARCH_SPACES[loss],
            storage,
            LossRecords(settings.folder / loss),
            trials=settings.trials,
            max_epochs=settings.max_epochs,
            grace_epochs=settings.grace_epochs,
            reduction_factor=settings.reduction_factor,
            seed=settings.seed,
            checkpoints=checkpoints,
        )
        for loss in settings.losses
    }


def _announce(settings: SearchSettings, data: TrainingData, slots: Slots, console: Console) -> None:
    part = " (a part: --train-size)" if settings.train_size else ""
    gpus = f", {slots.gpus_per_trial:g} GPU" if slots.gpus_per_trial else ""
    lines = (
        f"{settings.dataset}: {len(data.train.labels)} training{part} and {len(data.validation.labels)} validation "
        f"images, {settings.model}",
        f"{', '.join(settings.losses)}: {settings.trials} trials each, at most {settings.max_epochs} epochs, "
        f"{slots.concurrent} at a time with {slots.cpus_per_trial:g} CPU{gpus} each",
        f"records: {settings.folder}",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Stopped(BaseException):
    """Leaves Ray's loop; not an Exception, so that nothing on the way takes it for a trial's."""


class _Interrupted(ray_tune.Stopper):
    """Leaves Ray's loop between two of its steps when the user wants to stop.

    Raising leaves at once. A stop in Ray's own way waits ten seconds for trials in mid-epoch, as long as some job
    managers give a program before they kill it.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._interruption:
            raise _Stopped
        return False

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Interrupted":
        return self  # Ray copies its specification for every trial; there is one interruption

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl


def _run_trials(
    settings: SearchSettings,
    data: TrainingData,
    slots: Slots,
    studies: dict[str, LossStudy],
    interruption: Interruption,
    console: Console,
) -> None:
    remaining = sum(study.tally.asked - study.tally.done for study in studies.values())
    if remaining <= 0:
        return
    out_of_time = _clock(settings)
    trainable = ray_tune.with_resources(
        ray_tune.with_parameters(MarginTrainable, data=_trial_data(data)),
        {"cpu": slots.cpus_per_trial, "gpu": slots.gpus_per_trial},
    )

    def to_config(loss: str, suggestion: Suggestion) -> dict[str, Any]:
        return {
            "loss": loss,
            "number": suggestion.number,
            "trial_id": suggestion.trial_id,
            "trial": _trial_config(settings, data, suggestion.config).to_dict(),
            "checkpoint": suggestion.checkpoint.path if suggestion.checkpoint else None,
            "threads": slots.threads,
        }

    invocation = len(read_json(settings.folder / RUN_FILE)["invocations"])
    with Progress(studies, f"{settings.dataset} -> {settings.folder}", console) as progress:
        tuner = ray_tune.Tuner(
            trainable,
            tune_config=ray_tune.TuneConfig(
                metric="val_accuracy",
                mode="max",
                search_alg=StudySearcher(studies, to_config, closed=lambda: bool(interruption) or out_of_time()),
                scheduler=StudyScheduler(studies, out_of_time),
                num_samples=remaining,
                max_concurrent_trials=slots.concurrent,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.config["trial_id"]),
                trial_dirname_creator=lambda trial: str(trial.config["trial_id"]),
            ),
            run_config=ray_tune.RunConfig(
                name=f"part-{invocation:03d}",  # each invocation has its own, so that it overwrites nothing
                storage_path=settings.checkpoint_root,
                failure_config=ray_tune.FailureConfig(max_failures=MAX_WORKER_LOSSES),
                checkpoint_config=ray_tune.CheckpointConfig(num_to_keep=1, checkpoint_at_end=False),
                stop=_Interrupted(interruption),
                callbacks=[WorkerLosses(studies), progress],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except _Stopped:
            pass
        finally:
            for study in studies.values():
                study.interrupted()


def _clock(settings: SearchSettings) -> Any:
    """Return a function that says whether the search has used up its time, earlier invocations included."""
    if settings.time_budget_min is None:
        return lambda: False
    allowed_s = settings.time_budget_min * 60 * len(settings.losses)
    deadline = time.time() + allowed_s - _spent_s(settings)
    return lambda: time.time() >= deadline


def _spent_s(settings: SearchSettings) -> float:
    """Return the wall time of earlier invocations, each from its start to its last record."""
    starts = [invocation["time"] for invocation in read_json(settings.folder / RUN_FILE)["invocations"]]
    times = sorted(
        record["time"] for loss in settings.losses for record in read_records(settings.folder / loss / "epochs.jsonl")
    )
    spent = 0.0
    for start, end in itertools.pairwise(starts):
        spent += max((t - start for t in times if start <= t < end), default=0.0)
    return spent


def _trial_config(settings: SearchSettings, data: TrainingData, drawn: dict[str, Any]) -> TrialConfig:
    return TrialConfig(
        model=settings.model,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        horizontal_flip=data.spec.horizontal_flip,
        precision=settings.precision,
        # All trials of all losses have the run's seed: they differ in what is tuned and in nothing else.
        seed=settings.seed,
        **drawn,
    )


def _trial_data(data: TrainingData) -> TrialData:
    return TrialData(
        train_images=data.train.images,
        train_labels=data.train.labels,
        validation_images=data.validation.images,
        validation_labels=data.validation.labels,
        mean=data.spec.mean,
        std=data.spec.std,
        num_classes=data.spec.num_classes,
    )


def _keep_best(settings: SearchSettings, studies: dict[str, LossStudy], store: CheckpointStore) -> None:
    """Write each loss's best configuration and weights, and delete the checkpoints that nobody needs any more."""
    waiting = {study.trial_id(number) for study in studies.values() for number in study.waiting()}
    for loss, study in studies.items():
        best = study.best()
        if best is None:
            continue
        trial_id = study.trial_id(best.number)
        description, weights = settings.folder / f"best_{loss}.json", settings.folder / f"best_{loss}.pt"
        is_new = not description.exists() or read_json(description)["trial_id"] != trial_id
        write_json(
            description,
            {
                "trial_id": trial_id,
                "val_accuracy": best.value,
                "epoch": best.last_step,
                "config": study.config_of(best),
            },
        )
        if not store.copy_weights(trial_id, str(weights)) and is_new:
            # A kill just before the last checkpoint of the best trial: no weights are better than another trial's.
            weights.unlink(missing_ok=True)
    store.remove_all_but(waiting)


def _total_failures(settings: SearchSettings, studies: dict[str, LossStudy]) -> dict[str, str]:
    failures = {}
    for loss, study in studies.items():
        if study.tally.failed and study.tally.failed == study.tally.done:
            events = read_records(settings.folder / loss / "trials.jsonl")
            errors = [event.get("error", "") for event in events if event["event"] == "failed"]
            failures[loss] = next(
                (error.strip().splitlines()[-1] for error in errors if error.strip()), "no error given"
            )
    return failures
