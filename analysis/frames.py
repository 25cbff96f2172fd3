"""The tables of :mod:`analysis.runs`: their columns, with types and units, and how they are made of what runs recorded.

The columns are an interface: a table has all of them, of these types and in this order, whatever a run has. What a run
does not have is NaN in a float64, <NA> in a string or Int64, None in an object.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings import Findings, search_summary
from analysis.loading import Run
from analysis.report.export import rows
from analysis.statistics.stats import Interval
from analysis.statistics.verdict import Verdict
from tune.records import RecordError

__all__ = ["FRAMES", "Column", "Frame", "correct_images", "frame"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: of the column.
        dtype: of pandas.
        meaning: with its unit.
    """

    name: str
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Frame:
    """A table.

    Args:
        about: what a row is.
        columns: of the table, after the two that all tables have.
        of_run: gives the rows of a run by its records, without the two common columns; or
        of_findings: does, by the statistics.
    """

    about: str
    columns: tuple[Column, ...]
    of_run: Callable[[Run], Iterable[Mapping[str, Any]]] | None = None
    of_findings: Callable[[Findings], Iterable[Mapping[str, Any]]] | None = None

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """All columns, in order."""
        return (*_COMMON, *self.columns)


def frame(name: str, runs: Iterable[Run], findings: Callable[[], Iterable[Findings]]) -> pd.DataFrame:
    """Return a table of several runs, one below the other.

    Args:
        name: in :data:`FRAMES`.
        runs: their records.
        findings: gives what they show; called where the table needs it, for it takes seconds.
    """
    wanted = FRAMES[name]
    found = [{**_common(run), **row} for run in runs for row in wanted.of_run(run)] if wanted.of_run else []
    if wanted.of_findings:
        found += [{**_common(one.run), **row} for one in findings() for row in wanted.of_findings(one)]
    return pd.DataFrame(
        {column.name: _typed([row.get(column.name) for row in found], column.dtype) for column in wanted.all_columns}
    )


def _common(run: Run) -> dict[str, str]:
    return {"run": str(run.folder), "dataset": run.dataset}


def _typed(values: list[Any], dtype: str) -> "pd.Series[Any]":
    """Return values as a column; NaN, which pandas makes of what is missing, counts as missing."""
    known = [None if isinstance(value, float) and np.isnan(value) else value for value in values]
    column: pd.Series[Any] = pd.Series(known, dtype=object).astype(dtype)  # type: ignore[call-overload]
    return column


def correct_images(run: Run, role: str) -> pd.DataFrame:
    """Return which test images the runs of a role got right, (runs, images), with arm and pair as index.

    Args:
        run: the records.
        role: winner, untuned or control.

    Raises:
        RecordError: what is on record does not fit the number of test images.
    """
    found = {arm: run.correct_images(role, arm) for arm in run.arms(role)}
    parts = {arm: part for arm, part in found.items() if len(part)}
    index = pd.MultiIndex.from_tuples(
        [(arm, int(pair)) for arm, part in parts.items() for pair in part.index], names=["arm", "pair"]
    )
    images = max((part.shape[1] for part in parts.values()), default=0)
    if any(part.shape[1] != images for part in parts.values()):
        raise RecordError(f"{run.folder}: arms were tested on different images; its records were edited")
    bits = np.concatenate([part.to_numpy(dtype=bool) for part in parts.values()]) if parts else np.empty((0, 0), bool)
    return pd.DataFrame(bits, index=index, columns=pd.RangeIndex(images, name="image"), dtype=bool)


# --- Rows ------------------------------------------------------------------------------------------------------------


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _search(run: Run) -> Iterator[dict[str, Any]]:
    for loss in run.losses:
        row = search_summary(run, loss)
        best = row["best"] or {}
        yield {**row, **{f"best_{key}": best.get(key) for key in ("trial_id", "val_accuracy", "epochs", "config")}}


