"""The frame of the live page, its style and its script: no content, nothing from a run's files."""

import base64
import hashlib
import json

from dash import dcc, html
from dash.development.base_component import Component

from analysis.page import SHARED_SCRIPT, STYLE
from analysis.plots import GRAPH_CONFIG, PAGES
from analysis.web import asset

__all__ = ["NO_CHOICES", "frame", "index_page"]

NO_CHOICES = json.dumps({"runs": [], "losses": [], "hint": ""})
PATIENCE_S = 10.0  # an answer may take as long, and as many intervals as the script says


def frame() -> Component:
    """Return the page without its contents."""
    return html.Div(
        [
            html.Header(
                [
                    html.Div(
                        [html.H1("Losses compared, live"), html.Button("Colours", id="theme", type="button")],
                        className="top",
                    ),
                    html.P(
                        "The server of this page does not answer; what is shown is what it last said.",
                        id="lost",
                        className="problem",
                        hidden=True,
                        role="alert",
                    ),
                    html.Div(id="problems", role="alert"),
                    html.Div(id="head"),
                    html.Details(id="choices", className="choices", **{"data-choices": NO_CHOICES}),
                ]
            ),
            html.Nav([html.A(page.title, href=f"#{page.key}") for page in PAGES], **{"aria-label": "pages"}),
            html.Main(
                [
                    html.H2(id="page-title"),
                    html.Div(
                        [html.Div(id="sheet"), html.Div(id="detail", className="slot wide")], className="pictures"
                    ),
                ],
                id="content",
            ),
            html.Div(id="beat", hidden=True),
            dcc.Store(id="seen"),
            dcc.Location(id="address", refresh=False),
            dcc.Store(id="tick"),
            dcc.Store(id="left-out"),  # runs that this browser does not show
            dcc.Store(id="opened"),  # the trial whose details it shows
        ]
    )


def index_page(interval_s: float, plotlyjs: str) -> tuple[str, str]:
    """Return the HTML that holds the page, in Dash's form, and the hash of its script.

    Args:
        interval_s: seconds between updates.
        plotlyjs: address of plotly.js on this server.
    """
    numbers = {"INTERVAL_MS": round(1000 * interval_s), "PATIENCE_MS": round(1000 * PATIENCE_S)}
    script = asset("live.js").replace("CONFIG", json.dumps(GRAPH_CONFIG))
    for name, value in numbers.items():
        script = script.replace(name, str(value))
    script = f"{SHARED_SCRIPT}\n{script}"
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{%title%}}</title>
{{%favicon%}}
<style>{STYLE}{asset("live.css")}</style>
<script src="{plotlyjs}"></script>
<script>{script}</script>
</head>
<body>
{{%app_entry%}}
<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer>
</body>
</html>"""
    return page, f"'sha256-{hashed}'"
