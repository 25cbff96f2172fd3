"""`run.yaml`: the options of a search in a file, by their long names; every run leaves the one that repeats it."""

import difflib
import reprlib
import time
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from tune.records import write_file
from tune.records.schema import ADDED_LOSSES, CONFIG_FILE

__all__ = ["CONFIRMATION", "FIELDS", "Option", "nearest", "options_of", "read_config", "write_config"]

FIELDS = {  # options of which the field in SearchSettings has another name
    "loss": "losses",
    "time_budget": "time_budget_min",
    "checkpoint_interval": "checkpoint_interval_s",
}
CONFIRMATION = {  # options of the confirmation, and their fields in ConfirmSettings
    "confirm_seeds": "seeds",
    "candidates": "candidates",
    "candidate_seeds": "candidate_seeds",
    "controls": "controls",
    "robustness": "robustness",
}
# What is done with a run is said anew each time; it does not belong to the run.
_NOT_IN_FILES = ("again", "config", "resume", "extend", "add_loss", "dry_run")
_LONGEST = 10**6  # characters of a file that anybody would write


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    Args:
        kind: str, int, float or bool.
        is_repeatable: whether it takes several values.
    """

    kind: type
    is_repeatable: bool = False


def options_of(command: Callable[..., Any]) -> dict[str, Option]:
    """Return the options that a function declares for its command line, by their names in Python."""
    found = {}
    for name, hint in typing.get_type_hints(command).items():
        if name in {"context", "return"}:
            continue
        kind = next((part for part in typing.get_args(hint) if part is not type(None)), hint)
        is_repeatable = typing.get_origin(kind) is list
        found[name] = Option(typing.get_args(kind)[0] if is_repeatable else kind, is_repeatable)
    return found


def nearest(name: str, known: Mapping[str, object]) -> str:
    """Return " (did you mean ...?)" for a misspelt name of an option, or nothing."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_config(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return the options that a file gives, by their names in Python.

    Args:
        path: of the file.
        options: of the command, by their names in Python.

    Raises:
        UserError: the file cannot be read, is no YAML, or gives an option that there is not, twice, or of another type.
    """
    allowed = {name.replace("_", "-"): option for name, option in options.items() if name not in _NOT_IN_FILES}
    found: dict[str, Any] = {}
    for key, value in _entries(path):
        name = str(key).replace("_", "-")
        if name.replace("-", "_") in _NOT_IN_FILES:
            raise UserError(f"{path}: {name} is for the command line alone")
        if not isinstance(key, str) or name not in allowed:
            raise UserError(f"{path}: unknown option {reprlib.repr(key)}{nearest(name, allowed)}")
        if name.replace("-", "_") in found:
            raise UserError(f"{path}: {name} is given twice")
        found[name.replace("-", "_")] = None if value is None else _checked(path, name, value, allowed[name])
    return {name: value for name, value in found.items() if value is not None}


def _entries(path: Path) -> list[tuple[Any, Any]]:
    """Return keys and values in order, also those that are there twice."""
    import yaml  # type: ignore[import-untyped]  # only who has such a file waits for it

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"--config: {path} is no text") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--config: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(text) > _LONGEST:
        raise UserError(f"--config: {path} is too long for a file of options")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"--config: {path} holds no options; write one a line, such as dataset: digits")
        return [
            (loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
            for key, value in node.value
        ]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{place}: {getattr(error, 'problem', None) or 'no YAML'}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a date that does not exist
        raise UserError(f"{path}: {error}") from None


_KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
}


def _checked(path: Path, name: str, value: Any, option: Option) -> Any:
    words, is_good = _KINDS[option.kind]
    values = value if option.is_repeatable and isinstance(value, list) else [value]
    for one in values:
        if not is_good(one):
            wanted = f"{words}, or a list of it" if option.is_repeatable else words
            hint = "; put it in quotes" if option.kind is str and not isinstance(one, list | dict) else ""
            raise UserError(f"{path}: {name} must be {wanted}, got {reprlib.repr(one)}{hint}")
    return list(values) if option.is_repeatable else value


# --- Writing ---------------------------------------------------------------------------------------------------------

# Fields of SearchSettings under a comment. Where a run went and what it was called are the next one's own affair, and
# an address may hold what nobody else should have.
_PARTS = {
    "what is compared, on what": ("dataset", "data_dir", "train_size", "losses", "reference", "model", "seed"),
    "the budget of each loss": (
        *("trials", "max_epochs", "grace_epochs", "reduction_factor", "time_budget_min"),
        *("batch_size", "precision"),
    ),
    "how trials share a machine; more threads, or trials at a time, can change numbers": (
        *("cpus_per_trial", "gpus_per_trial", "max_concurrent", "checkpoint_interval_s", "niceness"),
    ),
    "the team's database; its password is never written": ("study_storage",),
}
_OPTION_OF = {field: option for option, field in FIELDS.items()}


def write_config(folder: Path, run: Mapping[str, Any]) -> None:
    """Write the file that repeats a run; a reader, a kill or a full disk meets the old one or the new one.

    Args:
        folder: of the run.
        run: what ``run.json`` holds.

    Raises:
        OSError: it cannot be written.
    """
    write_file(folder / CONFIG_FILE, _text(run).encode())


def _text(run: Mapping[str, Any]) -> str:
    settings, confirmation = _as_asked(run["settings"]), run.get("confirmation")
    lines = [f"# {line}".rstrip() for line in _about(run)]
    for comment, names in _PARTS.items():
        values = {_OPTION_OF.get(name, name): settings.get(name) for name in names}
        lines += _part(comment, {name: value for name, value in values.items() if value not in (None, "")})
    if confirmation is None:
        lines += _part("the search alone", {"no_confirm": True})
    else:
        values = {option: confirmation.get(field) for option, field in CONFIRMATION.items()}
        lines += _part("the confirmation", {name: value for name, value in values.items() if value is not None})
    return "\n".join(lines) + "\n"


def _as_asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the losses of a user's own as ``--loss`` named them."""
    references = {code["name"]: code["reference"] for code in settings.get("own_losses", ())}
    return {**settings, "losses": [references.get(loss, loss) for loss in settings["losses"]]}