def _counted(run: Run) -> set[str]:
    """Return the ids of the runs of a confirmation on which what the report shows rests."""
    groups = run.seed_runs[["role", "arm", "trial_id"]].drop_duplicates().itertuples(index=False)
    asked = {(role, arm, trial_id if role == "candidate" else None) for role, arm, trial_id in groups}
    return {str(run_id) for group in asked for run_id in run.seed_runs_of(*group)["run_id"]}


def _confirmation_runs(run: Run) -> Iterator[dict[str, Any]]:
    counted = _counted(run)
    for row in _records(run.seed_runs):
        yield {**row, "counted": row["run_id"] in counted}


def _curves(run: Run) -> Iterator[dict[str, Any]]:
    for row in _confirmation_runs(run):
        for epoch in row["curve"]:
            yield {**{key: row[key] for key in _SEED_RUN}, **epoch}


def _class_accuracies(run: Run) -> Iterator[dict[str, Any]]:
    classes = run.info["dataset"].get("classes") or []
    for row in _confirmation_runs(run):
        if not isinstance(row["confusion"], list):
            continue
        for number, (name, answers) in enumerate(zip(classes, row["confusion"], strict=True)):
            images, right = sum(answers), answers[number]
            share = right / images if images else None
            common = {key: row[key] for key in _SEED_RUN}
            yield {**common, "class_index": number, "class_name": name, "images": images, "accuracy": share}


def _verdicts(found: Findings) -> Iterator[dict[str, Any]]:
    for verdict in found.verdicts:
        yield {**_plain(verdict), **_result(verdict)}


def _plain(verdict: Verdict) -> dict[str, Any]:
    names = ("kind", "first", "second", "first_accuracy", "second_accuracy", "correlation", "p_holm", "family", "bound")
    return {name: getattr(verdict, name) for name in (*names, "decision", "seeds_needed", "sentence")}


