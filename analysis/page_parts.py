"""The parts of the static page as HTML; every text from a run's files is escaped here."""

import html
from collections.abc import Sequence
from urllib.parse import quote

from analysis.cards import Card
from analysis.plots import Page, Picture, Sheet, Table, download_name
from analysis.plots.picture import NamedRun
from analysis.plots.style import arm_name, shown

__all__ = ["arms_attribute", "cards_html", "choices_html", "lines_html", "section_html", "table_html"]


def section_html(page: Page, sheet: Sheet, runs: Sequence[str]) -> str:
    """Return a page as a section.

    Args:
        page: with its title.
        sheet: what it shows.
        runs: slugs of all runs, in their order.
    """
    places = {slug: str(place) for place, slug in enumerate(runs)}
    parts = [
        f'<section id="page-{page.key}" data-page="{page.key}" aria-labelledby="title-{page.key}">',
        f'<h2 id="title-{page.key}">{html.escape(page.title)}</h2>',
    ]
    if sheet.cards:
        cards = "".join(
            f'<div data-run="{place}" data-varies="card-{place}">{cards_html([card])}</div>'
            for place, card in enumerate(sheet.cards)
        )
        parts.append(f'<div class="cards">{cards}</div>')
    elif sheet.lines:
        parts.append(f'<div data-varies="{page.key}-lines">{lines_html(sheet.lines)}</div>')
    if sheet.trials:
        parts.append(_trials(sheet.trials))
    if sheet.pictures:
        pictures = (_picture(page, picture, places.get(picture.run, "")) for picture in sheet.pictures)
        parts += ['<div class="pictures">', *pictures, "</div>"]
    if sheet.tables:
        parts += ['<div class="tables">', *(_placed(page, table, places) for table in sheet.tables), "</div>"]
    if sheet.notes:
        parts += ['<ul class="notes">', *(f"<li>{html.escape(note)}</li>" for note in sheet.notes), "</ul>"]
    return "\n".join([*parts, "</section>"])


def cards_html(cards: Sequence[Card]) -> str:
    """Return runs at a glance."""
    return "".join(map(_card, cards))


def _card(card: Card) -> str:
    headlines = "".join(
        f'<p class="headline {headline.decision}"{arms_attribute(headline.losses)}>{html.escape(headline.text)}</p>'
        for headline in card.headlines
    )
    facts = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in card.facts)
    return (
        f'<article class="card {card.headlines[0].decision}"><h3>{html.escape(card.title)}</h3>{headlines}'
        f'<dl class="facts">{facts}</dl>{_folded(_caveats(card.caveats), card.caveats)}'
        f"{_folded('In full', card.statements)}</article>"
    )


def _caveats(caveats: Sequence[str]) -> str:
    return f"{len(caveats)} caveat{'' if len(caveats) == 1 else 's'}"


def _folded(summary: str, lines: Sequence[str]) -> str:
    if not lines:
        return f"<p>{summary}</p>"
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<details><summary>{summary}</summary><ul>{items}</ul></details>"


def lines_html(lines: Sequence[str]) -> str:
    """Return statements, one a line."""
    return f'<div class="lines">{"".join(f"<p>{html.escape(line)}</p>" for line in lines)}</div>' if lines else ""


def arms_attribute(arms: Sequence[str]) -> str:
    """Return the attribute by which what is about losses disappears with one of them."""
    return f' data-arms="{html.escape(" ".join(quote(arm, safe="") for arm in arms))}"' if arms else ""


