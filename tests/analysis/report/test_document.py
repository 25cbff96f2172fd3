import html
import re

import pytest
from markdown_it import MarkdownIt

from analysis.report.document import Heading, Items, Paragraph, Table, to_markdown, to_text

TABLE = Table(("loss", "mean", "n"), (("arcface", "9.00 %", "10"), ("a|b", "90.00 %", "6")))


def test_text_is_aligned_and_wrapped():
    long = "word " * 40
    text = to_text([Heading("Title"), Paragraph(long), TABLE, Items(("one", long))])
    assert max(map(len, text.splitlines())) <= 110
    assert text.startswith("Title\n-----\n\nword word")
    assert "loss        mean   n\narcface   9.00 %  10\na|b      90.00 %   6" in text
    assert text.splitlines()[-1].startswith("    word")


def test_the_first_columns_can_be_texts():
    assert to_text([Table(("a", "b", "c"), (("x", "yy", "1"),), left=2)]).splitlines() == ["a  b   c", "x  yy  1"]


@pytest.mark.parametrize("left", [1, 2])
def test_names_that_are_too_long_for_a_terminal_are_folded(left):
    names = ("one long name of a loss - another long name of a loss", "short - name")
    numbers = tuple(str(10**digits) for digits in (9, 10, 11, 12, 13))
    texts = ("1 %",) * (left - 1)
    rows = tuple((*texts, name, *numbers) for name in names)
    lines = to_text([Table(("",) * (left - 1) + ("name", "a", "b", "c", "d", "e"), rows, left)]).splitlines()
    assert max(map(len, lines)) <= 110
    assert len(lines) == 4
    start = 5 * (left - 1)
    assert f"{lines[1][start:].split('  ')[0]} {lines[2].strip()}" == names[0]
    assert lines[3][start:].startswith("short - name ")
    assert lines[1].split()[-5:] == lines[3].split()[-5:] == list(numbers)


def test_markdown_shows_every_character():
    text = to_markdown([Heading("T_1"), Paragraph("a *b* <c>"), TABLE, Items(("P(A>B) [1]", "    why"))])
    assert text == "\n\n".join(
        [
            "### T\\_1",
            "a \\*b\\* \\<c>",
            "| loss | mean | n |\n| :-- | --: | --: |\n| arcface | 9.00 % | 10 |\n| a\\|b | 90.00 % | 6 |",
            "- P(A>B) \\[1\\]\n  - why",
        ]
    )


def test_what_would_command_a_terminal_is_taken_out():
    evil = "\x1b[31mred\nnext\tcell\x07"
    for render in (to_text, to_markdown):
        shown = render([Heading(evil), Paragraph(evil), Items((evil,)), Table((evil,), ((evil,),))])
        assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert len(to_text([Table((evil,), ((evil,),))]).splitlines()) == 2


def test_a_word_longer_than_a_line_stays_whole():
    assert to_text([Paragraph("x" * 200)]) == "x" * 200


NAMES = (
    "# a heading", "> a quotation", "- an item", "+ an item", "1. an item", "1) an item", "---", "***", "___", "=== x",
    "~~struck~~", "~~~ code", "``` code", "a&lt;b &amp; c", "<script>alert(1)</script>", "[x](javascript:alert(1))",
    "![x](http://elsewhere.invalid/x.png)", "<http://elsewhere.invalid>", "a | b", "a\\", "&#60;b&#62;", "9.00 %",
    "+0.31", "-0.31", "P(A>B)", "    code",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block", [Heading, Paragraph, lambda name: Items((name,)), lambda name: Table((name,), ())])
def test_markdown_makes_nothing_of_a_name(name, block):
    """Read by a parser of Markdown with GitHub's tables and strikethrough."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(to_markdown([block(name)]))
    assert set(re.findall(r"<(\w+)", page)) <= {"h3", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert html.unescape(re.sub(r"<[^>]*>", "", page)).strip() == name.strip()


def test_addresses_are_no_links_on_github():
    text = to_markdown([Paragraph("see http://elsewhere.invalid and www.elsewhere.invalid")])
    assert "://" not in text.replace("\\://", "")
    assert "www." not in text
