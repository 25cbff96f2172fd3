"""Tune ArcFace, AdaLoss and softmax on a data set under equal budgets.

python tune/run_search.py --dataset cifar10
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
# `ray submit` copies this file alone to the head's home folder: then the installed packages are meant.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if (_HERE / "__init__.py").exists() and str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from tune.console import EXIT_FAILED, home_expanded, leave_job_folder, run_command  # noqa: E402
from tune.full_disk import full_disk_said  # noqa: E402

if TYPE_CHECKING:
    from tune.asked import Asked


def config_read(context: typer.Context, path: str | None) -> str | None:
    """Have the options that a file gives count where neither the command line nor a variable gives them."""
    if path is not None:
        from tune.run_config import options_of, read_config

        context.default_map = read_config(Path(path).expanduser(), options_of(main))
    return path


def main(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            callback=config_read,
            is_eager=True,
            help="YAML with options by their long names, such as a run's run.yaml; the command line counts more",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="mnist, cifar10, fashion_mnist, cifar100, digits (needs no download), or a folder of images"),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="a loss that has a file in search_spaces/; an unknown name is answered with all; repeatable  "
            "[default: arcface, adaloss, softmax]"
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS",
            help="the loss against which the others are held  [default: arcface beside adaloss, else the first loss]",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="DigitsCNN, ArcFaceCNN, ArcFaceCNN_CIFAR10, ArcFaceCNN_w24 and ArcFaceCNN_CIFAR10_w24 (narrow), or "
            "resnet9  [default: by data set]"
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="configurations tried per loss  [default: by data set]")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="epochs of a full trial  [default: by data set]")] = None,
    grace_epochs: Annotated[
        int | None, typer.Option(help="epochs before a trial may be stopped  [default: by data set]")
    ] = None,
    reduction_factor: Annotated[float, typer.Option(help="1/F of the trials go on from each rung (ASHA)")] = 3.0,
    time_budget: Annotated[
        float | None, typer.Option(help="minutes of wall time of the search per loss, shared by turns  [default: none]")
    ] = None,
    train_size: Annotated[
        int | None, typer.Option(help="train on so many images only, for a quick look  [default: all]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="images a step  [default: by data set]")] = None,
    precision: Annotated[
        str, typer.Option(help="auto, bf16, fp16 or float32, of the body; the head is always float32")
    ] = "auto",
    cpus_per_trial: Annotated[
        float | None, typer.Option(help="CPU cores, and threads, of a trial  [default: every core busy]")
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option(help="GPUs of a trial; fractions share one, 0 is CPUs alone  [default: by measured memory]"),
    ] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="trials at a time  [default: as many as fit]")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(envvar="ADALOSS_DATA", help="where data sets lie or are downloaded to  [default: data]"),
    ] = None,
    output: Annotated[str, typer.Option(callback=home_expanded, help="folder of all runs")] = "results",
    name: Annotated[
        str | None, typer.Option(help="of this run  [default: data set and time; with --resume, the newest run]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="ADALOSS_STORAGE",
            callback=home_expanded,
            help="path or URI for checkpoints that all nodes reach  [default: the run's folder]",
        ),
    ] = None,
    checkpoint_interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="at least between two checkpoints of a trial; its end always has one"),
    ] = 5.0,
    niceness: Annotated[
        int, typer.Option(help="how far trials give way to other programs on their machine, 0 (not at all) to 19")
    ] = 0,
    study_storage: Annotated[
        str | None,
        typer.Option(
            envvar="ADALOSS_STUDY_STORAGE",
            help="a team's database for the studies, postgresql://USER@HOST:PORT/DATABASE; the password comes from "
            "PGPASSWORD, .pgpass or the URL in the variable  [default: study.db in the run's folder]",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="auto, local or a Ray cluster  [default: the cluster of this machine, else this machine]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of draws, splits, weights, data order and augmentation")] = 0,
    confirm_seeds: Annotated[
        int | None, typer.Option(help="paired seeds on which the tuned losses are compared at the end  [default: 10]")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="best configurations of each loss that are retrained to choose one  [default: 3]")
    ] = None,
    candidate_seeds: Annotated[
        int | None, typer.Option(help="fresh seeds on which each of them is  [default: 3]")
    ] = None,
    no_confirm: Annotated[
        bool, typer.Option("--no-confirm", help="search only; tune/confirm.py confirms later")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="hold AdaLoss against fixed, rising and replayed margins too, relative AdaLoss against permuted ones",
        ),
    ] = False,
    robustness: Annotated[
        int | None, typer.Option(metavar="N", help="random configurations per loss, run in full  [default: 0]")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="mirror metrics to the run's folder for TensorBoard")
    ] = False,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="mirror metrics to an MLflow server or file")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the plan of the run, with its bytes and its time, and end")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
    add_loss: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOSS",
            help="with --resume: give the run a further loss, with the budget, the split and the paired seeds of the "
            "others; repeatable",
        ),
    ] = None,
    extend: Annotated[
        int | None, typer.Option(metavar="N", help="go on with a finished run and try N more configurations per loss")
    ] = None,
) -> int:
    """Tune ArcFace, AdaLoss and softmax on a data set under equal budgets, on this machine or a Ray cluster.

    Every trial is one model with one loss; Optuna proposes settings, ASHA stops weak trials early. Then the best
    configurations are retrained on fresh seeds, one of each loss is chosen, and those are compared on paired seeds and
    the test split. All is recorded in OUTPUT/NAME and can be looked at with: python analysis/compare.py OUTPUT/NAME
    """
    console = Console(stderr=False)
    wanted = asked_in(context)
    return _show_plan(wanted, console) if wanted.dry_run else _run(wanted, console)


def asked_in(context: typer.Context) -> "Asked":
    """Return what is asked for by the options of this command.

    Raises:
        UserError: something cannot be; the message names the option.
    """
    from tune.asked import asked

    sources = {name: context.get_parameter_source(name) for name in context.params}
    return asked(context.params, {name: source and source.name for name, source in sources.items()})


def _show_plan(wanted: "Asked", console: Console) -> int:
    from tune.plan import plan_run  # imports torch and Ray: only once the input is known to be good

    for line in plan_run(wanted.settings, wanted.confirmation, console).lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _run(wanted: "Asked", console: Console) -> int:
    from tune import report
    from tune.run import search_and_confirm  # imports Ray: only once the input is known to be good

    settings, go_on = wanted.settings, wanted.go_on
    anew = shlex.join(["python", *sys.argv])  # where the disk was full before there was a run

    with full_disk_said(settings.folder, lambda: go_on if settings.is_begun else anew, settings.storage):
        callbacks = report.loggers(settings, tensorboard=wanted.tensorboard, mlflow=wanted.mlflow)
        outcome = search_and_confirm(
            settings, wanted.confirmation, resume=wanted.resume, console=console, callbacks=callbacks
        )
        search = outcome.search
        if search.interrupted:
            report.show(settings.folder, console)
            return report.interrupted(search.interrupted, go_on, console)
        if search.unreachable:
            print(f"error: {report.unreachable(settings, search.unreachable, go_on)}", file=sys.stderr)
            return EXIT_FAILED
        if outcome.confirmation is None:
            report.report(settings.folder, console)
            return EXIT_FAILED if search.failures else 0
        code = report.confirmed(settings.folder, outcome.confirmation, console=console, go_on=go_on)
        return code or (EXIT_FAILED if search.failures else 0)


if __name__ == "__main__":
    leave_job_folder()
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    run_command(main)
