"""How every picture looks: colours that mean the same loss everywhere, fonts, axes, and texts that stay texts."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.arms import ARMS, name_of
from analysis.plots.picture import plain

__all__ = [
    "GRAPH_CONFIG",
    "GREY",
    "INK",
    "TEMPLATE",
    "arm_name",
    "log_ticks",
    "new_figure",
    "percent",
    "points",
    "safe",
    "shown",
    "tint",
]

INK, GREY, GRID = "#222222", "#767676", "#e6e6e6"

GRAPH_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "scrollZoom": False,
    # PNG and SVG are buttons of the page; nothing of it is sent to anybody.
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "toImage", "sendChartToCloud"],
    "plotlyServerURL": "",
}


def arm_name(arm: str) -> str:
    """Return the name of a loss or an arm as plain text."""
    return plain(name_of(arm))


def shown(arm: str) -> str:
    """Return the name of a loss or an arm for figures: neutralised."""
    return safe(name_of(arm))


def safe(text: object, limit: int = 40) -> str:
    """Return a text from a file so that plotly shows it as it is: it reads some HTML, and %{...}, in its labels."""
    return html.escape(plain(text, limit), quote=False).replace("%{", "&#37;{")


def tint(colour: str, share: float) -> str:
    """Return `colour`, "#rrggbb", at an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"


_AXIS = {
    "automargin": True,
    "showline": True,
    "linecolor": "#555555",
    "linewidth": 1,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": "#555555",
    "gridcolor": GRID,
    "zeroline": False,
    "title": {"standoff": 8, "font": {"size": 13}},
    "tickfont": {"size": 12},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif",
            "size": 13,
            "color": INK,
        },
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": [known.look.colour for known in ARMS.values()],
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": "#999999",
            "font": {"size": 12, "color": INK},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.01,
            "yanchor": "bottom",
            "font": {"size": 12},
            "bgcolor": "rgba(0,0,0,0)",
            "itemsizing": "trace",
        },
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(255,255,255,0.8)", "color": "#888888", "activecolor": INK},
    }
)


def new_figure(
    key: str,
    *,
    height: int,
    rows: int = 1,
    columns: int = 1,
    heights: Sequence[float] | None = None,
    gap: float = 0.06,
    shared: bool = False,
) -> go.Figure:
    """Return an empty figure of one or more panels.

    Args:
        key: of the picture; zoom and selection survive an update under the same key.
        height: in pixels.
        rows: of panels.
        columns: of panels.
        heights: shares of the rows.
        gap: between rows, as a share of the height.
        shared: one x axis for a column of panels.
    """
    figure = make_subplots(
        rows, columns, row_heights=heights, vertical_spacing=gap, horizontal_spacing=0.14, shared_xaxes=shared
    )
    figure.update_layout(template=TEMPLATE, height=height, uirevision=key)
    return figure


def percent(values: Iterable[float]) -> list[float]:
    """Return fractions in percent, short enough for a page with many points."""
    return [round(100 * float(value), 4) for value in values]


def points(values: Iterable[float]) -> list[float]:
    """Return numbers with six decimals."""
    return [round(float(value), 6) for value in values]


# --- Accuracies near 100 % -------------------------------------------------------------------------------------------


def errors(accuracies: Iterable[float], images: int | None) -> list[float]:
    """Return errors in percent, for an axis of :func:`accuracy_axis`; none is drawn as half a wrong image."""
    return [round(max(100 - 100 * float(accuracy), _least_error(images)), 4) for accuracy in accuracies]


def _least_error(images: int | None) -> float:
    return round(50 / images, 4) if images else 0.01


def accuracy_axis(title: str, drawn: Iterable[float | None], images: int | None) -> dict[str, Any]:
    """Return options of an axis of errors, logarithmic and backwards, that is labelled with accuracies.

    99.0 % and 99.5 % are as far apart on it as 90 % and 95 %.

    Args:
        title: of the axis.
        drawn: errors in percent, as :func:`errors` has them.
        images: as there.
    """
    present = [error for error in drawn if error is not None]
    lowest, highest, least = min(present), max(present), _least_error(images)
    room = 10 ** (0.06 * math.log10(highest / lowest) + 0.02)
    low, high = lowest / room, highest * room
    ticks = [tick for tick in _error_ticks(low, high) if low <= tick <= min(high, 100)]
    if lowest <= least:
        ticks = [least, *(tick for tick in ticks if tick >= 1.6 * least)]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(high), math.log10(low)],
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": ["100" if tick <= least else f"{round(100 - tick, 6):g}" for tick in ticks],
    }


def _error_ticks(low: float, high: float) -> list[float]:
    """Return round numbers, close together where the range is short."""
    if high < 4 * low:
        step = 10.0 ** math.floor(math.log10((high - low) / 2))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 6)
        return [round(i * step, 9) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    steps = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{step}e{exponent}") for exponent in exponents for step in steps]


def log_ticks(low: float, high: float, *, least: int) -> list[float]:
    """Return round numbers of a range: powers of ten, and 2 and 5 times these where they are fewer than `least`."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [float(f"{step}e{e}") for e in exponents for step in steps]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= least:
            break
    return ticks
