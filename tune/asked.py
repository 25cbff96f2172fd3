"""What a command line, a file and the environment ask of a search, put together and checked; nothing is begun."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.loss_code import must_be_named
from tune.again import settings_again
from tune.budgets import default_budget
from tune.invocation import command_line
from tune.own_losses import named_losses, with_known_code
from tune.records.schema import RUN_FILE
from tune.run_config import CONFIRMATION, FIELDS
from tune.settings import (
    DEFAULT_LOSSES,
    ConfirmSettings,
    SearchSettings,
    check_name,
    check_new,
    check_output,
    load_confirm_settings,
    load_settings,
)
from tune.storage.url import check_plain, plain_url

__all__ = ["Asked", "asked"]

_NO_SETTINGS = {
    *("context", "config", "again", "resume", "add_loss", "extend", "no_confirm", "tensorboard", "mlflow", "dry_run"),
    *CONFIRMATION,
}
_COMMAND_LINE, _ENVIRONMENT, _FILE = "COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP"


@dataclass(frozen=True)
class Asked:
    """A search that may begin.

    Args:
        settings: of the search.
        confirmation: what follows it, or None.
        resume: whether the run exists.
        dry_run: whether it is to be planned only.
        tensorboard: whether metrics are copied to TensorBoard.
        mlflow: where else they are copied to, or None.
    """

    settings: SearchSettings
    confirmation: ConfirmSettings | None
    resume: bool
    dry_run: bool
    tensorboard: bool
    mlflow: str | None

    @property
    def go_on(self) -> str:
        """The command that goes on with the run."""
        place = ["--output", self.settings.output, "--name", self.settings.name]
        return command_line("search", "--resume", *place, *self.settings.code_options)


def asked(params: Mapping[str, Any], sources: Mapping[str, str | None]) -> Asked:
    """Return what is asked for, checked as far as that needs no data.

    Args:
        params: all options of the command, by their names in Python.
        sources: where each comes from: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (a file), or DEFAULT.

    Raises:
        UserError: something cannot be; the message names the option.
    """
    params = {**params, "study_storage": _plain_study_storage(params, sources)}
    given = {option for option, source in sources.items() if source in {_COMMAND_LINE, _ENVIRONMENT, _FILE}}
    if sources["loss"] == _FILE:
        _check_code_of_a_run(Path(params["config"]).expanduser(), params["loss"])
    confirm, no_confirm = _confirmation_asked(params, sources, given)
    resuming = params["resume"] or params["extend"] is not None
    confirmation: ConfirmSettings | None = ConfirmSettings(**confirm)
    if params["add_loss"] and not resuming:
        raise UserError("--add-loss gives an existing run a further loss, with --resume; a new run takes --loss")
    again = params["again"]
    if again is not None and (resuming or confirm):
        raise UserError("--again runs one trial and compares nothing; leave out what goes on with a run or confirms it")
    if resuming and params["dry_run"]:
        raise UserError("--dry-run plans a new run; leave it out to go on with one, which says how much time is left")
    if resuming:
        settings = _resumed(params, sources, given)
        confirmation = load_confirm_settings(settings.folder, confirm)
    elif again is not None:
        values = {FIELDS.get(option, option): params[option] for option in given}
        settings = settings_again(again, _settings_of(values), params["output"], params["name"])
    else:
        settings = _new_settings(params)
    settings.validate()
    if no_confirm or again is not None or confirmation is None:
        confirmation = None
    else:
        confirmation.validate(settings.losses)
    if not params["dry_run"]:
        (check_output if resuming else check_new)(settings)
    return Asked(settings, confirmation, resuming, params["dry_run"], params["tensorboard"], params["mlflow"])


def _check_code_of_a_run(config: Path, losses: Sequence[str]) -> None:
    """Raise UserError where a run's own file names code: a folder that somebody sends is data, and runs nothing."""
    named = [loss for loss in losses if must_be_named(loss)]
    if named and (config.parent / RUN_FILE).exists():
        words = " ".join(f"--loss {loss}" for loss in losses)
        raise UserError(
            f"{config} names code of its user's own ({', '.join(named)}), which runs only where you name it: "
            f"add {words}"
        )


