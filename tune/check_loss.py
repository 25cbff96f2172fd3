"""Hold a loss to what a search asks of it, before it is searched with.

python tune/check_loss.py my_loss.py:MyLoss
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

from tune.console import EXIT_FAILED, printable, run_command  # noqa: E402


def main(
    loss: Annotated[
        str,
        typer.Argument(
            metavar="LOSS", help="FILE.py:CLASS, package.module:CLASS, pml:CLASS, or the name of a loss of this project"
        ),
    ],
) -> int:
    """Say of each rule of the contract of losses whether a loss keeps it; the exit code is 1 where it breaks one.

    A search holds a loss to the same before it begins, but for its gradients, which are here compared with finite
    differences, and for what would have a GPU waited for, which is advice.
    """
    from tune.own_losses import subject_of  # imports torch

    name, cls, space = subject_of(loss)
    from trainables.losses.contract import check_loss
    from tune.own_losses import first_arguments

    print(f"{name}: {cls.__name__}, {len(space.parameters)} tuned parameters")
    for line in space.describe():
        print(f"  {line}")
    broken = advice = 0
    for check in check_loss(cls, first_arguments(space), thorough=True):
        mark = "ok" if check.problem is None else "advice" if check.is_advice else "broken"
        print(f"{mark:<7} {check.rule}", flush=True)
        if check.problem is not None:
            print(f"        {printable(check.problem)}")
            broken, advice = broken + (not check.is_advice), advice + check.is_advice
    if broken:
        print(f"error: {name} breaks {broken} of the rules", file=sys.stderr)
        return EXIT_FAILED
    print(f"{name} keeps the contract; search with it: --loss {loss}")
    return 0


if __name__ == "__main__":
    run_command(main)
