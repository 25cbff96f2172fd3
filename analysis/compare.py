"""Compare losses from the records of one or more runs.

python analysis/compare.py results/cifar10-20260101-120000
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from analysis.findings import Findings, findings  # noqa: E402
from analysis.load import load_run  # noqa: E402
from analysis.report.document import Heading, to_markdown, to_text  # noqa: E402
from analysis.report.export import as_plain, to_csv  # noqa: E402
from analysis.report.sections import details, head, overall, verdict_blocks  # noqa: E402
from tune.console import run_command  # noqa: E402
from tune.records import RecordError  # noqa: E402

__all__ = ["comparison", "comparison_csv", "comparison_markdown", "comparison_text"]


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs, such as results/NAME")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of text")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown instead of text")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text, one number a line")] = False,
) -> None:
    """Say which loss is better on each data set, by how much and how surely, and what that rests on.

    The verdict comes from paired seeds and the test split. p values are corrected over all runs that are given. Of a
    run without confirmation only the search is shown: the best of many trials on validation data, no comparison.
    """
    if as_json + as_markdown + as_csv > 1:
        raise typer.BadParameter("--json, --markdown and --csv exclude each other; give one of them")
    if as_json:
        print(json.dumps(comparison(runs), indent=2, allow_nan=False))
    elif as_markdown:
        print(comparison_markdown(runs))
    elif as_csv:
        print(comparison_csv(runs))
    else:
        print(comparison_text(runs))


def comparison(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return, for each run, the data set, the budget, one entry a loss, and what its confirmation shows.

    Raises:
        RecordError: a folder holds no run, or a damaged one, or is given twice.
    """
    return [as_plain(found) for found in _findings(folders)]


def comparison_text(folders: Sequence[Path]) -> str:
    """Return the comparison as text for a terminal, each run's verdict last; raises RecordError as `comparison`."""
    all_found = _findings(folders)
    blocks = []
    for found in all_found:
        blocks += head(found)
        if found.is_confirmed:
            blocks += [*details(found), *verdict_blocks(found)]
    return to_text([*blocks, *overall(all_found)])


def comparison_markdown(folders: Sequence[Path]) -> str:
    """Return the comparison as Markdown, each run's verdict first; raises RecordError as `comparison`."""
    all_found = _findings(folders)
    blocks = overall(all_found)
    for found in all_found:
        confirmed = found.is_confirmed
        blocks += verdict_blocks(found) if confirmed else []
        blocks += [Heading(f"Search on {found.run.dataset}"), *head(found), *(details(found) if confirmed else [])]
    return to_markdown(blocks)


def comparison_csv(folders: Sequence[Path]) -> str:
    """Return the comparison as CSV, one number a line; raises RecordError as `comparison`."""
    return to_csv(_findings(folders))


def _findings(folders: Sequence[Path]) -> list[Findings]:
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise RecordError(f"{folder}: given twice; p values are corrected over all runs, so each may be given once")
    return findings([load_run(folder) for folder in folders])


if __name__ == "__main__":
    run_command(main)
