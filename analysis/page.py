"""One self-contained HTML file of all pages: it opens offline, loads nothing from elsewhere and asks nobody.

Texts from a run's files are escaped, figures are JSON that no parser of HTML reads, and a policy in the page forbids
every script but its own two.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analysis.findings import Findings
from analysis.page_parts import cards_html, choices_html, lines_html, section_html, table_html
from analysis.page_trials import trials_data
from analysis.plots import GRAPH_CONFIG, PAGES, Page, Sheet
from analysis.plots.choices import Choice, choices_of
from analysis.plots.picture import labels, named
from analysis.plots.style import TEMPLATE
from analysis.web import asset

__all__ = ["SHARED_SCRIPT", "STYLE", "page_html"]

STYLE = asset("style.css")
SHARED_SCRIPT = asset("theme.js")
SCRIPT = "\n".join((SHARED_SCRIPT, asset("page.js"), asset("trials.js")))


def page_html(all_found: Sequence[Findings]) -> str:
    """Return the file's text.

    Args:
        all_found: what runs show that are to be seen together, such as those of several data sets.
    """
    sheets = [(page, page.build(all_found)) for page in PAGES]
    choices = list(choices_of(all_found)) if len(all_found) > 1 else []
    runs = named(all_found)
    title = "Losses compared: " + ", ".join(labels([found.run for found in all_found]))
    policy = (
        f"default-src 'none'; script-src {_hash(_plotlyjs())} {_hash(SCRIPT)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    navigation = "".join(f'<a href="#{page.key}">{html.escape(page.title)}</a>' for page, _ in sheets)
    sections = "\n".join(section_html(page, sheet, [run.slug for run in runs]) for page, sheet in sheets)
    data = "\n".join(_data(page, sheet, choices) for page, sheet in sheets)
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
<a class="skip" href="#content">To the content</a>
<header>
<div class="top"><h1>{html.escape(title)}</h1><button type="button" id="theme">Colours</button></div>
{choices_html(runs, [choice.places for choice in choices])}
</header>
<nav aria-label="pages">{navigation}</nav>
<main id="content" tabindex="-1">
{sections}
</main>
<noscript><p>Pictures, trials and choices need JavaScript; texts and tables do not.</p></noscript>
{_templates(choices)}
{_json_block("common", common)}
{_json_block("trials", trials_data(runs))}
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


def _data(page: Page, sheet: Sheet, choices: Sequence[Choice]) -> str:
    figures = {picture.key: _plain_figure(picture.figure) for picture in sheet.pictures}
    if page.key == "overview":
        for choice in choices:
            if choice.differences is not None:
                key = f"{choice.differences.key}@{_named(choice)}"
                figures[key] = _plain_figure(choice.differences.figure)
    return _json_block(f"data-{page.key}", figures)


def _plain_figure(figure: go.Figure) -> Any:
    """Return a figure as JSON has it, without the template, which all of them share."""
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    return plain


# --- What depends on which runs are chosen ---------------------------------------------------------------------------


def _named(choice: Choice) -> str:
    return " ".join(map(str, choice.places))


def _templates(choices: Sequence[Choice]) -> str:
    """Return the parts that differ from choice to choice, each text once, with the choices that it belongs to."""
    variants: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        for place, text in _varying(choice):
            variants.setdefault((place, text), []).append(_named(choice))
    return "\n".join(
        f'<template data-of="{place}" data-choices="{",".join(names)}">{text}</template>'
        for (place, text), names in variants.items()
    )


def _varying(choice: Choice) -> Iterator[tuple[str, str]]:
    yield from ((f"card-{place}", cards_html([card])) for place, card in zip(choice.places, choice.cards, strict=True))
    yield "paired-verdicts", table_html(choice.paired) if choice.paired else ""
    yield "controls-verdicts", table_html(choice.controls) if choice.controls else ""
    yield "controls-lines", lines_html(choice.control_lines)
