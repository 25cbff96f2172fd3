"""Compare losses from the records of one or more runs.

python analysis/compare.py results/cifar10-20260101-120000
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from analysis.folders import check_each_once, check_run, without_files  # noqa: E402
from tune.console import run_command  # noqa: E402

if TYPE_CHECKING:
    from analysis.findings import Findings

__all__ = ["comparison", "comparison_csv", "comparison_markdown", "comparison_text", "summary_text"]


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs, such as results/NAME")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of text")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown instead of text")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text, one number a line")] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS", help="what the other losses are held against", show_default="as the run was planned"
        ),
    ] = None,
) -> None:
    """Say which loss is better on each data set, by how much and how surely, and what that rests on.

    The verdict comes from paired seeds and the test split. p values are corrected over all runs that are given. Of a
    run without confirmation only the search is shown: the best of many trials on validation data, no comparison.
    """
    if as_json + as_markdown + as_csv > 1:
        raise typer.BadParameter("--json, --markdown and --csv exclude each other; give one of them")
    runs = without_files(runs)
    check_each_once(runs)
    for folder in runs:
        check_run(folder)
    from analysis.findings import load_findings  # statistics are loaded once there is something to compare

    all_found = load_findings(runs, reference)
    if as_json:
        print(json.dumps(comparison(all_found), indent=2, allow_nan=False))
    elif as_markdown:
        print(comparison_markdown(all_found))
    elif as_csv:
        print(comparison_csv(all_found))
    else:
        print(comparison_text(all_found))


def comparison(all_found: Sequence["Findings"]) -> list[dict[str, Any]]:
    """Return, for each run, the data set, the budget, one entry a loss, and what its confirmation shows."""
    from analysis.report.export import as_plain

    return [as_plain(found) for found in all_found]


def comparison_text(all_found: Sequence["Findings"]) -> str:
    """Return the comparison as text for a terminal, each run's verdict last."""
    from analysis.report.document import to_text
    from analysis.report.sections import details, head, overall, verdict_blocks

    blocks = []
    for found in all_found:
        blocks += head(found)
        if found.is_confirmed:
            blocks += [*details(found), *verdict_blocks(found)]
    return to_text([*blocks, *overall(all_found)])


def summary_text(all_found: Sequence["Findings"], width: int) -> str:
    """Return what the comparison comes to, as text for a terminal of so many columns, each run's verdict first."""
    from analysis.report.document import to_text
    from analysis.report.summary import summary

    return to_text(summary(all_found), width)


def comparison_markdown(all_found: Sequence["Findings"]) -> str:
    """Return the comparison as Markdown, each run's verdict first."""
    from analysis.report.document import Heading, to_markdown
    from analysis.report.sections import details, head, overall, verdict_blocks

    blocks = overall(all_found)
    for found in all_found:
        confirmed = found.is_confirmed
        blocks += verdict_blocks(found) if confirmed else []
        blocks += [Heading(f"Search on {found.run.dataset}"), *head(found), *(details(found) if confirmed else [])]
    return to_markdown(blocks)


def comparison_csv(all_found: Sequence["Findings"]) -> str:
    """Return the comparison as CSV, one number a line."""
    from analysis.report.export import to_csv

    return to_csv(all_found)


if __name__ == "__main__":
    run_command(main)
