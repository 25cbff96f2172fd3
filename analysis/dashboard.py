"""Show runs as pages of pictures: live, as one HTML file, or as PNG files.

python analysis/dashboard.py results/NAME
python analysis/dashboard.py results/NAME --html report.html
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

import typer  # noqa: E402

from analysis.folders import check_each_once, check_folder, check_run, without_files  # noqa: E402
from tune.console import run_command  # noqa: E402
from tune.records import RecordError  # noqa: E402

if TYPE_CHECKING:
    from analysis.findings import Findings

__all__ = ["write_pictures", "write_report"]


def main(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="folders of runs, such as results/NAME; live also a folder of runs"),
    ],
    html_file: Annotated[Path | None, typer.Option("--html", help="write one self-contained page and end")] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="write every picture as PNG and end")] = None,
    host: Annotated[str, typer.Option(help="address that the live page listens on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the live page")] = 8050,
    interval: Annotated[float, typer.Option(min=0.5, help="seconds between updates of the live page")] = 3.0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="the only name under which the live page may be asked for; repeatable"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS", help="what the other losses are held against", show_default="as the run was planned"
        ),
    ] = None,
) -> None:
    """Show runs: verdict, learning curves, margins, the search, paired tests, embeddings, confusion.

    Without --html and --png, a live page follows the runs until Ctrl-C. A run that is not finished is shown as far as
    it has come. Given a folder of runs, such as results, the live page shows all runs in it, new ones as they start.
    """
    runs = without_files(runs)
    check_each_once(runs)
    is_live = html_file is None and png is None
    for folder in runs:
        (check_folder if is_live else check_run)(folder)
    if is_live:
        from analysis.live.server import serve  # what draws is loaded once there is something to draw

        serve(runs, host=host, port=port, interval_s=interval, allowed_hosts=allowed_host or (), reference=reference)
        return
    from analysis.findings import load_findings

    all_found = load_findings(runs, reference)
    if html_file is not None:
        try:
            write_report(all_found, html_file)
        except OSError as error:
            raise RecordError(f"{html_file}: cannot be written: {error.strerror}") from None
        print(f"page: {html_file}")
    if png is not None:
        print(f"{len(write_pictures(all_found, png))} pictures: {png}")


def write_report(all_found: Sequence["Findings"], target: Path) -> None:
    """Write one self-contained page; a reader, or a kill, meets the old file or the new one and nothing between.

    Args:
        all_found: what the runs show.
        target: the file.

    Raises:
        OSError: the page cannot be written.
    """
    from analysis.page import page_html

    if target.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    text = page_html(all_found)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_pictures(
    all_found: Sequence["Findings"], folder: Path, *, width_px: int = 800, scale: float = 2.0
) -> list[Path]:
    """Write every picture as KEY.png and return the paths.

    Args:
        all_found: what the runs show.
        folder: where to; made if its parent exists.
        width_px: of the pictures before scaling; heights are the pictures' own.
        scale: pixels of the file for each.

    Raises:
        RecordError: no browser is found, or the folder cannot be written.
    """
    from analysis.plots import PAGES, download_name
    from analysis.plots.files import draw

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written: {error.strerror}") from None
    jobs = [
        {
            "fig": picture.figure,
            "path": folder / f"{download_name(picture)}.png",
            "opts": {"format": "png", "width": width_px, "height": picture.figure.layout.height, "scale": scale},
        }
        for page in PAGES
        for picture in page.build(all_found).pictures
    ]
    draw(jobs, folder)
    return [Path(job["path"]) for job in jobs]


if __name__ == "__main__":
    run_command(main)
