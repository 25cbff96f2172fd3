"""Tune ArcFace, AdaLoss and softmax on a data set under equal budgets.

python tune/run_search.py --dataset cifar10
"""

import os
import re
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

# Python puts this file's folder first on the path; there our modules would stand before packages of the same name.
# `ray submit` copies this file alone to the head's home folder: then the installed packages are meant.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if (_HERE / "__init__.py").exists() and str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from trainables.errors import UserError  # noqa: E402
from tune.console import EXIT_FAILED, home_expanded, leave_job_folder, run_command  # noqa: E402
from tune.full_disk import full_disk_said  # noqa: E402

if TYPE_CHECKING:
    from tune.settings import ConfirmSettings, SearchSettings

_CONFIRMATION = {
    "confirm_seeds": "seeds",
    "candidates": "candidates",
    "candidate_seeds": "candidate_seeds",
    "controls": "controls",
    "robustness": "robustness",
}
_NO_SETTINGS = {
    *("context", "again", "resume", "add_loss", "extend", "no_confirm", "tensorboard", "mlflow", "dry_run"),
    *_CONFIRMATION,
}
_FIELDS = {  # options whose field has another name
    "loss": "losses",
    "time_budget": "time_budget_min",
    "checkpoint_interval": "checkpoint_interval_s",
}


def main(
    context: typer.Context,
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
        bool, typer.Option("--controls", help="hold AdaLoss against fixed, rising and replayed margins too")
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
    again: Annotated[
        str | None,
        typer.Option(
            metavar="RUN/TRIAL",
            help="train one configuration of an earlier run once more, in full, as a run of its own",
        ),
    ] = None,
) -> int:
    """Tune ArcFace, AdaLoss and softmax on a data set under equal budgets, on this machine or a Ray cluster.

    Every trial is one model with one loss; Optuna proposes settings, ASHA stops weak trials early. Then the best
    configurations are retrained on fresh seeds, one of each loss is chosen, and those are compared on paired seeds and
    the test split. All is recorded in OUTPUT/NAME and can be looked at with: python analysis/compare.py OUTPUT/NAME
    """
    params = {**context.params, "study_storage": _plain_study_storage(context)}
    given = {_FIELDS.get(k, k): v for k, v in params.items() if _was_given(context, k)}
    console = Console(stderr=False)
    from tune.settings import ConfirmSettings, load_confirm_settings, load_settings

    asked = {field: given[option] for option, field in _CONFIRMATION.items() if option in given}
    if no_confirm and asked:
        options = ", ".join("--" + option.replace("_", "-") for option in _CONFIRMATION if option in given)
        raise UserError(f"--no-confirm leaves out what {options} asks for; choose one")
    confirmation: ConfirmSettings | None = ConfirmSettings(**asked)
    resuming = resume or extend is not None
    if add_loss and not resuming:
        raise UserError("--add-loss gives an existing run a further loss, with --resume; a new run takes --loss")
    if again is not None and (resuming or asked):
        raise UserError("--again runs one trial and compares nothing; leave out what goes on with a run or confirms it")
    if resuming and dry_run:
        raise UserError("--dry-run plans a new run; leave it out to go on with one, which says how much time is left")
    if resuming:
        folder = _existing_run(output, name)
        recorded = load_settings(folder)
        if recorded.study_storage is None and _source(context, "study_storage") == "ENVIRONMENT":
            del given["study_storage"]  # the variable is for new runs; this one has a file of its own
        if _source(context, "storage") == "ENVIRONMENT":
            del given["storage"]  # likewise; this one has its place
        settings = recorded.resumed(_settings_of(given), extend).with_further(add_loss or ())
        settings = replace(settings, output=output, name=folder.name)
        confirmation = load_confirm_settings(folder, asked)
    elif again is not None:
        from tune.again import settings_again

        settings = settings_again(again, _settings_of(given), output, name)
    else:
        settings = _new_settings(params)
    settings.validate()
    if no_confirm or again is not None or confirmation is None:
        confirmation = None
    else:
        confirmation.validate(settings.losses)
    if dry_run:
        return _show_plan(settings, confirmation, console)
    return _run(settings, confirmation, resuming, tensorboard, mlflow, console)