def _about(run: Mapping[str, Any]) -> list[str]:
    """Return the comment at the head, of plain texts without line breaks, as far as the run says what is wanted."""
    invocations = [invocation for invocation in run.get("invocations", []) if isinstance(invocation, dict)]
    first, newest = (invocations[0], invocations[-1]) if invocations else ({}, {})
    program = f"adaloss-search {_object(first, 'versions').get('adaloss-search', '')}".strip()
    git, slots = _object(first, "git"), _object(newest, "slots")
    if git.get("revision"):
        program += f", revision {git['revision']}{' with changes' if git.get('dirty') else ''}"
    lines = [f"The options of a run of {program}"]
    if isinstance(first.get("time"), int | float):
        lines.append(time.strftime("that was begun %Y-%m-%d %H:%M:%S UTC", time.gmtime(first["time"])))
    lines += [
        "A new run with the same ones:",
        "",
        f"    python tune/run_search.py --config {CONFIG_FILE} --name NEW",
        "",
        "What the command line says besides counts more. Not in here: --output, --name, --storage, --address,",
        "--mlflow, --tensorboard.",
    ]
    if slots:
        cpus = f"{slots.get('cpus_per_trial')} CPU"
        gpus = f" and {slots['gpus_per_trial']} GPU" if slots.get("gpus_per_trial") else ""
        lines.append(f"It ran {slots.get('concurrent')} trials at a time, each with {cpus}{gpus}.")
    if added := _object(run, ADDED_LOSSES):
        lines.append(f"Later than the others came: {', '.join(added)}.")
    return ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines]


def _object(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _part(comment: str, values: Mapping[str, Any]) -> list[str]:
    lines = [line for name, value in values.items() for line in _entry(name.replace("_", "-"), value)]
    return ["", f"# {comment}", *lines] if lines else []


def _entry(name: str, value: Any) -> list[str]:
    import yaml

    if isinstance(value, list):
        listed: str = yaml.safe_dump(value, default_flow_style=True, width=_LONGEST)
        return [f"{name}: {listed.strip()}"]
    text: str = yaml.safe_dump({name: value}, default_flow_style=False, allow_unicode=True, width=_LONGEST)
    return text.splitlines()
