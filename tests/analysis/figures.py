"""The figures of a whole page, as its readers get them."""

import json
import re

from analysis.live.runs import Runs
from analysis.plots import PAGES


def figures_of_page(html):
    """The figures of the static page by page and key."""
    blocks = re.findall(r'<script type="application/json" id="data-([a-z]+)">(.*?)</script>', html, re.DOTALL)
    return {(page, key): figure for page, text in blocks for key, figure in json.loads(text).items()}


def figures_of_live(folder):
    """The figures of the live page, likewise."""
    runs = Runs([folder], interval_s=0)
    figures = {}
    for page in PAGES:
        look = runs.look(page)
        assert look.problems == []
        for block in look.blocks:
            for properties in block.parts.values():
                if "data-figure" in properties:
                    key = block.key.removeprefix(f"{page.key}-picture-")
                    figures[page.key, key] = json.loads(properties["data-figure"])
    return figures


def colours_of(figures, name):
    """The colours of the traces of a name, by page."""
    found = {}
    for (page, _), figure in figures.items():
        for trace in figure["data"]:
            if trace.get("name") == name:
                parts = [trace[part]["color"] for part in ("line", "marker") if "color" in trace.get(part, {})]
                found.setdefault(page, set()).update(parts)
    return found
