"""Say of which class images are, by a model that a run has left.

python tune/predict.py results/cifar10-20260101-120000/winner_adaloss.pt photos
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from trainables.errors import UserError  # noqa: E402
from tune.console import EXIT_FAILED, csv_cell, printable, run_command  # noqa: E402
from tune.weights import CODE_HELP, WEIGHTS_HELP, check_weights, class_names_of  # noqa: E402

if TYPE_CHECKING:
    from trainables.predictions import Prediction

_COLUMNS = ("file", "class_name", "label", "probability", "error")


def main(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP)],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="image files, or folders: all images in them, at any depth"),
    ],
    loss: Annotated[str | None, typer.Option(metavar="FILE.py:CLASS", help=CODE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of text")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text")] = False,
) -> int:
    """Say of which class images are, and with what probability, a line an image.

    Files are decoded as a user's own photos are for training: turned upright, made RGB, cropped to their middle square
    and scaled; a model of 28x28 grey images takes no others. The probability is the softmax of the logits without a
    margin: it ranks images well and is not calibrated. What cannot be read is said in a line of its own, the others go
    on, and the exit code is 1.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other; give one of them")
    check_weights(weights)
    files = list(_files(images))
    from trainables.predictions import predict  # imports torch: only once there is something to look at
    from trainables.trained import load_model

    model = load_model(weights, loss=loss)
    names = model.class_names or class_names_of(weights, model.num_classes)
    if not names:
        print(f"{weights} was written before weights had the names of classes: these are numbers", file=sys.stderr)
    found = _told(predict(model, files, names))
    shown = _as_json(found) if as_json else _as_csv(found) if as_csv else _as_text(found)
    return EXIT_FAILED if shown else 0


def _files(images: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that are asked for.

    Raises:
        UserError: there is no such file, or no image in a folder.
    """
    from trainables.predictions import image_files

    for place in images:
        if not place.exists():
            raise UserError(f"{place}: there is no such file or folder")
        if not place.is_dir():
            yield place
        elif found := image_files(place):
            yield from found
        else:
            raise UserError(f"{place} holds no images: no file in it ends in .jpg, .png or what else is read")


def _told(found: "Iterable[Prediction]") -> "Iterator[Prediction]":
    """Pass on what is found, and say at once what cannot be read."""
    for prediction in found:
        if prediction.error is not None:
            print(f"error: {printable(prediction.error)}", file=sys.stderr)
        yield prediction


def _as_text(found: "Iterable[Prediction]") -> int:
    """Print a line for each that was read, and return how many were not."""
    broken = 0
    for prediction in found:
        if prediction.probability is None:
            broken += 1
        else:
            name = printable(str(prediction.class_name))
            print(f"{printable(str(prediction.file))}: {name} {prediction.probability:.3f}", flush=True)
    return broken


def _as_json(found: "Iterable[Prediction]") -> int:
    rows = [{**asdict(prediction), "file": str(prediction.file)} for prediction in found]
    print(json.dumps(rows, indent=2, allow_nan=False))
    return sum(row["error"] is not None for row in rows)


def _as_csv(found: "Iterable[Prediction]") -> int:
    writer, broken = csv.writer(sys.stdout, lineterminator="\n"), 0
    writer.writerow(_COLUMNS)
    for prediction in found:
        row = {**asdict(prediction), "file": str(prediction.file)}
        writer.writerow([csv_cell(row[column]) for column in _COLUMNS])
        broken += prediction.error is not None
    return broken


if __name__ == "__main__":
    run_command(main)
