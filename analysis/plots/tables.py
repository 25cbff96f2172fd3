"""Tables of the pages: what is read number by number."""

from typing import Any

import pandas as pd

from analysis.arms import Kind, name_of
from analysis.formatting import duration, interval_pp, listed, p_value, percent, points
from analysis.loading import Run
from analysis.plots.bands import best_trial
from analysis.plots.picture import NamedRun, Table, plain
from analysis.plots.style import arm_name

__all__ = ["accuracy_table", "budget_table", "provenance_table", "speed_table", "verdict_table"]


def accuracy_table(runs: list[NamedRun]) -> Table:
    """Return accuracies of each loss on each data set, of the search and of the confirmation."""
    rows = []
    for run in runs:
        for loss in run.run.losses:
            best = best_trial(run.run, loss)
            rows.append(
                (
                    f"{run.prefix}{arm_name(loss)}",
                    "-" if best is None else percent(best["val_accuracy"]),
                    _tested(run.run.accuracies("winner", loss)),
                    _tested(run.run.accuracies("untuned", loss)),
                )
            )
    return Table(
        "accuracies",
        "Accuracies",
        "Validation: the best trial of the search, too good by selection. Test: mean and standard deviation over "
        "seeds; failed runs count at chance.",
        ("loss", "search (val.)", "tuned (test)", "untuned (test)"),
        tuple(rows),
        runs=tuple(run.slug for run in runs for _ in run.run.losses),
        arms=tuple((loss,) for run in runs for loss in run.run.losses),
    )


def _tested(values: pd.Series) -> str:
    if values.empty:
        return "-"
    spread = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.2f}{spread} %, n {len(values)}"


def budget_table(runs: list[NamedRun]) -> Table:
    """Return what each loss has cost, in the search and in the confirmation."""
    rows = []
    for run in runs:
        ended = run.run.trials[run.run.trials["state"] != "unfinished"]
        for spent in run.found.spent:
            states = ended.loc[ended["loss"] == spent.name, "state"].value_counts()
            searched = spent.dimensions is not None
            rows.append(
                (
                    f"{run.prefix}{arm_name(spent.name)}",
                    str(spent.dimensions) if searched else "-",
                    f"{spent.trials} of {spent.trials_asked}" if searched else "-",
                    *(str(states.get(state, 0)) if searched else "-" for state in ("finished", "stopped", "failed")),
                    f"{spent.search_epochs:,}",
                    duration(spent.search_seconds),
                    f"{spent.runs}, {spent.failed_runs} failed" if spent.failed_runs else str(spent.runs),
                    f"{spent.run_epochs:,}",
                    duration(spent.run_seconds),
                )
            )
    return Table(
        "budget",
        "What it cost",
        "Dimensions of the search space; trials of the search, with the epochs and the time of training and evaluating "
        "that went into them; runs of the confirmation, likewise. Time is summed over whatever ran side by side.",
        (
            *("loss", "dimensions", "trials", "finished", "stopped", "failed", "epochs", "time"),
            *("runs", "their epochs", "their time"),
        ),
        tuple(rows),
        runs=tuple(run.slug for run in runs for _ in run.found.spent),
        arms=tuple((spent.name,) for run in runs for spent in run.found.spent),
    )


def verdict_table(runs: list[NamedRun], *kinds: Kind) -> Table | None:
    """Return the comparisons of some kinds, p corrected over all runs; None without any."""
    shown = [
        (run, verdict, verdict.result)
        for run in runs
        for verdict in run.found.verdicts
        if verdict.kind in kinds and verdict.result is not None
    ]
    if not shown:
        return None
    rows = [
        (
            f"{run.prefix}{arm_name(verdict.first)} - {arm_name(verdict.second)}",
            points(result.mean),
            interval_pp(result.t_interval) or "-",
            interval_pp(result.bca_interval) or "-",
            p_value(verdict.p_holm if verdict.p_holm is not None else result.p),
            f"{result.superiority.share:.2f} [{result.superiority.interval.low:.2f}, "
            f"{result.superiority.interval.high:.2f}]",
            str(result.n),
            verdict.decision,
        )
        for run, verdict, result in shown
    ]
    return Table(
        "verdicts",
        "Verdicts",
        "Differences of test accuracy in percentage points with 95 % intervals; p of the exact sign-flip test, by Holm "
        "corrected over all data sets; share of seeds on which the first is ahead.",
        ("comparison", "pp", "t interval", "BCa interval", "p_holm", "P(A>B)", "n", "verdict"),
        tuple(rows),
        runs=tuple(run.slug for run, _, _ in shown),
        arms=tuple((verdict.first, verdict.second) for _, verdict, _ in shown),
    )


