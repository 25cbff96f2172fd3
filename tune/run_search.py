"""Tune ArcFace, AdaLoss and softmax on a data set under equal budgets.

python tune/run_search.py --dataset cifar10
"""

import os
import sys
from functools import partial
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
from tune.invocation import own_command_line  # noqa: E402
from tune.opening import Opening  # noqa: E402

if TYPE_CHECKING:
    from tune.asked import Asked


# Under which heading of the help an option stands.
_data = partial(typer.Option, rich_help_panel="Data")
_trials = partial(typer.Option, rich_help_panel="Losses and model")
_budget = partial(typer.Option, rich_help_panel="Budget, the same for each loss")
_confirmation = partial(typer.Option, rich_help_panel="Confirmation")
_machine = partial(typer.Option, rich_help_panel="Machine")
_output = partial(typer.Option, rich_help_panel="Output")
_going_on = partial(typer.Option, rich_help_panel="Going on with a run")


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
        _data(help="mnist, cifar10, fashion_mnist, cifar100, digits (needs no download), or a folder of images"),
    ] = None,
    data_dir: Annotated[
        str | None,
        _data(envvar="ADALOSS_DATA", help="where data sets lie or are downloaded to", show_default="data"),
    ] = None,
    train_size: Annotated[
        int | None, _data(help="train on so many images only, for a quick look", show_default="all")
    ] = None,
    loss: Annotated[
        list[str] | None,
        _trials(
            metavar="LOSS",
            help="a loss by its name (an unknown one is answered with all); or one of your own: FILE.py:CLASS, "
            "package.module:CLASS, pml:CLASS of pytorch-metric-learning; repeatable",
            show_default="arcface, adaloss, softmax",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        _trials(
            metavar="LOSS",
            help="the loss against which the others are held",
            show_default="arcface beside adaloss, else the first loss",
        ),
    ] = None,
    model: Annotated[
        str | None,
        _trials(
            help="DigitsCNN, ArcFaceCNN, ArcFaceCNN_CIFAR10, ArcFaceCNN_w24 and ArcFaceCNN_CIFAR10_w24 (narrow), or "
            "resnet9",
            show_default="by data set",
        ),
    ] = None,
    batch_size: Annotated[int | None, _trials(help="images a step", show_default="by data set")] = None,
    precision: Annotated[
        str, _trials(help="auto, bf16, fp16 or float32, of the body; the head is always float32")
    ] = "auto",
    seed: Annotated[int, _trials(help="of draws, splits, weights, data order and augmentation")] = 0,
    trials: Annotated[int | None, _budget(help="configurations tried per loss", show_default="by data set")] = None,
    max_epochs: Annotated[int | None, _budget(help="epochs of a full trial", show_default="by data set")] = None,
    grace_epochs: Annotated[
        int | None, _budget(help="epochs before a trial may be stopped", show_default="by data set")
    ] = None,
    reduction_factor: Annotated[float, _budget(help="1/F of the trials go on from each rung (ASHA)")] = 3.0,
    time_budget: Annotated[
        float | None,
        _budget(help="minutes of wall time of the search per loss, shared by turns", show_default="none"),
    ] = None,
    confirm_seeds: Annotated[
        int | None,
        _confirmation(help="paired seeds on which the tuned losses are compared at the end", show_default="10"),
    ] = None,
    candidates: Annotated[
        int | None,
        _confirmation(help="best configurations of each loss that are retrained to choose one", show_default="3"),
    ] = None,
    candidate_seeds: Annotated[
        int | None, _confirmation(help="fresh seeds on which each of them is", show_default="3")
    ] = None,
    controls: Annotated[
        bool,
        _confirmation(
            "--controls",
            help="hold AdaLoss against fixed, rising and replayed margins too, relative AdaLoss against permuted ones",
        ),
    ] = False,
    robustness: Annotated[
        int | None,
        _confirmation(metavar="N", help="random configurations per loss, run in full", show_default="0"),
    ] = None,
    no_confirm: Annotated[
        bool, _confirmation("--no-confirm", help="search only; adaloss confirm, or tune/confirm.py, confirms later")
    ] = False,
    cpus_per_trial: Annotated[
        float | None, _machine(help="CPU cores, and threads, of a trial", show_default="every core busy")
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        _machine(help="GPUs of a trial; fractions share one, 0 is CPUs alone", show_default="by measured memory"),
    ] = None,
    max_concurrent: Annotated[int | None, _machine(help="trials at a time", show_default="as many as fit")] = None,
    niceness: Annotated[
        int, _machine(help="how far trials give way to other programs on their machine, 0 (not at all) to 19")
    ] = 0,
    address: Annotated[
        str | None,
        _machine(help="auto, local or a Ray cluster", show_default="the cluster of this machine, else this machine"),
    ] = None,
    storage: Annotated[
        str | None,
        _machine(
            envvar="ADALOSS_STORAGE",
            callback=home_expanded,
            help="path or URI for checkpoints that all nodes reach",
            show_default="the run's folder",
        ),
    ] = None,
    checkpoint_interval: Annotated[
        float,
        _machine(metavar="SECONDS", help="at least between two checkpoints of a trial; its end always has one"),
    ] = 5.0,
    output: Annotated[str, _output(callback=home_expanded, help="folder of all runs")] = "results",
    name: Annotated[
        str | None,
        _output(help="of this run", show_default="data set and time; with --resume, the newest run"),
    ] = None,
    study_storage: Annotated[
        str | None,
        _output(
            envvar="ADALOSS_STUDY_STORAGE",
            help="a team's database for the studies, postgresql://USER@HOST:PORT/DATABASE; the password comes from "
            "PGPASSWORD, .pgpass or the URL in the variable",
            show_default="study.db in the run's folder",
        ),
    ] = None,
    tensorboard: Annotated[
        bool, _output("--tensorboard", help="mirror metrics to the run's folder for TensorBoard")
    ] = False,
    mlflow: Annotated[str | None, _output(metavar="URI", help="mirror metrics to an MLflow server or file")] = None,
    dry_run: Annotated[
        bool, _output("--dry-run", help="print the plan of the run, with its bytes and its time, and end")
    ] = False,
    resume: Annotated[bool, _going_on("--resume", help="go on with an interrupted run")] = False,
    extend: Annotated[
        int | None,
        _going_on(metavar="N", help="go on with a finished run and try N more configurations per loss"),
    ] = None,
    add_loss: Annotated[
        list[str] | None,
        _going_on(
            metavar="LOSS",
            help="with --resume: give the run a further loss, with the budget, the split and the paired seeds of the "
            "others; repeatable",
        ),
    ] = None,
    again: Annotated[
        str | None,
        _going_on(
            metavar="RUN/TRIAL",
            help="train one configuration of an earlier run once more, in full, as a run of its own",
        ),
    ] = None,
) -> int:
    """Tune ArcFace, AdaLoss and softmax on a data set under equal budgets, on this machine or a Ray cluster.

    Every trial is one model with one loss; Optuna proposes settings, ASHA stops weak trials early. Then the best
    configurations are retrained on fresh seeds, one of each loss is chosen, and those are compared on paired seeds and
    the test split. All is recorded in OUTPUT/NAME; "adaloss compare OUTPUT/NAME" (or analysis/compare.py) shows it.
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
    with Opening(console, has_lines=False) as opening:
        opening.step(f"reading {wanted.settings.dataset}, training a few steps of each loss")
        from tune.plan import plan_run  # imports torch and Ray: only once the input is known to be good

        plan = plan_run(wanted.settings, wanted.confirmation, console)
    for line in plan.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _run(wanted: "Asked", console: Console) -> int:
    from tune import report

    settings, go_on = wanted.settings, wanted.go_on
    anew = own_command_line("search")  # where the disk was full before there was a run

    with full_disk_said(settings.folder, lambda: go_on if settings.is_begun else anew, settings.storage):
        callbacks = report.loggers(settings, tensorboard=wanted.tensorboard, mlflow=wanted.mlflow)
        with Opening(console) as opening:
            opening.step(f"loading Ray for {settings.folder}")
            from tune.run import search_and_confirm  # imports Ray: only once the input is known to be good

            outcome = search_and_confirm(
                settings,
                wanted.confirmation,
                resume=wanted.resume,
                console=console,
                callbacks=callbacks,
                opening=opening,
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