def choices_html(runs: Sequence[NamedRun], places: Sequence[Sequence[int]]) -> str:
    """Return the choices of runs and losses.

    Args:
        runs: all of them.
        places: of the runs of each choice that is offered.
    """
    losses = {loss: run.look(loss).colour for run in runs for loss in run.run.losses}
    fields = []
    if len(runs) > 1:
        is_free = len(places) >= 2 ** len(runs) - 1  # every choice is offered
        kind = "checkbox" if is_free else "radio"
        options: list[tuple[tuple[int, ...], str]] = [((place,), run.label) for place, run in enumerate(runs)]
        if not is_free:
            options.insert(0, (tuple(range(len(runs))), "all"))
        boxes = "".join(
            f'<label><input type="{kind}" name="runs" value="{" ".join(map(str, values))}"'
            f"{' checked' if is_free or len(values) > 1 else ''}>{html.escape(label)}</label>"
            for values, label in options
        )
        fields.append(f"<fieldset><legend>Runs</legend>{boxes}</fieldset>")
    boxes = "".join(
        f'<label><input type="checkbox" name="losses" value="{html.escape(loss)}" '
        f'data-name="{html.escape(shown(loss))}" checked>'
        f'<span class="swatch" style="background:{colour}"></span>{html.escape(arm_name(loss))}</label>'
        for loss, colour in losses.items()
    )
    fields.append(f"<fieldset><legend>Losses</legend>{boxes}</fieldset>")
    hint = "p values are corrected over the comparisons of the runs that are chosen. " if len(runs) > 1 else ""
    text = f"{hint}A loss that is hidden still counts in the correction." if len(losses) > 1 else hint
    return f'<details class="choices"><summary>Choose what is shown</summary>{"".join(fields)}<p>{text}</p></details>'


def _picture(page: Page, picture: Picture, run: str) -> str:
    name, height = html.escape(download_name(picture)), int(picture.figure.layout.height)
    data = f'data-page="{page.key}" data-picture="{html.escape(picture.key)}" data-name="{name}"'
    shown_for = (f' data-run="{run}"' if run else "") + arms_attribute([picture.arm] if picture.arm else [])
    return (
        f'<div{shown_for} class="slot{" wide" if picture.wide else ""}">'
        f'<figure class="picture">'
        f"<h3>{html.escape(picture.title)}</h3>"
        f'<div class="plot" id="plot-{page.key}-{name}" {data} style="height:{height}px"></div>'
        f"<figcaption>{html.escape(picture.caption)}</figcaption>"
        '<p class="downloads"><button type="button" data-format="png">PNG</button>'
        '<button type="button" data-format="svg">SVG</button></p>'
        "</figure></div>"
    )


def _placed(page: Page, table: Table, places: dict[str, str]) -> str:
    if table.key == "verdicts":
        return f'<div data-varies="{page.key}-verdicts">{table_html(table)}</div>'
    return table_html(table, places)


def table_html(table: Table, places: dict[str, str] | None = None) -> str:
    """Return a table.

    Args:
        table: of texts.
        places: of runs, by slug, where rows are to disappear with their run.
    """
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr{_row_attributes(table, number, places or {})}><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for number, (first, *rest) in enumerate(table.rows)
    )
    return (
        f'<div class="table{" texts" if table.texts else ""}"><h3>{html.escape(table.title)}</h3>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{html.escape(table.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p>{html.escape(table.caption)}</p></div>"
    )


def _row_attributes(table: Table, number: int, places: dict[str, str]) -> str:
    run = places.get(table.runs[number]) if table.runs else None
    arms = table.arms[number] if table.arms else ()
    return (f' data-run="{run}"' if run is not None else "") + arms_attribute(arms)


def _trials(runs: Sequence[NamedRun]) -> str:
    losses = {loss: arm_name(loss) for run in runs for loss in run.run.losses}
    options = "".join(
        f'<option value="{html.escape(loss)}">{html.escape(name)}</option>' for loss, name in losses.items()
    )
    statuses = "".join(f"<option>{status}</option>" for status in ("finished", "stopped", "failed", "unfinished"))
    return (
        '<div id="trials-table"><div class="filters">'
        '<label>Search <input type="search" placeholder="trial, setting, node, error"></label>'
        f'<label>Loss <select><option value="">all</option>{options}</select></label>'
        f'<label>Status <select><option value="">all</option>{statuses}</select></label>'
        '<button type="button" data-step="-1">Previous</button><button type="button" data-step="1">Next</button>'
        "<output></output></div>"
        '<div class="scroll" tabindex="0" role="group" aria-label="Trials of the search"><table class="trials">'
        '<caption class="unseen">Trials of the search; a heading sorts, a trial opens</caption>'
        "<thead></thead><tbody></tbody></table></div></div>"
    )
