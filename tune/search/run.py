"""A search: opens the studies, has their trials run, and leaves a run that can go on."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import optuna

from search_spaces import SEARCH_SPACES
from tune.execution.progress import Progress
from tune.execution.stages import Stage, StageGenerator
from tune.execution.time_left import Later, TimeLeft
from tune.records import LossRecords, read_json, read_records, write_json
from tune.records.schema import ADDED_LOSSES, EPOCHS_FILE, RUN_FILE, TRIALS_FILE, best_file, weights_file
from tune.run_file import write_run_file
from tune.search.loss_study import LossStudy, SearchPlan
from tune.session import Session
from tune.settings import ConfirmSettings, SearchSettings
from tune.storage.checkpoints import CheckpointStore
from tune.storage.retry import StudyUnreachable
from tune.storage.studies import StudyPlace
from tune.trials import trial_config

__all__ = ["SearchOutcome", "search_stages"]


@dataclass(frozen=True)
class SearchOutcome:
    """How a search ended.

    Args:
        interrupted: the signal's name, or None.
        failures: last line of the first failed trial's error, by loss, for losses of which every trial failed.
        unreachable: why the study database did not answer when the search gave it up, or None.
    """

    interrupted: str | None
    failures: dict[str, str]
    unreachable: str | None = None


def search_stages(
    session: Session,
    place: StudyPlace,
    confirmation: ConfirmSettings | None,
    *,
    resume: bool,
    later: Later | None = None,
) -> StageGenerator[SearchOutcome]:
    """Go through a search, or go on with one: its one stage, until it is done or interrupted.

    Args:
        session: connected; its settings' ``trials`` may be more than a resumed run had.
        place: where the studies lie.
        confirmation: what will follow, for the record, or None.
        resume: whether the run exists.
        later: how much will follow, to tell the time left.

    Raises:
        UserError: the data is not what the run was started with, or a node of the cluster cannot take part.
    """
    settings = session.settings
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    store = CheckpointStore(settings.checkpoint_root)
    invocation = write_run_file(settings, confirmation, session.data, place.names, session.command, resume=resume)
    unreachable: str | None = None
    failures: dict[str, str] = {}
    try:
        studies = _open_studies(settings, place, store)
        _announce(session, place.names, read_json(settings.folder / RUN_FILE)[ADDED_LOSSES])
        stage = _stage(session, studies, invocation, later)
        session.opened(stage.to_go)
        yield stage
        _keep_best(settings, studies, store)
        failures = _total_failures(settings, studies)
    except StudyUnreachable as error:
        unreachable = str(error)
    return SearchOutcome(session.interruption.name, failures, unreachable)


def _open_studies(settings: SearchSettings, place: StudyPlace, store: CheckpointStore) -> dict[str, LossStudy]:
    storage, checkpoints = place.open(), store.newest()
    plan = SearchPlan(
        trials=settings.trials,
        max_epochs=settings.max_epochs,
        grace_epochs=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
        seed=settings.seed,
        first_points=None if settings.again is None else [settings.again["point"]],
    )
    return {
        loss: LossStudy(
            place.names[loss],
            SEARCH_SPACES[loss],
            storage,
            LossRecords(settings.folder / loss),
            plan,
            checkpoints,
        )
        for loss in settings.losses
    }


def _announce(session: Session, studies: Mapping[str, str], added: Iterable[str]) -> None:
    settings, data, slots = session.settings, session.data, session.slots
    part = " (a part: --train-size)" if settings.train_size else ""
    gpus = f", {slots.gpus_per_trial:g} GPU" if slots.gpus_per_trial else ""
    session.say(
        f"{settings.dataset}: {len(data.train.labels)} training{part} and {len(data.validation.labels)} validation "
        f"images, {settings.model}"
    )
    for remark in data.remarks:
        session.say(remark)
    session.say(
        f"{', '.join(settings.losses)}: {settings.trials} trials each, at most {settings.max_epochs} epochs, "
        f"{slots.concurrent} at a time with {slots.cpus_per_trial:g} CPU{gpus} each"
    )
    if later := ", ".join(added):
        session.say(f"later than the others: {later}")
    session.say(f"records: {settings.folder}")
    if settings.study_storage:
        session.say(f"studies: {', '.join(studies.values())} in {settings.study_storage}")


def _stage(session: Session, studies: dict[str, LossStudy], invocation: int, later: Later | None) -> Stage:
    settings = session.settings
    limit_s = _clock(settings)
    return Stage(
        name=f"part-{invocation:03d}",
        studies=studies,
        data=session.search_data,
        to_trial=lambda suggestion: trial_config(settings, session.data.spec, suggestion.config),
        progress=Progress(
            studies,
            f"{settings.dataset} -> {settings.folder}",
            session.console,
            time_left=TimeLeft(studies, later, limit_s),
            folder=settings.folder,
        ),
        is_followed=later is not None,
        out_of_time=lambda: limit_s() <= 0,
    )


def _clock(settings: SearchSettings) -> Callable[[], float]:
    """Return a function that says how many seconds the search still has, earlier invocations taken off."""
    if settings.time_budget_min is None:
        return lambda: math.inf
    allowed_s = settings.time_budget_min * 60 * len(settings.losses)
    deadline = time.time() + allowed_s - _spent_s(settings)
    return lambda: deadline - time.time()


def _spent_s(settings: SearchSettings) -> float:
    """Return the wall time of earlier invocations, each from its start to its last record."""
    starts = [invocation["time"] for invocation in read_json(settings.folder / RUN_FILE)["invocations"]]
    times = sorted(
        record["time"] for loss in settings.losses for record in read_records(settings.folder / loss / EPOCHS_FILE)
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
        description, weights = settings.folder / best_file(loss), settings.folder / weights_file(loss)
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
            events = read_records(settings.folder / loss / TRIALS_FILE)
            errors = [event.get("error", "") for event in events if event["event"] == "failed"]
            failures[loss] = next(
                (error.strip().splitlines()[-1] for error in errors if error.strip()), "no error given"
            )
    return failures
