"""Figures as PNG files, through a browser without a window."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from PIL import Image, PngImagePlugin

from tune.records import RecordError, write_file

__all__ = ["FINGERPRINT", "draw", "fingerprint_of", "write_png"]

FINGERPRINT = "adaloss-records"  # the text of a PNG file that tells what it shows
# Of a picture, chosen to cover all that there are: none is off by more than a sixteenth, files are a third as large.
# By a median cut, the blue of one loss became the green of another where bands have many shades.
_COLOURS = 256


def draw(jobs: list[dict[str, Any]], folder: Path) -> None:
    """Draw figures as Kaleido's jobs have them.

    Args:
        jobs: each with fig, path and opts.
        folder: for messages.

    Raises:
        RecordError: no browser is found, or it breaks off, or a file cannot be written.
    """
    import kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError

    try:
        # Without mathjax=False it would load a script from the network.
        kaleido.write_fig_from_object_sync(jobs, cancel_on_error=True, kopts={"mathjax": False})
    except ChromeNotFoundError:
        raise RecordError(
            "PNG files need Chromium or Google Chrome, and none was found; install one, or name it in the variable "
            "BROWSER_PATH"
        ) from None
    except (BrowserFailedError, BrowserClosedError, TimeoutError):
        raise RecordError(
            "the browser that draws PNG files ended or did not answer; another one can be named in the variable "
            "BROWSER_PATH"
        ) from None
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written: {error.strerror}") from None


def write_png(pictures: Sequence[tuple[go.Figure, Path, str]], width_px: int) -> None:
    """Write small PNG files, twice as fine as their width says.

    Args:
        pictures: figure, file, and a text that goes into it, see :func:`fingerprint_of`.
        width_px: of each; heights are the figures' own.

    Raises:
        RecordError: as of :func:`draw`.
    """
    options = {"format": "png", "width": width_px, "scale": 2}
    draw(
        [
            {"fig": figure, "path": file, "opts": {**options, "height": figure.layout.height}}
            for figure, file, _ in pictures
        ],
        pictures[0][1].parent if pictures else Path(),
    )
    for _, file, text in pictures:
        with Image.open(file) as image:
            small = image.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        info, content = PngImagePlugin.PngInfo(), io.BytesIO()
        info.add_text(FINGERPRINT, text)
        small.save(content, "PNG", optimize=True, pnginfo=info)
        write_file(file, content.getvalue())


def fingerprint_of(file: Path) -> str | None:
    """Return the text that :func:`write_png` put into a file, None where there is none."""
    with Image.open(file) as image:
        found = image.info.get(FINGERPRINT)
    return found if isinstance(found, str) else None
