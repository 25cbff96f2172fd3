"""What the live page shows: blocks whose parts are changed in place.

A picture's figure is JSON in an attribute, drawn by the page's own script: `dcc.Graph` (Dash 4.4) writes the reader's
zoom into the figure, and plotly then takes the next figure without it for a wish to have it gone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dash import html
from dash.development.base_component import Component
from plotly.io import to_json
from plotly.io.json import to_json_plotly

from analysis.cards import Card
from analysis.live.grid import GRID, GridRows, grid_component
from analysis.live.stages import Stage
from analysis.live.state import State
from analysis.plots import Picture, Sheet, Table, download_name

__all__ = ["Block", "blocks_of", "digest", "head_of", "slots_of", "style_of"]

_SPARE_SLOTS = 40  # for what appears while a page is looked at


@dataclass(frozen=True)
class Block:
    """A piece of a page.

    Args:
        key: unique within the page, and stable.
        wide: takes the whole width.
        component: all of it, for when it appears.
        parts: what of it may change afterwards: properties by id of the component.
        digests: of the parts.
        rows: of its table of trials, which is told what changed; None where it has no such table.
    """

    key: str
    wide: bool
    component: Component
    parts: dict[str, dict[str, Any]]
    digests: dict[str, str]
    rows: GridRows | None = None

    def update_of(self, part: str, seen: str | None) -> dict[str, Any]:
        """Return the properties that bring a part up to date of which a browser has what a digest tells."""
        if self.rows is None or part != GRID or seen is None:
            return self.parts[part]
        return self.rows.since(int(seen))


def digest(value: Any) -> str:
    """Return what tells two values apart that a page shows."""
    return hashlib.blake2b(to_json_plotly(value).encode(), digest_size=8).hexdigest()


def blocks_of(page_key: str, sheet: Sheet, rows: GridRows | None = None) -> list[Block]:
    """Return the blocks of a page, from top to bottom.

    Args:
        page_key: of the page.
        sheet: what it shows.
        rows: of the table of trials, where it has one.
    """
    blocks = []
    if sheet.cards:
        blocks.append(_cards(f"{page_key}-cards", sheet.cards))
    elif sheet.lines:
        blocks.append(_texts(f"{page_key}-lines", html.Div, html.P, sheet.lines, "lines"))
    if sheet.trials and rows is not None:
        blocks.append(_trials(f"{page_key}-trials", rows, len(sheet.trials)))
    blocks += [_picture(f"{page_key}-picture-{picture.key}", picture) for picture in sheet.pictures]
    blocks += [_table(f"{page_key}-table-{table.key}", table) for table in sheet.tables]
    if sheet.notes:
        blocks.append(_texts(f"{page_key}-notes", html.Ul, html.Li, sheet.notes, "notes"))
    return blocks


def _block(key: str, component: Component, parts: dict[str, dict[str, Any]], *, wide: bool) -> Block:
    return Block(key, wide, component, parts, {name: digest(properties) for name, properties in parts.items()})


def _texts(key: str, outer: type[Component], inner: type[Component], texts: Sequence[str], name: str) -> Block:
    parts = {key: {"children": [inner(text) for text in texts]}}
    return _block(key, outer(id=key, className=name, **parts[key]), parts, wide=True)


def _trials(key: str, rows: GridRows, runs: int) -> Block:
    return Block(key, True, grid_component(rows, runs), {GRID: rows.all()}, {GRID: str(rows.version)}, rows)


def _cards(key: str, cards: Sequence[Card]) -> Block:
    parts = {key: {"children": [_card(card) for card in cards]}}
    return _block(key, html.Div(id=key, className="cards", **parts[key]), parts, wide=True)


def _card(card: Card) -> Component:
    headlines = [html.P(h.text, className=f"headline {h.decision}", **_about(h.losses)) for h in card.headlines]
    facts = [part for name, text in card.facts for part in (html.Dt(name), html.Dd(text))]
    caveats = f"{len(card.caveats)} caveat{'' if len(card.caveats) == 1 else 's'}"
    return html.Article(
        [
            html.H3(card.title),
            *headlines,
            html.Dl(facts, className="facts"),
            _folded(caveats, card.caveats),
            _folded("In full", card.statements),
        ],
        className=f"card {card.headlines[0].decision}",
    )


def _folded(summary: str, lines: Sequence[str]) -> Component:
    if not lines:
        return html.P(summary)
    return html.Details([html.Summary(summary), html.Ul([html.Li(line) for line in lines])])


def _about(arms: Sequence[str]) -> dict[str, Any]:
    """Return the attribute by which what is about losses disappears with one of them."""
    return {"data-arms": " ".join(quote(arm, safe="") for arm in arms)} if arms else {}


def _table(key: str, table: Table) -> Block:
    title, body, caption = f"{key}-title", f"{key}-body", f"{key}-caption"
    parts: dict[str, dict[str, Any]] = {
        title: {"children": table.title},
        body: {"children": _rows(table.columns, table.rows, table.arms)},
        caption: {"children": table.caption},
    }
    component = html.Div(
        [
            html.H3(id=title, **parts[title]),
            html.Div(html.Table(id=body, **parts[body]), className="scroll"),
            html.P(id=caption, **parts[caption]),
        ],
        className="table texts" if table.texts else "table",
    )
    return _block(key, component, parts, wide=True)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]], arms: Sequence[Sequence[str]] = ()) -> list[Component]:
    about = arms or [()] * len(rows)
    return [
        html.Thead(html.Tr([html.Th(column, scope="col") for column in columns])),
        html.Tbody(
            [
                html.Tr([html.Th(row[0], scope="row"), *(html.Td(cell) for cell in row[1:])], **_about(own))
                for row, own in zip(rows, about, strict=True)
            ],
        ),
    ]


def _picture(key: str, picture: Picture) -> Block:
    title, plot, caption = f"{key}-title", f"{key}-plot", f"{key}-caption"
    parts: dict[str, dict[str, Any]] = {
        title: {"children": picture.title},
        plot: {"data-figure": to_json(picture.figure), "style": {"height": f"{picture.figure.layout.height}px"}},
        caption: {"children": picture.caption},
    }
    buttons = [html.Button(f.upper(), type="button", **{"data-format": f}) for f in ("png", "svg")]
    component = html.Figure(
        [
            html.H3(id=title, **parts[title]),
            html.Div(id=plot, className="plot", **{"data-name": download_name(picture)}, **parts[plot]),
            html.Figcaption(id=caption, **parts[caption]),
            html.P(buttons, className="downloads"),
        ],
        className="picture",
        **_about([picture.arm] if picture.arm else []),
    )
    return _block(key, component, parts, wide=picture.wide)


def slots_of(blocks: Sequence[Block]) -> list[Component]:
    """Return the places that blocks of a page take.

    There are more of them than blocks: to add a place later would make Dash build all others anew, zoom and all.
    """
    slots = [
        html.Div(b.component, id=f"slot-{i}", className="slot", style=style_of(b, i)) for i, b in enumerate(blocks)
    ]
    return slots + [html.Div(id=f"slot-{len(slots) + i}", className="slot") for i in range(_SPARE_SLOTS)]


def style_of(block: Block, position: int) -> dict[str, Any]:
    """Return how a slot lies on the page; one that was filled later still comes at its block's position."""
    return {"order": position, **({"gridColumn": "1 / -1"} if block.wide else {})}