def _confirmation_asked(
    params: Mapping[str, Any], sources: Mapping[str, str | None], given: set[str]
) -> tuple[dict[str, Any], bool]:
    """Return what of a confirmation is asked for, by field, and whether there shall be none.

    What a file says of the one does not count where the command line says the other.
    """
    wished = [option for option in CONFIRMATION if option in given]
    no_confirm = bool(params["no_confirm"])
    if no_confirm and sources["no_confirm"] != _FILE:
        wished = [option for option in wished if sources[option] != _FILE]
    elif no_confirm and any(sources[option] != _FILE for option in wished):
        no_confirm = False
    if no_confirm and wished:
        options = ", ".join("--" + option.replace("_", "-") for option in wished)
        raise UserError(f"--no-confirm leaves out what {options} asks for; choose one")
    return {CONFIRMATION[option]: params[option] for option in wished}, no_confirm


def _plain_study_storage(params: Mapping[str, Any], sources: Mapping[str, str | None]) -> str | None:
    """Return the URL of the study database without its password, which only the variable may hold."""
    url: str | None = params["study_storage"]
    if url is None:
        return None
    if sources["study_storage"] == _COMMAND_LINE:
        check_plain(url, "--study-storage")
    if sources["study_storage"] == _FILE:
        check_plain(url, f"study-storage in {params['config']}")
    return plain_url(url)


def _resumed(params: Mapping[str, Any], sources: Mapping[str, str | None], given: set[str]) -> SearchSettings:
    folder = _existing_run(params["output"], params["name"])
    recorded = load_settings(folder)
    values = {FIELDS.get(option, option): params[option] for option in given}
    if recorded.study_storage is None and sources["study_storage"] == _ENVIRONMENT:
        del values["study_storage"]  # the variable is for new runs; this one has a file of its own
    if sources["storage"] == _ENVIRONMENT:
        del values["storage"]  # likewise; this one has its place
    recorded, values = with_known_code(replace(recorded, output=params["output"]), _settings_of(values))
    further, codes = named_losses(params["add_loss"] or ())
    settings = recorded.resumed(values, params["extend"]).with_further(further)
    own = (*settings.own_losses, *codes)
    return replace(settings, output=params["output"], name=folder.name, own_losses=own)


def _settings_of(given: dict[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in given.items() if key not in {*_NO_SETTINGS, "output", "name"}}
    if "losses" in values:
        values["losses"] = tuple(values["losses"])
    return values


def _new_settings(params: Mapping[str, Any]) -> SearchSettings:
    dataset = params["dataset"]
    if dataset is None:
        raise UserError(
            "--dataset is missing: mnist, cifar10, fashion_mnist, cifar100, a folder, or digits (needs no download)"
        )
    budget = default_budget(dataset)
    values = {FIELDS.get(k, k): v for k, v in params.items() if k not in _NO_SETTINGS}
    for key in ("trials", "max_epochs", "batch_size"):
        values[key] = getattr(budget, key) if values[key] is None else values[key]
    if values["grace_epochs"] is None:
        values["grace_epochs"] = min(budget.grace_epochs, max(values["max_epochs"], 1))
    given = values["losses"] or DEFAULT_LOSSES
    values["losses"], values["own_losses"] = named_losses(given)
    names = dict(zip(given, values["losses"], strict=True))
    values["reference"] = names.get(values["reference"], values["reference"])
    values["model"] = values["model"] or ""
    if values["name"] is None:
        values["name"] = f"{_plain_name(dataset)}-{time.strftime('%Y%m%d-%H%M%S')}"
    return SearchSettings(**values)


def _plain_name(dataset: str) -> str:
    """Return what a run's name may begin with, whatever the data set's folder is called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset).resolve().name).strip("._-")
    return name[:80] or "run"


def _existing_run(output: str, name: str | None) -> Path:
    if name is not None:
        check_name(name)
        return Path(output) / name
    runs = sorted(Path(output).glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UserError(f"there is no run in {output} to go on with; see --output and --name")
    return runs[-1].parent
