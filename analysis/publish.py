"""Make a compact copy of runs' records that can be kept in a repository and is read as the runs are.

python analysis/publish.py results/mnist --to analysis/published
"""

import json
import lzma
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from analysis.folders import check_each_once, check_run  # noqa: E402
from tune.console import run_command  # noqa: E402
from tune.records import RecordError, read_json, write_file  # noqa: E402
from tune.records.schema import (  # noqa: E402
    CONFIG_FILE,
    EPOCHS_FILE,
    PACKED,
    RUN_FILE,
    SEED_EPOCHS_FILE,
    SEED_RUNS_FILE,
    TRIALS_FILE,
    best_file,
    loss_file,
    winner_file,
)

__all__ = ["publish"]


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs, such as results/NAME")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="for the copies, each in a folder of its run's name")],
) -> None:
    """Copy the records of runs without checkpoints, weights, database and page, the long files compressed.

    Absolute paths of the machine, as of --data-dir, are replaced by words.

    compare.py and dashboard.py read a copy as they read the run; a search cannot go on in it. A copy that is there
    already is brought up to date.
    """
    check_each_once(runs)
    for folder in runs:
        check_run(folder)
    for folder in runs:
        copy = to / folder.resolve().name
        if copy.resolve() == folder.resolve():
            raise RecordError(f"{folder}: would be its own copy; choose another folder with --to")
        try:
            size = publish(folder, copy)
        except OSError as error:
            raise RecordError(f"{copy}: cannot be written: {error.strerror}") from None
        print(f"{copy}: {size / 1e6:.2f} MB")


def publish(run: Path, copy: Path) -> int:
    """Write a compact copy of a run's records and return its bytes.

    Equal records give equal files. The records of a run under way are copied as far as they have come.

    Raises:
        OSError: it cannot be written.
    """
    size = 0
    places = _places(read_json(run / RUN_FILE)["settings"])
    for name in _files(run):
        content = (run / name).read_bytes()
        if name in {RUN_FILE, CONFIG_FILE}:
            for place, word in places.items():
                content = content.replace(place, word)
        if name.endswith(".jsonl"):
            name, content = f"{name}{PACKED}", lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(copy / name, content)
        size += len(content)
    return size


def _places(settings: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return the absolute paths of a run's machine, which are nobody else's business, and what stands for each."""
    found = {}
    for name in ("data_dir", "dataset", "output", "storage"):
        place = settings.get(name)
        if isinstance(place, str) and Path(place).is_absolute():
            word = Path(place).name if name == "dataset" else name.removesuffix("_dir").upper()
            found[json.dumps(place)[1:-1].encode()] = word.encode()
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))  # a folder after what lies in it


def _files(run: Path) -> Iterator[str]:
    losses = read_json(run / RUN_FILE)["settings"]["losses"]
    names = [*map(loss_file, losses), RUN_FILE, CONFIG_FILE, SEED_RUNS_FILE, SEED_EPOCHS_FILE]
    for loss in losses:
        names += [f"{loss}/{TRIALS_FILE}", f"{loss}/{EPOCHS_FILE}", best_file(loss), winner_file(loss)]
    return (name for name in names if (run / name).is_file())


if __name__ == "__main__":
    run_command(main)
