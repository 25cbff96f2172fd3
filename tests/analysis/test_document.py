from analysis.document import Heading, Items, Paragraph, Table, to_markdown, to_text

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
