"""Files of weights as a command gets them, checked before torch is loaded, and what the run beside them knows."""

import zipfile
from pathlib import Path

from trainables.errors import UserError
from tune.records import RecordError, read_json
from tune.records.schema import RUN_FILE

__all__ = ["CODE_HELP", "WEIGHTS_HELP", "check_weights", "class_names_of"]

WEIGHTS_HELP = "a model that a run has left: RUN/winner_LOSS.pt, or RUN/best_LOSS.pt of the search alone"

CODE_HELP = "code of the model's loss, where that is one of your own, as the search was given it"


def check_weights(path: Path) -> None:
    """Raise UserError unless there is such a file, and torch may have written it."""
    if path.is_dir():
        found = sorted(file.name for file in path.glob("*_*.pt"))
        there = f"it has {', '.join(found)}" if found else "it has none, such as winner_adaloss.pt"
        raise UserError(f"{path} is a folder; give the file of the weights in it: {there}")
    if not path.exists():
        raise UserError(f"{path}: there is no such file; a run leaves winner_LOSS.pt after its confirmation")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if any("/code/" in name for name in names):
        raise UserError(f"{path} is an exported model, for other programs; give the weights that it was made from")
    if not any(name.endswith("/data.pkl") for name in names):
        raise UserError(f"{path}: no weights of a trained model (not a file that torch writes)")


def class_names_of(path: Path, num_classes: int) -> tuple[str, ...]:
    """Return what the run beside a file of weights calls its classes; nothing where it does not say."""
    try:
        names = read_json(path.parent / RUN_FILE)["dataset"]["classes"]
    except (RecordError, OSError, KeyError, TypeError):
        return ()
    is_known = isinstance(names, list) and len(names) == num_classes
    return tuple(map(str, names)) if is_known else ()
