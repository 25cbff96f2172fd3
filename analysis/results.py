"""Write the results of a study into a README, and draw its pictures, from the records alone.

python analysis/results.py analysis/published/mnist analysis/published/cifar10 --readme README.md --pictures
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

from analysis.folders import check_each_once, check_run, without_files  # noqa: E402
from tune.console import run_command  # noqa: E402
from tune.records import RecordError, write_file  # noqa: E402

if TYPE_CHECKING:
    from analysis.findings import Findings
    from analysis.plots import Picture

__all__ = ["BEGIN", "END", "block_in", "picture_file", "results_block", "with_block"]

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
_NOTE = "<!-- Written by analysis/results.py from the records; what is changed here by hand is lost. -->"
THEMES = ("light", "dark")


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs, side by side in one folder")],
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"write between its lines {BEGIN} and {END} instead of printing")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="draw the pictures as well, as PNG files beside the runs' folders")
    ] = False,
) -> None:
    """Say what a study of AdaLoss and ArcFace came to: every number, and every sentence that has one.

    Of each data set one run is compared, by its paired seeds; a run that is planned with fewer than six is there for
    its random draws. Pictures need Chromium or Google Chrome.
    """
    runs = without_files(runs)
    check_each_once(runs)
    for folder in runs:
        check_run(folder)
    text = None if readme is None else _read(readme)
    from analysis.findings import load_findings

    all_found = load_findings(runs)
    shown_in = Path() if readme is None else readme.parent
    block, drawn = results_block(all_found, runs[0].parent, shown_in)
    if pictures:
        _draw(drawn, runs[0].parent)
        print(f"{len(THEMES) * len(drawn)} pictures: {runs[0].parent}", file=sys.stderr)
    if readme is None or text is None:
        print(block)
        return
    try:
        write_file(readme, with_block(text, block, readme).encode())
    except OSError as error:
        raise RecordError(f"{readme}: cannot be written: {error.strerror}") from None
    print(f"results: {readme}")


def results_block(all_found: "Sequence[Findings]", folder: Path, shown_in: Path) -> "tuple[str, list[Picture]]":
    """Return the results as Markdown, marks included, and the pictures that it shows.

    Args:
        all_found: what the runs show together.
        folder: where the pictures lie.
        shown_in: the folder of the text, from which pictures are named.

    Raises:
        RecordError: a data set has no run that can be compared, or several.
    """
    from analysis.plots.results import result_pictures
    from analysis.report.results import results_markdown
    from analysis.report.study import arranged

    data_sets = arranged(all_found)
    drawn = result_pictures([(data.title, data.main) for data in data_sets])
    place = Path(os.path.relpath(folder.resolve(), shown_in.resolve()))
    files = []
    for picture in drawn:
        light, dark = ((place / picture_file(picture, theme)).as_posix() for theme in THEMES)
        files.append((light, dark, picture.caption))
    return f"{BEGIN}\n{_NOTE}\n\n{results_markdown(data_sets, files)}\n\n{END}", drawn


def picture_file(picture: "Picture", theme: str) -> str:
    """Return the name of a picture's file in light or dark colours."""
    return f"{picture.key}-{theme}.png"


def block_in(text: str) -> str | None:
    """Return the block of a text, marks included; None without marks, or with one of them alone."""
    begin, end = text.find(BEGIN), text.find(END)
    return text[begin : end + len(END)] if 0 <= begin < end else None


def with_block(text: str, block: str, file: Path) -> str:
    """Return a text with another block in place of its own.

    Raises:
        RecordError: it has no marks, or one of them twice.
    """
    own = block_in(text)
    if own is None or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RecordError(f"{file}: needs the lines {BEGIN} and {END}, once each, for the results to go between them")
    return text.replace(own, block)


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise RecordError(f"{file}: cannot be read: {reason}") from None
    with_block(text, "", file)  # before anything is computed
    return text


def _draw(pictures: "Sequence[Picture]", folder: Path) -> None:
    from analysis.plots.dark import darkened
    from analysis.plots.files import write_png
    from analysis.plots.results import WIDTH_PX, fingerprint

    write_png(
        [
            (figure, folder / picture_file(picture, theme), fingerprint(picture.figure))
            for picture in pictures
            for theme, figure in zip(THEMES, (picture.figure, darkened(picture.figure)), strict=True)
        ],
        WIDTH_PX,
    )


if __name__ == "__main__":
    run_command(main)
