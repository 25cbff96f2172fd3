"""Folders of runs as a command gets them, checked before anything is loaded that reads them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tune.console import printable
from tune.records import RecordError
from tune.records.schema import RUN_FILE

__all__ = ["check_each_once", "check_folder", "check_run", "without_files"]


_BESIDE_RUNS = {".md", ".png", ".html"}  # texts, pictures and pages


def without_files(paths: Sequence[Path]) -> list[Path]:
    """Return the paths but for texts, pictures and pages, which ``published/*`` names too, and say so in a line.

    Where there is nothing else, nobody meant a run by any of them: they stay, to be told that they are none.
    """
    others = [path for path in paths if path.suffix in _BESIDE_RUNS and path.is_file()]
    if not others or len(others) == len(paths):
        return list(paths)
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    print(f"passed over, since runs are folders: {printable(str(others[0]))}{more}", file=sys.stderr)
    return [path for path in paths if path not in others]


def check_each_once(folders: Sequence[Path]) -> None:
    """Raise RecordError where two names are of the same folder: its run would count twice."""
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise RecordError(f"{folder}: given twice; p values are corrected over all runs, so each may be given once")


def check_folder(folder: Path) -> None:
    """Raise RecordError unless there is such a folder."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such folder")


def check_run(folder: Path) -> None:
    """Raise RecordError unless there is such a folder, and a run in it."""
    check_folder(folder)
    if not (folder / RUN_FILE).is_file():
        raise RecordError(f"{folder}: holds no run ({RUN_FILE} is missing)")
