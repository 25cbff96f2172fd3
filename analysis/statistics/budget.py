"""What a comparison cost, and what a reader must know to weigh it."""

import time
from dataclasses import dataclass
from typing import Any

from analysis.arms import name_of
from analysis.formatting import listed
from analysis.loading import Run
from analysis.statistics.stats import MIN_SEEDS
from tune.records.schema import ADDED_LOSSES, REPEATED_TEST_IMAGES

__all__ = ["Spent", "caveats", "spending"]

_TESTED = ("winner", "untuned", "control")  # roles whose accuracies a person may have looked at


@dataclass(frozen=True)
class Spent:
    """What went into a loss, search and confirmation.

    Args:
        name: of the loss, or "controls": variants of AdaLoss that have no search of their own.
        dimensions: of its search space, None for the controls.
        trials: of the search, ended ones.
        trials_asked: of the search.
        failed_trials: of them; they count as the worst.
        search_epochs: trained, also by trials that were stopped.
        search_seconds: of training and evaluating.
        runs: of the confirmation, whatever their role.
        failed_runs: of them; they count at chance.
        run_epochs: trained in them.
        run_seconds: of training and evaluating.
    """

    name: str
    dimensions: int | None
    trials: int
    trials_asked: int
    failed_trials: int
    search_epochs: int
    search_seconds: float
    runs: int
    failed_runs: int
    run_epochs: int
    run_seconds: float


def spending(run: Run) -> list[Spent]:
    """Return what each loss cost, and the controls where there are any."""
    names = run.seed_runs["arm"].where(run.seed_runs["role"] != "control", "controls")
    names = names.where(names.isin(run.losses), "controls")  # the gated ArcFace among the random draws too
    rows = []
    for name in [*run.losses, *(["controls"] if (names == "controls").any() else [])]:
        trials = run.trials[run.trials["loss"] == name]
        runs = run.seed_runs[names == name]
        is_loss = name in run.losses
        rows.append(
            Spent(
                name=name,
                dimensions=int(run.info["search_spaces"][name]["dimensions"]) if is_loss else None,
                trials=int((trials["state"] != "unfinished").sum()),
                trials_asked=int(run.info["settings"]["trials"]) if is_loss else 0,
                failed_trials=int((trials["state"] == "failed").sum()),
                search_epochs=int(trials["epochs"].sum()),
                search_seconds=float(trials["seconds"].sum()),
                runs=len(runs),
                failed_runs=int(runs["failed"].astype(bool).sum()),
                run_epochs=int(runs["epochs"].sum()),
                run_seconds=float(runs["seconds"].sum()),
            )
        )
    return rows


def caveats(run: Run) -> list[str]:
    """Return what limits the comparison, each a sentence."""
    found = []
    if run.info["dataset"]["partial"]:
        images = run.info["dataset"]["train_images"]
        found.append(f"Trained on a part of the data ({images:,} images): accuracies are below those of all of it.")
    if repeated := run.info["dataset"].get(REPEATED_TEST_IMAGES):
        found.append(f"{repeated:,} test images are trained on as well, pixel for pixel: accuracies are too high.")
    if run.reference != run.planned_reference:
        found.append(
            f"The reference was changed to {name_of(run.reference)} after the run was planned with "
            f"{name_of(run.planned_reference)}: a look at the results may have been the reason, and p values do not "
            "allow for that."
        )
    found += _later_losses(run)
    for row in spending(run):
        if row.trials < row.trials_asked:
            found.append(f"{name_of(row.name)} has {row.trials} of {row.trials_asked} trials.")
    confirmation = run.confirmation
    if confirmation is not None:
        found += _confirmation_caveats(run, confirmation)
    failed = [f"{row.failed_runs} of {row.runs} ({name_of(row.name)})" for row in spending(run) if row.failed_runs]
    if failed:
        found.append(f"Runs of the confirmation that failed and count at chance: {listed(failed)}.")
    return found


def _later_losses(run: Run) -> list[str]:
    tested = run.seed_runs[run.seed_runs["role"].isin(_TESTED)]
    found = []
    for loss, added in (run.info.get(ADDED_LOSSES) or {}).items():
        others = tested[(tested["time"] < added["time"]) & (tested["arm"] != loss)]
        when = time.strftime("%Y-%m-%d", time.gmtime(added["time"]))
        known = f", when {len(others)} test results of the others were known" if len(others) else ""
        found.append(
            f"{name_of(loss)} was added on {when}{known}: that it is compared at all was not planned with the rest."
        )
    return found


def _confirmation_caveats(run: Run, confirmation: dict[str, Any]) -> list[str]:
    found = []
    seeds = confirmation.get("seeds")
    if seeds is not None and seeds < MIN_SEEDS:
        found.append(
            f"{seeds} paired seeds: the exact test cannot reach 0.05 with fewer than {MIN_SEEDS}, so no loss can be "
            f"called better; ask for more with --confirm-seeds."
        )
    have = {loss: len(run.seed_runs_of("winner", loss)) for loss in run.losses}
    late = [f"{name_of(arm)} has {count}" for arm, count in have.items() if seeds is not None and count < seeds]
    if late:
        found.append(f"Of {seeds} paired seeds, {listed(late)} so far: what is said of them is provisional.")
    if raised := _raised(run, confirmation):
        found.append(
            f"Seeds were raised from {' to '.join(map(str, raised))} after results were there: a look at them may have "
            "been the reason, and p values do not allow for that."
        )
    return found


def _raised(run: Run, confirmation: dict[str, Any]) -> list[int]:
    """Return the numbers of seeds asked for one after the other, if any was raised when tested runs were on record."""
    tested = run.seed_runs[run.seed_runs["role"].isin(_TESTED)]["time"].dropna()
    asked: list[int] = []
    looked = False
    for entry in confirmation.get("history", []):
        seeds, when = entry.get("seeds"), entry.get("time")
        if not isinstance(seeds, int) or (asked and seeds <= asked[-1]):
            continue
        looked |= bool(asked) and isinstance(when, int | float) and bool((tested < when).any())
        asked.append(seeds)
    return asked if looked else []
