"""A report as plain blocks, and the two ways to write it down: for a terminal and as Markdown."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tune.console import printable

__all__ = ["Block", "Heading", "Items", "Paragraph", "Table", "to_markdown", "to_text"]

WIDTH = 110  # columns of a terminal
_NARROWEST = 16  # of them, for names
# What would make a heading, a quotation, a list or a rule of what follows.
_AT_THE_BEGINNING = re.compile(r"^(\s*\d{0,9})([#>+.)=-])(?=[\s#=-]|$|(?<=>))")


@dataclass(frozen=True)
class Heading:
    """Names what follows."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Prose, wrapped where lines end."""

    text: str


@dataclass(frozen=True)
class Items:
    """Statements that stand for themselves, one a line; an indented one explains the one before."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of equal length under a header; all columns but the first `left` are numbers and end together."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


Block = Heading | Paragraph | Items | Table


def to_text(blocks: Iterable[Block], width: int = WIDTH) -> str:
    """Return the blocks for a terminal of 110 columns, or of another width."""
    return "\n\n".join("\n".join(_text_lines(block, width)) for block in blocks)


def _text_lines(block: Block, width: int) -> list[str]:
    match block:
        case Heading(text):
            return [printable(text), "-" * len(printable(text))]
        case Paragraph(text):
            return _wrapped(text, width)
        case Items(lines):
            return [line for item in lines for line in _wrapped(item, width, "    ")]
        case Table(header, rows, left):
            return aligned([header, *rows], left, width)


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def aligned(rows: Sequence[Sequence[str]], left: int = 1, width: int = WIDTH) -> list[str]:
    """Return rows as lines in which columns begin (the first ones) or end (all others) together.

    Where they are too long for a terminal, the longest of the first columns is folded.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    if excess > 0:
        place = max(range(left), key=widths.__getitem__)
        cells = [line for row in cells for line in _folded(row, place, max(widths[place] - excess, _NARROWEST))]
        widths[place] = max(len(row[place]) for row in cells)
    return [
        "  ".join(
            cell.ljust(wide) if place < left else cell.rjust(wide)
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _folded(row: Sequence[str], place: int, width: int) -> list[list[str]]:
    """Return a row as one or more, in which the cell at a place is at most so wide, if its words are."""
    lines = textwrap.wrap(row[place], width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [
        [line if i == place else cell if number == 0 else "" for i, cell in enumerate(row)]
        for number, line in enumerate(lines or [""])
    ]


def to_markdown(blocks: Iterable[Block]) -> str:
    """Return the blocks as GitHub's Markdown."""
    return "\n\n".join("\n".join(_markdown_lines(block)) for block in blocks)


def _markdown_lines(block: Block) -> list[str]:
    match block:
        case Heading(text):
            return [f"### {_begun(text)}"]
        case Paragraph(text):
            return [_begun(text)]
        case Items(lines):
            return [f"{'  ' if line.startswith(' ') else ''}- {_begun(line.strip())}" for line in lines]
        case Table(header, rows, left):
            rule = [":--" if place < left else "--:" for place in range(len(header))]
            return [_row(map(_escaped, header)), _row(rule), *(_row(map(_escaped, row)) for row in rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return a text of which Markdown shows every character, and makes nothing of any."""
    escaped = "".join(f"\\{c}" if c in r"\`*_[]<|&~" else c for c in printable(text))
    return escaped.replace("://", "\\://").replace("www.", "www\\.")  # GitHub makes links of addresses


def _begun(text: str) -> str:
    """Return what begins a block, escaped."""
    return _AT_THE_BEGINNING.sub(r"\1\\\2", _escaped(text).lstrip())  # four spaces would make code of it
