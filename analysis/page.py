"""One self-contained HTML file of all pages: it opens offline, loads nothing from elsewhere and asks nobody.

Texts from a run's files are escaped, figures are JSON that no parser of HTML reads, and a policy in the page forbids
every script but its own two.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import lru_cache

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analysis.findings import Findings
from analysis.page_assets import SCRIPT, STYLE
from analysis.plots import GRAPH_CONFIG, PAGES, Page, Picture, Sheet, Table, download_name
from analysis.plots.picture import labels
from analysis.plots.style import TEMPLATE

__all__ = ["STYLE", "page_html"]


def page_html(all_found: Sequence[Findings]) -> str:
    """Return the file's text.

    Args:
        all_found: what runs show that are to be seen together, such as those of several data sets.
    """
    sheets = [(page, page.build(all_found)) for page in PAGES]
    title = "Losses compared: " + ", ".join(labels([found.run for found in all_found]))
    policy = (
        f"default-src 'none'; script-src {_hash(_plotlyjs())} {_hash(SCRIPT)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    navigation = "".join(f'<a href="#{page.key}">{html.escape(page.title)}</a>' for page, _ in sheets)
    sections = "\n".join(_section(page, sheet) for page, sheet in sheets)
    data = "\n".join(_data(page, sheet) for page, sheet in sheets)
    common = {"template": TEMPLATE.to_plotly_json(), "config": GRAPH_CONFIG}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{html.escape(title)}</h1></header>
<nav aria-label="pages">{navigation}</nav>
<main>
{sections}
</main>
<noscript><p>The pictures need JavaScript; texts and tables do not.</p></noscript>
{_json_block("common", common)}
{data}
<script>{_plotlyjs()}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


@lru_cache(maxsize=1)
def _plotlyjs() -> str:
    code = str(get_plotlyjs()).replace("\r\n", "\n")
    assert "</script" not in code.lower(), "this plotly.js would end its own script element"
    return code


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_block(name: str, value: object) -> str:
    """Return JSON as an element that neither a parser of HTML nor one of scripts can leave."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _data(page: Page, sheet: Sheet) -> str:
    return _json_block(f"data-{page.key}", {picture.key: _plain_figure(picture.figure) for picture in sheet.pictures})


def _plain_figure(figure: go.Figure) -> object:
    """Return a figure as JSON has it, without the template, which all of them share."""
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    return plain


def _section(page: Page, sheet: Sheet) -> str:
    parts = [f'<section id="page-{page.key}" data-page="{page.key}">', f"<h2>{html.escape(page.title)}</h2>"]
    if sheet.lines:
        parts += ['<div class="lines">', *(f"<p>{html.escape(line)}</p>" for line in sheet.lines), "</div>"]
    if sheet.pictures:
        parts += ['<div class="pictures">', *(_picture(page, picture) for picture in sheet.pictures), "</div>"]
    if sheet.tables:
        parts += ['<div class="tables">', *map(_table, sheet.tables), "</div>"]
    if sheet.notes:
        parts += ['<ul class="notes">', *(f"<li>{html.escape(note)}</li>" for note in sheet.notes), "</ul>"]
    return "\n".join([*parts, "</section>"])


def _picture(page: Page, picture: Picture) -> str:
    name, height = html.escape(download_name(picture)), int(picture.figure.layout.height)
    data = f'data-page="{page.key}" data-picture="{html.escape(picture.key)}" data-name="{name}"'
    return (
        f'<figure class="picture{" wide" if picture.wide else ""}">'
        f"<h3>{html.escape(picture.title)}</h3>"
        f'<div class="plot" id="plot-{page.key}-{name}" {data} style="height:{height}px"></div>'
        f"<figcaption>{html.escape(picture.caption)}</figcaption>"
        '<p class="downloads"><button type="button" data-format="png">PNG</button>'
        '<button type="button" data-format="svg">SVG</button></p>'
        "</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in table.rows
    )
    return (
        f'<div class="table{" texts" if table.texts else ""}"><h3>{html.escape(table.title)}</h3>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<p>{html.escape(table.caption)}</p></div>"
    )
