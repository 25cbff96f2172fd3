"""One trial of an earlier run once more, as a run of its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from search_spaces import SEARCH_SPACES
from trainables.errors import UserError
from tune.own_losses import with_known_code
from tune.records import RecordError, checked_records, read_json
from tune.records.schema import RUN_FILE, TRIAL_EVENT_FIELDS, TRIALS_FILE
from tune.settings import SearchSettings

__all__ = ["settings_again"]


def settings_again(trial: str, given: dict[str, Any], output: str, name: str | None) -> SearchSettings:
    """Return the settings of a run that is one trial of an earlier run: its configuration, in full, nothing else.

    Seed, split, model and length are the earlier run's, so on the same kind of machine the numbers are the same.

    Args:
        trial: RUN/TRIAL, such as results/mnist/arcface-0003.
        given: options that the user gave, by field.
        output: folder of the new run.
        name: of the new run; None for one made of run and trial.

    Raises:
        UserError: there is no such trial, or an option asks for something else than it was.
    """
    folder, trial_id = Path(trial).parent, Path(trial).name
    recorded = _recorded(folder, trial)
    loss = trial_id.rpartition("-")[0]
    config = _config_of(folder, loss, trial_id)
    recorded, given = with_known_code(recorded, given, {loss})
    if loss not in SEARCH_SPACES:
        raise UserError(f"--again {trial}: there is no loss {loss!r} here; name its code with --loss FILE.py:CLASS")
    try:
        point = SEARCH_SPACES[loss].point_of(config)
    except (KeyError, TypeError) as error:
        raise UserError(f"--again {trial}: its configuration lacks {error}; it is of another version") from None
    own = {"output", "name", "storage", "study_storage"}  # of the new run, as of any other
    settings = recorded.resumed({key: value for key, value in given.items() if key not in own}, None)
    return replace(
        settings,
        losses=(loss,),
        reference=None,
        trials=1,
        grace_epochs=settings.max_epochs,  # there is nothing to stop it for
        time_budget_min=given.get("time_budget_min"),
        output=output,
        name=name or f"{recorded.name}-{trial_id}",
        storage=given.get("storage"),
        study_storage=given.get("study_storage"),
        again={"trial": trial, "point": point},
    )


def _recorded(folder: Path, trial: str) -> SearchSettings:
    if not (folder / RUN_FILE).is_file():
        raise UserError(
            f"--again {trial}: there is no run in {folder}; give RUN/TRIAL, such as results/NAME/arcface-0003"
        )
    settings = read_json(folder / RUN_FILE).get("settings")
    if not isinstance(settings, dict):
        raise UserError(f"{folder / RUN_FILE} was not written by this program (settings missing)")
    return SearchSettings.from_dict(settings)


def _config_of(folder: Path, loss: str, trial_id: str) -> dict[str, Any]:
    try:
        events = checked_records(folder / loss / TRIALS_FILE, TRIAL_EVENT_FIELDS)
    except RecordError as error:
        raise UserError(str(error)) from None
    configs = [event["config"] for event in events if event["trial_id"] == trial_id and event.get("config")]
    if not configs:
        known = len({event["trial_id"] for event in events})
        raise UserError(f"--again: {folder} has no trial {trial_id}{f', of {known} of {loss}' if known else ''}")
    config = configs[-1]
    assert isinstance(config, dict)
    return config