def speed_table(runs: list[NamedRun]) -> Table | None:
    """Return after how many epochs and seconds each loss reaches fixed accuracies; None where no seed is validated."""
    rows: list[tuple[str, ...]] = []
    about: list[tuple[str, str]] = []
    derived = []
    for run in runs:
        speed = run.found.speed
        if speed is None:
            continue
        derived += [run.label] if speed.derived else []
        reached = {arrival.threshold for arrival in speed.arrivals if arrival.reached}
        arrivals = [arrival for arrival in speed.arrivals if arrival.threshold in reached]
        about += [(run.slug, arrival.loss) for arrival in arrivals]
        rows += [
            (
                f"{run.prefix}{percent(arrival.threshold)}, {arm_name(arrival.loss)}",
                f"{arrival.reached} of {arrival.seeds}",
                "never" if arrival.epochs is None else f"{arrival.epochs:g}",
                "-" if arrival.seconds is None else duration(arrival.seconds),
            )
            for arrival in arrivals
        ]
    if not rows:
        return None
    how = f" On {listed(derived)} these are 90, 95 and 99 % of the lowest final accuracy." if derived else ""
    return Table(
        "speed",
        "Epochs to fixed validation accuracies",
        "The chosen configuration on the seeds on which it was chosen: how many of them reach the accuracy, and the "
        f"median epochs and training time until then; a seed that never does counts as longer than any.{how}",
        ("accuracy, loss", "seeds", "epochs", "time"),
        tuple(rows),
        runs=tuple(run for run, _ in about),
        arms=tuple((loss,) for _, loss in about),
    )


def provenance_table(runs: list[NamedRun]) -> Table:
    """Return where each run's numbers come from."""
    return Table(
        "provenance",
        "Where the numbers come from",
        "From run.json: the newest start of each run.",
        ("run", *(run.label for run in runs)),
        texts=True,
        rows=tuple(
            (what, *(plain(find(run.run), 200) for run in runs))
            for what, find in (
                ("folder", lambda run: run.folder.resolve().name),
                ("model", lambda run: run.info["settings"]["model"]),
                ("training images", _images),
                ("split", lambda run: str(run.info["dataset"].get("split_sha256", "-"))[:12]),
                ("budget per loss", _budget),
                ("reference", lambda run: name_of(run.planned_reference)),
                ("paired seeds asked for", lambda run: (run.confirmation or {}).get("seeds", "none")),
                ("command", lambda run: _newest(run).get("command", "-")),
                ("git revision", _revision),
                ("versions", _versions),
                ("hardware", _hardware),
            )
        ),
    )


def _images(run: Run) -> str:
    dataset = run.info["dataset"]
    return f"{dataset['train_images']:,}{', a part of them' if dataset['partial'] else ''}"


def _budget(run: Run) -> str:
    settings = run.info["settings"]
    return f"{settings['trials']} trials, at most {settings['max_epochs']} epochs"


def _newest(run: Run) -> dict[str, Any]:
    invocations = run.info["invocations"]
    newest = invocations[-1] if isinstance(invocations, list) and invocations else {}
    return newest if isinstance(newest, dict) else {}


def _part(run: Run, key: str) -> dict[str, Any]:
    part = _newest(run).get(key)
    return part if isinstance(part, dict) else {}


def _revision(run: Run) -> str:
    git = _part(run, "git")
    return f"{str(git.get('revision') or '-')[:12]}{', with changes' if git.get('dirty') else ''}"


def _versions(run: Run) -> str:
    versions = _part(run, "versions")
    return (
        ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "ray", "optuna") if name in versions)
        or "-"
    )


def _hardware(run: Run) -> str:
    hardware = _part(run, "hardware")
    gpus = hardware.get("gpus")
    parts = [f"{hardware.get('cpus', '?')} CPUs, {hardware.get('cpu', '?')}" if hardware else "-"]
    parts += [f"GPUs: {', '.join(map(str, gpus))}"] if isinstance(gpus, list) and gpus else []
    return "; ".join(parts)
