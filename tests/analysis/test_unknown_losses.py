"""A loss that the analysis has never heard of is in every output as the known ones are."""

import csv
import io
import json
import re

import pytest

from analysis.compare import comparison, comparison_csv, comparison_markdown, comparison_text
from analysis.findings import load_findings
from analysis.page import page_html
from analysis.plots.style import GREY
from search_spaces import SEARCH_SPACES, SearchSpace
from search_spaces.common import SCALE
from tests.analysis.example_run import write_example_run
from tests.analysis.figures import colours_of, figures_of_live, figures_of_page

CASES = {"one": ("sphereface",), "two": ("sphereface", "a_loss")}


@pytest.fixture(scope="module", params=CASES)
def unknown(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(unknown, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for loss in unknown:
            points = ({"scale": 8.0}, {"scale": 16.0})
            patch.setitem(SEARCH_SPACES, loss, SearchSpace(loss, own=(SCALE,), own_points=points))
        return write_example_run(
            tmp_path_factory.mktemp("unknown") / "run",
            losses=("arcface", *unknown, "softmax"),
            seeds=6,
            trials=10,
            max_epochs=4,
            controls=False,
            robustness=4,
        )


@pytest.fixture(scope="module")
def found(folder):
    return load_findings([folder])


def test_it_is_held_against_the_reference_and_the_baseline(found, unknown):
    pairs = [(v.kind, v.first, v.second) for v in found[0].verdicts]
    assert (
        pairs
        == [
            *(("primary", loss, "arcface") for loss in unknown),
            *(("baseline", loss, "softmax") for loss in (*unknown, "arcface")),
        ]
        or sorted(pairs) == pairs
    )
    assert all(v.result and v.result.n == 6 for v in found[0].verdicts)


def test_its_speed_and_its_draws_are_compared(found, unknown):
    compared = {(loss, other) for loss in unknown for other in ("arcface", "softmax")}
    assert {(lead.first, lead.second) for lead in found[0].speed.leads} == compared
    assert {(d.first, d.second) for d in found[0].robustness.differences} == compared | {("arcface", "softmax")}
    assert set(unknown) < {arrival.loss for arrival in found[0].speed.arrivals}
    assert set(unknown) < {arm.arm for arm in found[0].robustness.arms}


def test_it_is_in_text_and_markdown(found, unknown):
    text, markdown = comparison_text(found), comparison_markdown(found).replace("\\", "")
    said = " ".join(text.partition("Verdict on cifar10")[2].split())
    for loss in unknown:
        (verdict,) = (v for v in found[0].verdicts if (v.kind, v.first) == ("primary", loss))
        assert verdict.sentence.startswith(f"{loss} - ArcFace = ")
        assert verdict.sentence in said
        assert f"- {verdict.sentence}" in markdown
        for heading in ("Test accuracy", "Convergence speed", "Robustness to tuning", "Budget"):
            section = text.partition(f"{heading}\n---")[2].partition("\n---")[0]
            assert re.search(rf"^([\d.]+ %)? *{loss} ", section, re.MULTILINE), heading


def test_it_is_in_json_and_csv(found, unknown):
    (entry,) = json.loads(json.dumps(comparison(found)))
    assert entry["reference"] == entry["planned_reference"] == "arcface"
    kinds = {(v["first"], v["second"]): v["kind"] for v in entry["confirmation"]["verdicts"]}
    rows = {(row["about"], row["subject"]) for row in csv.DictReader(io.StringIO(comparison_csv(found)))}
    for loss in unknown:
        assert kinds[loss, "arcface"] == "primary"
        assert kinds[loss, "softmax"] == "baseline"
        subjects = ("search", loss), ("primary verdict", f"{loss} - arcface"), ("random draws", f"{loss} - softmax")
        assert {*subjects, ("budget", loss), ("winner accuracy", loss)} <= rows


# --- Pictures --------------------------------------------------------------------------------------------------------


def test_it_has_a_colour_of_its_own_in_every_picture_of_both_pages(found, folder, unknown):
    pages = {"static": figures_of_page(page_html(found)), "live": figures_of_live(folder)}
    assert pages["static"].keys() == pages["live"].keys()
    seen = {}
    for figures in pages.values():
        for loss in (*unknown, "ArcFace", "softmax"):
            by_page = colours_of(figures, loss)
            assert set(by_page) == {"trials", "curves", "search", "paired", "robustness"}
            (seen.setdefault(loss, set())).update(set().union(*by_page.values()))
        for loss in unknown:
            keys = {key for _, key in figures if re.search(rf"-{loss.replace('_', '-')}$", key)}
            assert {key.partition("-")[0] for key in keys} >= {"curves", "slices", "parallel", "angles", "confusion"}
    assert all(len(colours) == 1 for colours in seen.values())
    assert len(set().union(*seen.values())) == len(seen)
    assert GREY not in set().union(*seen.values())


def test_it_has_the_same_colour_for_every_run_of_a_page(folder, unknown, example_run):
    other = example_run(dataset="mnist", seeds=2)
    colours = [
        colours_of(figures_of_page(page_html(load_findings(folders))), unknown[-1])["curves"]
        for folders in ([folder], [folder, other], [other, folder])
    ]
    assert colours[0] == colours[1] == colours[2]
