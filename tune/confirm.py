"""Confirm what a finished search found, on fresh paired seeds and the test split.

python tune/confirm.py results/cifar10-20260101-120000
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from tune.console import leave_job_folder, run_command  # noqa: E402
from tune.full_disk import full_disk_said  # noqa: E402
from tune.invocation import command_line  # noqa: E402
from tune.opening import Opening  # noqa: E402


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished search, such as results/NAME")],
    confirm_seeds: Annotated[
        int | None, typer.Option(help="paired seeds on which the losses are compared", show_default="10")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="best configurations of each loss that are retrained", show_default="3")
    ] = None,
    candidate_seeds: Annotated[
        int | None, typer.Option(help="fresh seeds on which they are, to choose one", show_default="3")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="hold AdaLoss against fixed, rising and replayed margins too, relative AdaLoss against permuted ones",
        ),
    ] = False,
    robustness: Annotated[
        int | None, typer.Option(metavar="N", help="random configurations per loss, run in full", show_default="0")
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE.py:CLASS", help="code of a loss of your own, as the search was given it; repeatable"
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(envvar="ADALOSS_DATA", help="where data sets lie", show_default="as the search")
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option(help="CPU cores of a run", show_default="as the search")
    ] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="GPUs of a run", show_default="as the search")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="runs at a time", show_default="as the search")] = None,
    address: Annotated[
        str | None, typer.Option(help="auto, local or a Ray cluster", show_default="as the search")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="mirror metrics to RUN/tensorboard for TensorBoard")
    ] = False,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="mirror metrics to an MLflow server or file")
    ] = None,
) -> int:
    """Retrain the best configurations on fresh seeds, choose one for each loss, and compare those on paired seeds.

    The test split is read once, by each chosen configuration on each seed, after its last epoch. What is done stays:
    the same command goes on after an interruption, and adds what an earlier one was not asked for. Options that are not
    given are those of the run's earlier confirmation.
    """
    from tune import report
    from tune.own_losses import with_known_code
    from tune.settings import ConfirmSettings, load_confirm_settings, load_settings

    moved: dict[str, Any] = {
        "data_dir": data_dir,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "max_concurrent": max_concurrent,
        "address": address,
    }
    named: dict[str, Any] = {"losses": tuple(loss)} if loss else {}
    settings = load_settings(run)
    settings = replace(settings, output=str(run.resolve().parent), name=run.resolve().name)
    settings, named = with_known_code(settings, named)
    settings = settings.resumed({name: value for name, value in (moved | named).items() if value is not None}, None)
    settings.validate()
    asked = {
        "seeds": confirm_seeds,
        "candidates": candidates,
        "candidate_seeds": candidate_seeds,
        "controls": controls or None,
        "robustness": robustness,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    confirmation = load_confirm_settings(settings.folder, given) or ConfirmSettings()
    confirmation.validate(settings.losses)
    go_on = command_line("confirm", run, *settings.code_options)
    with full_disk_said(settings.folder, lambda: go_on, settings.storage):
        callbacks = report.loggers(settings, tensorboard=tensorboard, mlflow=mlflow)
        console = Console()
        with Opening(console) as opening:
            opening.step(f"loading Ray for {run}")
            from tune.run import confirm_run  # imports Ray: only once the input is known to be good

            outcome = confirm_run(settings, confirmation, console=console, callbacks=callbacks, opening=opening)
        return report.confirmed(run, outcome, console=console, go_on=go_on)


if __name__ == "__main__":
    leave_job_folder()
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    run_command(main)
