"""Findings for other programs: plain values for JSON, long rows for CSV."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from analysis.findings import Findings
from tune.console import csv_cell

__all__ = ["as_plain", "rows", "to_csv"]

_BUDGET = ("trials", "max_epochs", "grace_epochs", "reduction_factor")


def as_plain(found: Findings) -> dict[str, Any]:
    """Return what JSON can hold; accuracies and differences are fractions, "confirmation" is None without one."""
    run = found.run
    confirmation = None
    if found.is_confirmed:
        confirmation = {
            "asked": run.confirmation,
            "verdicts": [asdict(verdict) for verdict in found.verdicts],
            "accuracies": [asdict(row) for row in found.accuracies],
            "ranking": asdict(found.ranking) if found.ranking else None,
            "classes": [asdict(row) for row in found.classes],
            "adaptivity": found.adaptivity,
            "claims": [asdict(claim) for claim in found.claims],
            "speed": asdict(found.speed) if found.speed else None,
            "robustness": asdict(found.robustness) if found.robustness else None,
            "spent": [asdict(row) for row in found.spent],
            "caveats": list(found.caveats),
            "winners": run.winners,
        }
    plain = {
        "run": str(run.folder),
        "dataset": run.dataset,
        "partial": run.info["dataset"]["partial"],
        "train_images": run.info["dataset"]["train_images"],
        "model": run.info["settings"]["model"],
        "budget": {key: run.info["settings"][key] for key in _BUDGET},
        "reference": run.reference,
        "planned_reference": run.planned_reference,
        "losses": list(found.search),
        "confirmation": confirmation,
    }
    return {key: _listed(value) for key, value in plain.items()}


def _listed(value: Any) -> Any:
    """Replace tuples by the lists that JSON makes of them, and NaN from a file, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def to_csv(all_found: Sequence[Findings]) -> str:
    """Return one line a number: run, data set, what it is about, which loss or comparison, quantity, value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("run", "dataset", "about", "subject", "quantity", "value"))
    for found in all_found:
        for row in rows(found):
            writer.writerow(csv_cell(value) for value in (str(found.run.folder), found.run.dataset, *row))
    return file.getvalue().removesuffix("\n")


def rows(found: Findings) -> Iterator[tuple[str, str, str, Any]]:
    """Yield each number, or text, of a run: what it is about, which loss or comparison, quantity, value."""
    for about, subject, values in _subjects(found):
        for quantity, value in _flat(values):
            yield about, subject, quantity, value


def _subjects(found: Findings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for loss in found.search:
        yield "search", loss["loss"], loss
    if not found.is_confirmed:
        return
    if found.run.reference != found.run.planned_reference:
        yield "reference", found.run.reference, {"planned": found.run.planned_reference}
    for row in found.accuracies:
        yield f"{row.role} accuracy", row.arm, asdict(row)
    if found.ranking:
        yield "ranking", found.run.reference, {"seeds": len(found.ranking.pairs), "p": found.ranking.p}
        for rank in found.ranking.ranks:
            yield "rank", rank.loss, asdict(rank)
    for classes in found.classes:
        yield f"{classes.role} classes", classes.arm, asdict(classes)
    for verdict in found.verdicts:
        yield f"{verdict.kind} verdict", f"{verdict.first} - {verdict.second}", asdict(verdict)
    for claim in found.claims:
        yield f"{claim.settings} claim", "adaloss - arcface", asdict(claim)
    if found.speed:
        for arrival in found.speed.arrivals:
            yield "speed", f"{arrival.loss} to {arrival.threshold:.4g}", asdict(arrival)
        for lead in found.speed.leads:
            yield "speed", f"{lead.first} - {lead.second} to {lead.threshold:.4g}", asdict(lead)
    if found.robustness:
        for arm in found.robustness.arms:
            yield "random draws", arm.arm, asdict(arm)
        for difference in found.robustness.differences:
            yield "random draws", f"{difference.first} - {difference.second}", asdict(difference)
        for foresight in found.robustness.foresight:
            yield "random draws", f"{foresight.arm} at epoch {foresight.epoch}", asdict(foresight)
    for spent in found.spent:
        yield "budget", spent.name, asdict(spent)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of nested ones, with their path; what is None is left out."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = {str(place): item for place, item in enumerate(value)}.items()
    else:
        if value is not None:
            yield name, value
        return
    for key, item in parts:
        yield from _flat(item, f"{name}.{key}" if name else str(key))
