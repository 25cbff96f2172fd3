"""Pictures of a run, and the records that they are drawn from, as tests look at them."""

from functools import cache

from analysis.findings import load_findings
from analysis.plots import PAGES
from tune.records import current_epochs, read_records


def pictures_of(folder, page, start=""):
    """The pictures of a page whose key begins with a text, by key; of a run that stays as it is, drawn once."""
    return {picture.key: picture for picture in _sheet(folder, page).pictures if picture.key.startswith(start)}


@cache
def _sheet(folder, page):
    return next(p for p in PAGES if p.key == page).build(_findings(folder))


@cache
def _findings(folder):
    return load_findings([folder])


def trace_of(picture, name, **wanted):
    """The only trace of a name."""
    (trace,) = (
        t for t in picture.figure.data if t.name == name and all(t[key] == value for key, value in wanted.items())
    )
    return trace


def confirmed(folder, role, arm):
    """The lines of an arm in confirm.jsonl."""
    return [r for r in read_records(folder / "confirm.jsonl") if (r["role"], r["arm"]) == (role, arm)]


def searched(folder, loss):
    """A loss's epochs in the order in which they were trained."""
    return sorted(current_epochs(read_records(folder / loss / "epochs.jsonl")), key=lambda r: r["time"])


def axis_number(trace, letter="y"):
    return int((trace[f"{letter}axis"] or letter)[1:] or 1)