def _show_plan(settings: "SearchSettings", confirmation: "ConfirmSettings | None", console: Console) -> int:
    from tune.plan import plan_run  # imports torch and Ray: only once the input is known to be good

    for line in plan_run(settings, confirmation, console).lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _run(
    settings: "SearchSettings",
    confirmation: "ConfirmSettings | None",
    resume: bool,
    tensorboard: bool,
    mlflow: str | None,
    console: Console,
) -> int:
    from tune import report
    from tune.run import search_and_confirm  # imports Ray: only once the input is known to be good

    go_on = shlex.join(
        ["python", "tune/run_search.py", "--resume", "--output", settings.output, "--name", settings.name]
    )
    anew = shlex.join(["python", *sys.argv])  # where the disk was full before there was a run

    with full_disk_said(settings.folder, lambda: go_on if settings.is_begun else anew, settings.storage):
        callbacks = report.loggers(settings, tensorboard=tensorboard, mlflow=mlflow)
        outcome = search_and_confirm(settings, confirmation, resume=resume, console=console, callbacks=callbacks)
        search = outcome.search
        if search.interrupted:
            report.show(settings.folder, console)
            return report.interrupted(search.interrupted, go_on, console)
        if search.unreachable:
            print(
                f"error: the study database {settings.study_storage} did not come back ({search.unreachable}); "
                f"nothing is lost, go on when it is there: {go_on}",
                file=sys.stderr,
            )
            return EXIT_FAILED
        if outcome.confirmation is None:
            report.report(settings.folder, console)
            return EXIT_FAILED if search.failures else 0
        code = report.confirmed(settings.folder, outcome.confirmation, console=console, go_on=go_on)
        return code or (EXIT_FAILED if search.failures else 0)


def _source(context: typer.Context, parameter: str) -> str | None:
    source = context.get_parameter_source(parameter)
    return None if source is None else source.name


def _was_given(context: typer.Context, parameter: str) -> bool:
    return _source(context, parameter) in {"COMMANDLINE", "ENVIRONMENT"}


def _plain_study_storage(context: typer.Context) -> str | None:
    """Return the URL of the study database without its password, which only the variable may hold."""
    from tune.storage.url import check_plain, plain_url

    url = context.params["study_storage"]
    if url is None:
        return None
    if _source(context, "study_storage") == "COMMANDLINE":
        check_plain(url, "--study-storage")
    return plain_url(url)


def _settings_of(given: dict[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in given.items() if key not in {*_NO_SETTINGS, "output", "name"}}
    if "losses" in values:
        values["losses"] = tuple(values["losses"])
    return values


def _new_settings(params: dict[str, Any]) -> "SearchSettings":
    from tune.settings import DEFAULT_LOSSES, SearchSettings, default_budget

    dataset = params["dataset"]
    if dataset is None:
        raise UserError(
            "--dataset is missing: mnist, cifar10, fashion_mnist, cifar100, a folder, or digits (needs no download)"
        )
    budget = default_budget(dataset)
    values = {_FIELDS.get(k, k): v for k, v in params.items() if k not in _NO_SETTINGS}
    for key in ("trials", "max_epochs", "batch_size"):
        values[key] = getattr(budget, key) if values[key] is None else values[key]
    if values["grace_epochs"] is None:
        values["grace_epochs"] = min(budget.grace_epochs, max(values["max_epochs"], 1))
    values["losses"] = tuple(values["losses"] or DEFAULT_LOSSES)
    values["model"] = values["model"] or ""
    if values["name"] is None:
        values["name"] = f"{_plain_name(dataset)}-{time.strftime('%Y%m%d-%H%M%S')}"
    return SearchSettings(**values)


def _plain_name(dataset: str) -> str:
    """Return what a run's name may begin with, whatever the data set's folder is called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(dataset).resolve().name).strip("._-")
    return name[:80] or "run"


def _existing_run(output: str, name: str | None) -> Path:
    from tune.records.schema import RUN_FILE
    from tune.settings import check_name

    if name is not None:
        check_name(name)
        return Path(output) / name
    runs = sorted(Path(output).glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise UserError(f"there is no run in {output} to go on with; see --output and --name")
    return runs[-1].parent


if __name__ == "__main__":
    leave_job_folder()
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    run_command(main)
