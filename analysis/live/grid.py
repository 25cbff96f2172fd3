"""The live table of trials: AG Grid, which is told what changed and keeps a reader's order, filters and place."""

from collections.abc import Sequence
from typing import Any

import dash_ag_grid
from dash import html
from dash.development.base_component import Component
from plotly.io import to_json

from analysis.plots.curves import trial_curve
from analysis.plots.picture import NamedRun
from analysis.plots.style import arm_name
from analysis.trials import TrialDetail, TrialRow, detail_of, trial_rows

__all__ = ["GRID", "GridRows", "detail_component", "grid_component", "rows_of"]

GRID = "trials-grid"
_TEXT: dict[str, Any] = {"filter": "agTextColumnFilter"}
_NUMBER: dict[str, Any] = {"filter": "agNumberColumnFilter", "type": "rightAligned"}


def _decimals(count: int) -> dict[str, Any]:
    return {"valueFormatter": {"function": f"params.value == null ? '-' : d3.format(',.{count}f')(params.value)"}}


_COLUMNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("trial", "trial", {**_TEXT, "pinned": "left", "width": 155}),
    ("run", "run", {**_TEXT, "width": 115}),
    ("loss", "loss", {**_TEXT, "width": 115}),
    ("status", "status", {**_TEXT, "width": 115}),
    ("accuracy", "val. acc. (%)", {**_NUMBER, **_decimals(2), "width": 130}),
    ("epochs", "epochs", {**_NUMBER, "width": 100}),
    ("settings", "settings", {**_TEXT, "flex": 1, "minWidth": 320, "tooltipField": "settings"}),
    ("seconds", "seconds", {**_NUMBER, **_decimals(1), "width": 110}),
    ("node", "node", {**_TEXT, "width": 125}),
)

Row = dict[str, Any]


def rows_of(runs: Sequence[NamedRun]) -> dict[str, Row]:
    """Return the rows of the table by id, which names run and trial."""
    found: dict[str, Row] = {}
    for run in runs:
        for row in trial_rows(run.run):
            key = f"{run.slug}/{row.trial_id}"
            found[key] = {"id": key, **_cells(run, row)}
    return found


def _cells(run: NamedRun, row: TrialRow) -> Row:
    return {
        "trial": row.trial_id,
        "run": run.label,
        "loss": arm_name(row.loss),
        "status": row.status,
        "accuracy": None if row.val_accuracy is None else round(100 * row.val_accuracy, 2),
        "epochs": row.epochs,
        "settings": row.settings,
        "seconds": round(row.seconds, 1),
        "node": row.node,
    }


class GridRows:
    """Rows, and since when each is there and as it is: a browser that has an older version gets what differs."""

    def __init__(self) -> None:
        self.version = 0
        self._rows: dict[str, Row] = {}
        self._added: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        self._gone: dict[str, int] = {}

    def update(self, rows: dict[str, Row]) -> None:
        """Take in what the rows are now."""
        changed = [key for key, row in rows.items() if self._rows.get(key) != row]
        gone = [key for key in self._rows if key not in rows]
        if not changed and not gone:
            return
        self.version += 1
        for key in changed:
            if key not in self._rows:
                self._added[key] = self.version
                self._gone.pop(key, None)
            self._changed[key] = self.version
        for key in gone:
            self._gone[key] = self.version
        self._rows = rows

    def all(self) -> dict[str, Any]:
        """Return the properties of a table that is new."""
        return {"rowData": list(self._rows.values())}

    def since(self, version: int) -> dict[str, Any]:
        """Return the properties with which a table of an older version is brought up to date."""
        new = [key for key in self._rows if self._added[key] > version]
        other = [key for key in self._rows if self._changed[key] > version >= self._added[key]]
        gone = [key for key, since in self._gone.items() if since > version]
        transaction: dict[str, Any] = {
            "add": [self._rows[key] for key in new],
            "update": [self._rows[key] for key in other],
            "remove": [{"id": key} for key in gone],
            "async": False,
        }
        return {"rowTransaction": transaction}


def grid_component(rows: GridRows, runs: int) -> Component:
    """Return the table.

    Args:
        rows: of it.
        runs: how many runs they are of.
    """
    columns = [
        {"field": field, "headerName": name, **options}
        for field, name, options in _COLUMNS
        if field != "run" or runs > 1
    ]
    grid = dash_ag_grid.AgGrid(
        id=GRID,
        columnDefs=columns,
        defaultColDef={"sortable": True, "resizable": True, "floatingFilter": True, "suppressHeaderMenuButton": True},
        getRowId="params.data.id",
        dashGridOptions={
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "ensureDomOrder": True,
            "tooltipShowDelay": 300,
            "enableCellTextSelection": True,
        },
        style={"height": "min(70vh, 640px)", "width": "100%"},
        **rows.all(),
    )
    hint = html.P("A heading sorts, the fields below it filter; a row that is chosen (click or space bar) opens below.")
    return html.Div([hint, grid], className="grid", role="region", **{"aria-label": "Trials of the search"})


def detail_component(runs: Sequence[NamedRun], opened: str | None) -> list[Component]:
    """Return all that there is to see of a trial; nothing where none is meant, or none that is there."""
    slug, _, trial_id = (opened or "").partition("/")
    run = next((run for run in runs if run.slug == slug), None)
    if run is None or trial_id not in set(run.run.trials["trial_id"]):
        return []
    row = next(row for row in trial_rows(run.run) if row.trial_id == trial_id)
    return [_detail(run, detail_of(run.run, row))]


def _detail(run: NamedRun, detail: TrialDetail) -> Component:
    figure = trial_curve(run, detail)
    curve = (
        html.Div(id="plot-trial", className="plot", style={"height": "260px"}, **{"data-figure": to_json(figure)})
        if figure is not None
        else html.P("No epoch has been recorded.")
    )
    settings = [part for name, value in detail.settings for part in (html.Dt(name), html.Dd(value))]
    halves = [
        html.Div([html.H4("Accuracy by epoch"), curve]),
        html.Div([html.H4("Settings"), html.Dl(settings)]),
    ]
    parts: list[Component] = [
        html.H3(f"{detail.row.trial_id}, {run.label}: {detail.row.status}"),
        html.Div(halves, className="halves"),
    ]
    if detail.error:
        parts += [html.H4("Error"), html.Pre(detail.error, tabIndex="0")]
    button = html.Button("Copy", type="button", **{"data-copy": ""})
    parts += [
        html.H4("Go on" if detail.row.status == "unfinished" else "Run this configuration again"),
        html.Div([html.Code(detail.command, tabIndex="0"), button], className="command"),
        html.P(detail.purpose),
    ]
    return html.Div(parts, className="trial detail")
