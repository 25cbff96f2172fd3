"""Make a model that a run has left one file that runs without this project.

python tune/export.py results/cifar10-20260101-120000/winner_adaloss.pt model.onnx
"""

import sys
from pathlib import Path
from typing import Annotated

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from trainables.errors import UserError  # noqa: E402
from tune.console import run_command  # noqa: E402
from tune.weights import CODE_HELP, WEIGHTS_HELP, check_weights, class_names_of  # noqa: E402

_SUFFIXES = (".onnx", ".ts")  # those of trainables.exported.FORMATS, which comes with torch


def main(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP)],
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="what is written: .onnx for ONNX, .ts for TorchScript")
    ],
    loss: Annotated[str | None, typer.Option(metavar="FILE.py:CLASS", help=CODE_HELP)] = None,
) -> None:
    """Write a trained model to one file for other programs: ONNX, or TorchScript.

    It takes images as bytes, uint8 (N, height, width, channels) in grey levels from 0 to 255, any number at a time, and
    gives logits, float32 (N, classes). Normalisation is inside. Before the file takes its name, it is loaded again and
    has to give the model's logits to within 1e-4 of the largest. It has the names of the classes, as JSON called
    "classes", in ONNX's metadata or TorchScript's extra files. ONNX needs: pip install onnx onnxscript onnxruntime
    """
    check_weights(weights)
    if target.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{target}: its name must end in {' or '.join(_SUFFIXES)}, which says what it shall be")
    if target.is_dir():
        raise UserError(f"{target} is a folder; give the file that shall be written")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}; make it, or choose another place")
    from trainables.exported import FORMATS, TOLERANCE, export_model  # imports torch
    from trainables.trained import load_model

    model = load_model(weights, loss=loss)
    names = model.class_names or class_names_of(weights, model.num_classes)
    try:
        difference = export_model(model, target, names)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    kind, shape = FORMATS[target.suffix.lower()].name, ", ".join(map(str, model.image_shape))
    print(
        f"{target}: {kind}, {target.stat().st_size / 1e6:.2f} MB; images uint8 (N, {shape}) in, logits "
        f"float32 (N, {model.num_classes}) out; checked, they differ by {difference:.0e} of the largest "
        f"({TOLERANCE:.0e} is allowed)"
    )


if __name__ == "__main__":
    run_command(main)
