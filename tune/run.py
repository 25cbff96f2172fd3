"""A whole run: the search, then its confirmation, on data that is loaded once and in one run of Ray's."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ray import tune as ray_tune
from rich.console import Console

from tune.confirmation.run import ConfirmOutcome, check_finished, confirmation_stages
from tune.confirmation.stages import whole_confirmation
from tune.console import printable
from tune.execution.runner import run_stages
from tune.execution.stages import StageGenerator
from tune.opening import Opening
from tune.search.run import SearchOutcome, search_stages
from tune.session import Session
from tune.settings import ConfirmSettings, SearchSettings, check_new, check_output
from tune.storage.checkpoints import CheckpointStore
from tune.storage.studies import StudyPlace, open_database

__all__ = ["RunOutcome", "all_failed", "confirm_run", "search_and_confirm"]

T = TypeVar("T")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Args:
        search: how its search did.
        confirmation: how its confirmation did; None where there was none, or nothing to confirm.
    """

    search: SearchOutcome
    confirmation: ConfirmOutcome | None = None


def all_failed(loss: str, error: str) -> str:
    """Return what there is to say of a loss of which every trial failed.

    Args:
        loss: its name.
        error: last line of its first error.
    """
    return f"every trial of {loss} failed; the first: {printable(error)}"


def search_and_confirm(
    settings: SearchSettings,
    confirmation: ConfirmSettings | None,
    *,
    resume: bool,
    console: Console,
    callbacks: Sequence[ray_tune.Callback] = (),
    opening: Opening | None = None,
) -> RunOutcome:
    """Run a search and its confirmation, or go on with them, until they are done or interrupted.

    Args:
        settings: of the search; its ``trials`` may be more than a resumed run had.
        confirmation: what follows the search, or None; a search whose confirmation cannot run does not start.
        resume: whether the run exists.
        console: where progress is shown.
        callbacks: further ones for Ray.
        opening: where it is told what happens until the first trials run, or None.

    Raises:
        UserError: the search cannot run; nothing was written, or a resumed run is as it was.
    """
    settings.validate()
    if confirmation is not None:
        confirmation.validate(settings.losses)
    if resume:
        check_output(settings)
    else:
        check_new(settings)
    session = Session(
        settings, is_tested=confirmation is not None, console=console, callbacks=callbacks, opening=opening
    )
    dataset = session.data.spec.name

    def stages(place: StudyPlace) -> StageGenerator[RunOutcome]:
        later = whole_confirmation(session.settings, confirmation, session.data)
        searched = yield from search_stages(session, place, confirmation, resume=resume, later=later)
        for loss, error in searched.failures.items():
            print(f"error: {all_failed(loss, error)}", file=sys.stderr)
        has_winners = len(searched.failures) < len(settings.losses)
        if confirmation is None or searched.interrupted or searched.unreachable or not has_winners:
            return RunOutcome(searched)
        return RunOutcome(searched, (yield from confirmation_stages(session, confirmation)))

    with (
        open_database(session.settings, dataset, session.interruption, console, resume=resume) as place,
        session.connected(),
    ):
        return _run(stages(place), session)


def confirm_run(
    settings: SearchSettings,
    asked: ConfirmSettings,
    *,
    console: Console,
    callbacks: Sequence[ray_tune.Callback] = (),
    opening: Opening | None = None,
) -> ConfirmOutcome:
    """Confirm what a finished search found, or go on with it, as :func:`search_and_confirm`."""
    asked.validate(settings.losses)
    check_finished(settings)
    session = Session(settings, is_tested=True, console=console, callbacks=callbacks, opening=opening)
    with session.connected():
        return _run(confirmation_stages(session, asked), session)


def _run(stages: StageGenerator[T], session: Session) -> T:
    outcome = run_stages(stages, session)
    for root in (session.settings.checkpoint_root, session.settings.confirm_checkpoint_root):
        CheckpointStore(root).remove_if_empty()
    return outcome
