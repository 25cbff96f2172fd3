"""A search, from settings to records: opens the studies, lets Ray run the trials, and leaves a run that can go on."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from ray import tune as ray_tune
from rich.console import Console

from search_spaces import SEARCH_SPACES
from trainables.data import TrainingData, check_test_data, load_training_data
from trainables.errors import UserError
from trainables.models import MODELS, default_model
from tune.cluster.connection import Interruption, Slots, connect
from tune.cluster.gpu_share import slots_for
from tune.cluster.node_check import NodeCheck
from tune.execution.checkpoints import CheckpointStore
from tune.execution.progress import Progress
from tune.execution.runner import Stage, run_stage
from tune.execution.trials import search_data, trial_config
from tune.records import LossRecords, read_json, read_records, write_json
from tune.run_file import locked, write_run_file
from tune.search.loss_study import LossStudy
from tune.settings import RUN_FILE, ConfirmSettings, SearchSettings, check_output
from tune.storage.retry import StudyUnreachable
from tune.storage.studies import TeamDatabase, open_study_file, study_names

__all__ = ["Outcome", "run_search"]


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Args:
        settings: of the search, with what it chose where nothing was said.
        interrupted: the signal's name, or None.
        failures: last line of the first failed trial's error, by loss, for losses of which every trial failed.
        unreachable: why the study database did not answer when the search gave it up, or None.
    """

    settings: SearchSettings
    interrupted: str | None
    failures: dict[str, str]
    unreachable: str | None = None


def run_search(
    settings: SearchSettings,
    *,
    resume: bool,
    console: Console,
    confirmation: ConfirmSettings | None = None,
    callbacks: Sequence[ray_tune.Callback] = (),
) -> Outcome:
    """Run a search, or go on with one, until it is done or interrupted.

    Args:
        settings: of the search; its ``trials`` may be more than a resumed run had.
        resume: whether the run exists.
        console: where progress is shown.
        confirmation: what will follow, or None; a search whose confirmation cannot run does not start.
        callbacks: further ones for Ray.

    Raises:
        UserError: the search cannot run; nothing was written, or a resumed run is as it was.
    """
    settings.validate()
    if confirmation is not None:
        confirmation.validate(settings.losses)
    check_output(settings)
    if not resume and settings.is_begun:
        raise UserError(f"{settings.folder} exists already: add --resume to go on with it, or choose another --name")
    interruption = Interruption()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = TeamDatabase(settings, interruption, console) if settings.study_storage else None
    settings, data = _with_data(settings, confirmation)
    store = CheckpointStore(settings.checkpoint_root)
    if settings.storage is not None:
        store.check_writable()
    names = study_names(settings, data.spec.name, resume=resume)
    if database is not None:
        database.check_studies(names, resume=resume)
    unreachable: str | None = None
    failures: dict[str, str] = {}
    with connect(settings.address, data.train.images.nbytes + data.validation.images.nbytes):
        slots = slots_for(settings, data, console)
        if settings.precision == "fp16" and not slots.gpus_per_trial:
            raise UserError("--precision fp16 needs GPUs; use bf16, float32 or auto on CPUs")
        with NodeCheck(settings.checkpoint_root) as node_check, locked(settings.folder), interruption.listening():
            invocation = write_run_file(settings, confirmation, data, slots, names, resume=resume)
            if database is not None:
                database.start_retrying()
            storage = open_study_file(settings) if database is None else database.storage
            try:
                studies = _open_studies(settings, names, storage, store)
                _announce(settings, data, slots, names, console)
                _run_trials(settings, data, slots, studies, invocation, interruption, node_check, console, callbacks)
                _keep_best(settings, studies, store)
                failures = _total_failures(settings, studies)
            except StudyUnreachable as error:
                unreachable = str(error)
    if database is not None:
        database.close()
    return Outcome(
        settings=settings,
        interrupted=interruption.signal.name if interruption.signal else None,
        failures=failures,
        unreachable=unreachable,
    )


def _with_data(settings: SearchSettings, confirmation: ConfirmSettings | None) -> tuple[SearchSettings, TrainingData]:
    """Return the settings with a model that takes the images, and the images."""
    data = load_data(settings)
    if confirmation is not None:
        check_test_data(settings.dataset, Path(settings.data_dir) if settings.data_dir else None)
    if not settings.model:
        settings = replace(settings, model=default_model(data.spec.image_shape))
    if data.spec.image_shape not in MODELS[settings.model].image_shapes:
        shape = "x".join(map(str, data.spec.image_shape))
        raise UserError(f"--model {settings.model} does not take the {shape} images of {settings.dataset}")
    return settings, data


def load_data(settings: SearchSettings) -> TrainingData:
    """Return the training data of a run."""
    data_dir = Path(settings.data_dir) if settings.data_dir else None
    return load_training_data(settings.dataset, data_dir, train_size=settings.train_size, seed=settings.seed)


def _open_studies(
    settings: SearchSettings, names: Mapping[str, str], storage: BaseStorage, store: CheckpointStore
) -> dict[str, LossStudy]:
    checkpoints = store.newest()
    return {
        loss: LossStudy(
            names[loss],
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


def _announce(
    settings: SearchSettings, data: TrainingData, slots: Slots, studies: Mapping[str, str], console: Console
) -> None:
    part = " (a part: --train-size)" if settings.train_size else ""
    gpus = f", {slots.gpus_per_trial:g} GPU" if slots.gpus_per_trial else ""
    lines = [
        f"{settings.dataset}: {len(data.train.labels)} training{part} and {len(data.validation.labels)} validation "
        f"images, {settings.model}",
        f"{', '.join(settings.losses)}: {settings.trials} trials each, at most {settings.max_epochs} epochs, "
        f"{slots.concurrent} at a time with {slots.cpus_per_trial:g} CPU{gpus} each",
        f"records: {settings.folder}",
    ]
    if settings.study_storage:
        lines.append(f"studies: {', '.join(studies.values())} in {settings.study_storage}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run_trials(
    settings: SearchSettings,
    data: TrainingData,
    slots: Slots,
    studies: dict[str, LossStudy],
    invocation: int,
    interruption: Interruption,
    node_check: NodeCheck,
    console: Console,
    callbacks: Sequence[ray_tune.Callback],
) -> None:
    stage = Stage(
        name=f"part-{invocation:03d}",
        storage_path=settings.checkpoint_root,
        data=search_data(data),
        to_trial=lambda suggestion: trial_config(settings, data.spec, suggestion.config),
    )
    progress = Progress(studies, f"{settings.dataset} -> {settings.folder}", console)
    run_stage(
        stage,
        studies,
        slots,
        interruption,
        progress,
        out_of_time=_clock(settings),
        trouble=node_check.problem,
        callbacks=callbacks,
    )


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
        if not store.copy_weights(trial_id, weights) and is_new:
            # The best of trials that were all stopped early has none: no weights are better than another trial's.
            weights.unlink(missing_ok=True)
    store.remove_all_but(waiting)


def _total_failures(settings: SearchSettings, studies: dict[str, LossStudy]) -> dict[str, str]:
    failures = {}
    for loss, study in studies.items():
        if study.counts.failed and study.counts.failed == study.counts.done:
            events = read_records(settings.folder / loss / "trials.jsonl")
            errors = [event.get("error", "") for event in events if event["event"] == "failed"]
            failures[loss] = next(
                (error.strip().splitlines()[-1] for error in errors if error.strip()), "no error given"
            )
    return failures