def head_of(states: Sequence[tuple[str, State]]) -> list[Component]:
    """Return what the head says of each run.

    Args:
        states: of the runs, with their names.
    """
    return [
        html.Section(
            [
                html.H2([f"{label}: ", html.Span(state.word, className="alive" if state.alive else "ended")]),
                *([html.P(state.time_left, className="left")] if state.time_left else []),
                html.P(_last_record(state)),
                html.Ol(_stages(state), className="stages", **{"aria-label": "stages"}),
                html.Div(html.Table(_rows(state.columns, state.rows)), className="scroll"),
                *([html.P(state.confirmation)] if state.confirmation else []),
            ],
            className="run",
        )
        for label, state in states
    ]


def _stages(state: State) -> list[Component]:
    current = next((stage for stage in state.stages if not stage.is_over), None)
    return [_stage(stage, **({"aria-current": "step"} if stage is current else {})) for stage in state.stages]


def _stage(stage: Stage, **attributes: str) -> Component:
    text = f"{stage.name} {stage.done:,}/{stage.asked:,}"
    bar = html.Progress(max=str(max(stage.asked, 1)), value=str(stage.done), **{"aria-label": stage.name})
    return html.Li([text, bar], **attributes)


def _last_record(state: State) -> list[Any]:
    if state.last_record_time is None:
        return ["no record yet"]
    return ["last record ", html.Span(**{"data-since": f"{state.last_record_time:.0f}"})]
