"""The overview: the verdict word for word, and no claim without seeds."""

from analysis.findings import findings, load_findings
from analysis.loading import load_run
from analysis.plots import PAGES
from analysis.statistics.verdict import verdicts


def test_the_overview_has_the_verdict_word_for_word(example_run):
    runs = [load_run(example_run()), load_run(example_run(dataset="mnist"))]
    sheet = PAGES[0].build(findings(runs))
    sentences = [verdict.sentence for verdict in verdicts(runs) if verdict.kind != "control"]
    assert len(sentences) == 6
    lines = [line.partition(": ")[2] for line in sheet.lines]
    assert set(sentences) <= set(lines)
    assert sheet.lines[0].startswith("cifar10: AdaLoss - ArcFace = ")


def test_the_overview_of_a_search_claims_nothing(example_run):
    sheet = PAGES[0].build(load_findings([example_run(seeds=0, study=True)]))
    assert len(sheet.lines) == 1
    assert "no verdict yet" in sheet.lines[0]
    assert not sheet.pictures


def test_the_overview_of_a_part_of_the_data_says_so(new_run):
    sheet = PAGES[0].build(load_findings([new_run(partial=True).folder]))
    assert any("a part of" in line for line in sheet.lines)
    assert any("a part of them" in cell for table in sheet.tables for row in table.rows for cell in row)