def _result(verdict: Verdict) -> dict[str, Any]:
    result, too = verdict.result, verdict.images_too
    if result is None:
        return {"pairs": 0}
    return {
        "pairs": result.n,
        "difference": result.mean,
        "sd": result.sd,
        "p": result.p,
        "superiority": result.superiority.share,
        **_ends("t", result.t_interval),
        **_ends("bca", result.bca_interval),
        **_ends("superiority", result.superiority.interval),
        **_ends("images", None if too is None else too.interval),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _pairs(found: Findings) -> Iterator[dict[str, Any]]:
    for verdict in found.verdicts:
        for pair, difference in zip(verdict.pairs, verdict.differences, strict=True):
            arms = {name: getattr(verdict, name) for name in ("kind", "first", "second")}
            yield {**arms, "pair": pair, "difference": difference}


def _statistics(found: Findings) -> Iterator[dict[str, Any]]:
    for about, subject, quantity, value in rows(found):
        is_text = isinstance(value, str)
        yield {
            "about": about,
            "subject": subject,
            "quantity": quantity,
            "value": None if is_text else float(value),
            "text": value if is_text else None,
        }


# --- Columns ---------------------------------------------------------------------------------------------------------

_COMMON = (
    Column("run", "string", "the run's folder, as it was given"),
    Column("dataset", "string", "its data set"),
)
_LOSS = Column("loss", "string", "a loss, by its name in --loss")
_TRIAL = Column("trial_id", "string", "a trial of the search, <loss>-<number>")
_SEED_RUN = ("run_id", "role", "arm", "pair", "seed", "counted")
_OF_SEED_RUN = (
    Column("run_id", "string", "a training run of the confirmation"),
    Column("role", "string", "candidate, winner, untuned, control or robustness"),
    Column("arm", "string", "a loss, or a control of AdaLoss"),
    Column("pair", "int64", "index of the seed: runs of one pair share weights, data order and augmentation"),
    Column("seed", "int64", "the seed itself"),
    Column("counted", "bool", "whether what the report shows rests on it: not where it was run again, or won no more"),
)
_MEASURED = (
    Column("epoch", "int64", "from 1"),
    Column("val_accuracy", "float64", "fraction of the validation images that are classified rightly"),
    Column("val_loss", "float64", "mean loss on validation images, nats"),
    Column("train_accuracy", "float64", "fraction of the training images, without the margin"),
    Column("train_loss", "float64", "mean loss on training images, with the margin, nats"),
    Column("margin_rad", "float64", "mean margin that was applied, radians"),
    Column("margin_raw_rad", "float64", "the margin before the competence gate, radians"),
    Column("margin_per_class_rad", "object", "a list of margins by class, radians"),
    Column("difficulty", "float64", "AdaLoss's running measure of difficulty"),
    Column("competence", "float64", "AdaLoss's competence, 0 to 1"),
    Column("scale", "float64", "of a loss that moves its own, such as AdaCos"),
    Column("learning_rate", "float64", "at the end of the epoch"),
    Column("seconds", "float64", "of training and evaluating, seconds"),
    Column("images_per_s", "float64", "images a second"),
)
_PAIR_OF_ARMS = (
    Column("kind", "string", "primary (a loss against the reference), baseline (a margin against none) or control"),
    Column("first", "string", "the arm that may be better"),
    Column("second", "string", "what it is held against"),
)

FRAMES: dict[str, Frame] = {
    "search": Frame(
        "What the search of a loss came to.",
        (
            _LOSS,
            Column("dimensions", "int64", "of its search space"),
            Column("trials", "int64", "begun; the next four are of them"),
            Column("finished", "int64", "trained in full"),
            Column("stopped", "int64", "stopped early by ASHA"),
            Column("failed", "int64", "broken or diverged"),
            Column("unfinished", "int64", "neither"),
            Column("epochs", "int64", "trained in all"),
            Column("seconds", "float64", "of training and evaluating in all, seconds"),
            Column("best_trial_id", "string", "the best trial"),
            Column("best_val_accuracy", "float64", "its validation accuracy, a fraction; too good, by selection"),
            Column("best_epochs", "Int64", "its epochs"),
            Column("best_config", "object", "its configuration, a dict"),
            Column("first_error", "string", "last line of the first error of a trial"),
        ),
        _search,
    ),
    "trials": Frame(
        "A trial of the search.",
        (
            _LOSS,
            _TRIAL,
            Column("state", "string", "finished, stopped, failed or unfinished"),
            Column("epochs", "int64", "trained"),
            Column("val_accuracy", "float64", "validation accuracy after its last epoch, a fraction"),
            Column("seconds", "float64", "of training and evaluating, seconds"),
            Column("config", "object", "its configuration, a dict; pandas.json_normalize makes columns of it"),
            Column("error", "string", "why it failed"),
        ),
        lambda run: _records(run.trials),
    ),
    "epochs": Frame(
        "An epoch of a trial of the search.",
        (_LOSS, _TRIAL, *_MEASURED),
        lambda run: _records(run.epochs),
    ),
    "confirmation_runs": Frame(
        "A training run of the confirmation.",
        (
            *_OF_SEED_RUN,
            _TRIAL,
            Column("config", "object", "its configuration, a dict"),
            Column("epochs", "int64", "trained"),
            Column("seconds", "float64", "of training and evaluating, seconds"),
            Column("accuracy", "float64", "what counts, a fraction: of the split of its role, chance where it failed"),
            Column("failed", "bool", "whether it diverged, and so counts at chance"),
            Column("val_accuracy", "float64", "fraction of the validation images, for candidates and random draws"),
            Column("test_accuracy", "float64", "fraction of the test images, for the other roles"),
            Column("test_loss", "float64", "mean loss on test images, nats"),
            Column("ece", "float64", "expected calibration error on test images, 15 equal bins, a fraction"),
            Column("mean_confidence", "float64", "mean of the highest probability on test images"),
            Column("error", "string", "why it failed"),
            Column("time", "float64", "when it ended, unix seconds"),
        ),
        _confirmation_runs,
    ),
    "curves": Frame(
        "An epoch of a run of the confirmation.",
        (*_OF_SEED_RUN, *_MEASURED),
        _curves,
    ),
    "class_accuracies": Frame(
        "A class in a run of the confirmation that read the test split.",
        (
            *_OF_SEED_RUN,
            Column("class_index", "int64", "number of the class, from 0"),
            Column("class_name", "string", "its name"),
            Column("images", "int64", "test images of the class"),
            Column("accuracy", "float64", "fraction of them that are classified rightly"),
        ),
        _class_accuracies,
    ),
    "accuracies": Frame(
        "An arm on the paired seeds, failed runs at chance.",
        (
            Column("role", "string", "winner, untuned or control"),
            Column("arm", "string", "a loss, or a control of AdaLoss"),
            Column("seeds", "int64", "runs"),
            Column("failed", "int64", "of them"),
            Column("mean", "float64", "of the test accuracies, a fraction"),
            Column("sd", "float64", "their standard deviation"),
            Column("lowest", "float64", "of them"),
            Column("highest", "float64", "of them"),
            Column("validation", "float64", "mean validation accuracy with which the configuration was chosen"),
        ),
        of_findings=lambda found: map(asdict, found.accuracies),
    ),
    "verdict_table": Frame(
        "A comparison of two arms; differences are first - second, fractions of the test images.",
        (
            *_PAIR_OF_ARMS,
            Column("decision", "string", "better, worse, equivalent or inconclusive"),
            Column("pairs", "int64", "common seeds"),
            Column("difference", "float64", "mean paired difference"),
            Column("sd", "float64", "standard deviation of the differences"),
            Column("t_low", "float64", "95 % t interval of the mean"),
            Column("t_high", "float64", "its other end"),
            Column("bca_low", "float64", "95 % BCa bootstrap interval of the mean"),
            Column("bca_high", "float64", "its other end"),
            Column("images_low", "float64", "95 % interval for other test images as well as other seeds"),
            Column("images_high", "float64", "its other end"),
            Column("p", "float64", "of the exact sign-flip test, two-sided"),
            Column("p_holm", "float64", "corrected over all comparisons of this kind, of all runs that were loaded"),
            Column("family", "int64", "their number"),
            Column("superiority", "float64", "P(first > second) on a seed, ties half"),
            Column("superiority_low", "float64", "its 95 % interval"),
            Column("superiority_high", "float64", "its other end"),
            Column("correlation", "float64", "of the two accuracies over the seeds"),
            Column("first_accuracy", "float64", "mean over the common seeds, a fraction"),
            Column("second_accuracy", "float64", "likewise"),
            Column("bound", "float64", "differences below it do not matter"),
            Column("seeds_needed", "Int64", "about so many for a decision, where there is none yet"),
            Column("sentence", "string", "all of this in a line"),
        ),
        of_findings=_verdicts,
    ),
    "differences": Frame(
        "A common seed of a comparison.",
        (
            *_PAIR_OF_ARMS,
            Column("pair", "int64", "index of the seed"),
            Column("difference", "float64", "first - second, fractions of the test images"),
        ),
        of_findings=_pairs,
    ),
    "statistics": Frame(
        "A number of the report, or a text: analysis/compare.py --csv, as a table.",
        (
            Column("about", "string", "such as search, primary verdict, speed, random draws, budget"),
            Column("subject", "string", "a loss, an arm or a comparison"),
            Column("quantity", "string", "what is measured; parts of it after a dot"),
            Column("value", "float64", "a number, or 1 and 0 for true and false"),
            Column("text", "string", "or a text"),
        ),
        of_findings=_statistics,
    ),
}
