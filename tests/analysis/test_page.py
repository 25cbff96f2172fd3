"""The static page as text: self-contained, escaped, small."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from analysis.findings import findings, load_findings
from analysis.loading import load_run
from analysis.page import page_html
from analysis.plots import PAGES
from tests.analysis.example_run import write_example_run
from tests.analysis.hostile import HOSTILE, write_hostile_run

MIB = 1024 * 1024


class Elements(HTMLParser):
    """Reads a page as a browser does: its elements with attributes and text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.found = []
        self.texts = []  # of the element that was opened last and is still open
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.texts = []
        self.found.append((tag, dict(attributes), self.texts))

    def handle_endtag(self, tag):
        self.texts = []

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [(attributes, "".join(texts)) for found, attributes, texts in self.found if found == tag]


@pytest.fixture(scope="module")
def page(example_run):
    runs = [load_run(example_run(robustness=8, study=True)), load_run(example_run(dataset="mnist", seeds=2))]
    return page_html(findings(runs))


@pytest.fixture(scope="module")
def elements(page):
    return Elements(page)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return page_html(load_findings([write_hostile_run(tmp_path_factory.mktemp("hostile"))]))


# --- Self-contained --------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(elements):
    for tag, attributes, _ in elements.found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}, tag
        assert "src" not in attributes, tag
        if "href" in attributes:
            assert attributes["href"].startswith("#"), attributes
    (style,) = (text for _, text in elements.of("style"))
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else(elements):
    (policy,) = (a["content"] for a, _ in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    run = [text for attributes, text in elements.of("script") if "type" not in attributes]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run]
    assert len(run) == 2
    assert rules["script-src"].split() == hashes


def test_every_picture_is_there_with_its_data_title_caption_and_downloads(elements):
    data = {a["id"]: json.loads(text) for a, text in elements.of("script") if a.get("type") == "application/json"}
    plots = [a for a, _ in elements.of("div") if a.get("class") == "plot"]
    assert len(plots) > 40
    for plot in plots:
        figure = data[f"data-{plot['data-page']}"][plot["data-picture"]]
        assert figure["data"]
        assert figure["layout"]["height"] == int(re.fullmatch(r"height:(\d+)px", plot["style"])[1])
        assert "template" not in figure["layout"]  # once for all, in "common"
    assert data["common"]["template"]["layout"]
    assert len(elements.of("figcaption")) == len(elements.of("figure")) == len(plots)
    assert len([a for a, _ in elements.of("button") if "data-format" in a]) == 2 * len(plots)
    assert len({plot["id"] for plot in plots}) == len(plots)


def test_every_page_has_a_section_and_a_link(elements):
    keys = [page.key for page in PAGES]
    assert [a["data-page"] for a, _ in elements.of("section")] == keys
    assert [a["href"] for a, _ in elements.of("a")] == ["#content", *(f"#{key}" for key in keys)]
    assert {a["id"] for a, _ in elements.of("main")} == {"content"}


# --- Choices and trials ----------------------------------------------------------------------------------------------


def data_of(elements, name):
    (text,) = (text for attributes, text in elements.of("script") if attributes.get("id") == name)
    return json.loads(text)


def test_there_is_a_part_for_every_choice_of_runs_that_differs_by_it(elements):
    templates = [attributes for attributes, _ in elements.of("template")]
    choices = {attributes["data-of"]: set() for attributes in templates}
    for attributes in templates:
        choices[attributes["data-of"]] |= set(attributes["data-choices"].split(","))
    everywhere = {"0 1", "0", "1"}
    assert choices == {
        "card-0": everywhere - {"1"},
        "card-1": everywhere - {"0"},
        **dict.fromkeys(("paired-verdicts", "controls-verdicts", "controls-lines"), everywhere),
    }
    assert {a["value"] for a, _ in elements.of("input") if a.get("name") == "runs"} == {"0", "1"}
    figures = data_of(elements, "data-overview")
    assert {key.partition("@")[2] for key in figures} == {"", *everywhere}


def test_of_many_runs_all_are_offered_or_one(new_run):
    runs = [new_run(f"run{number}", dataset=f"set{number}") for number in range(6)]
    for run in runs:
        run.trial("arcface", 0, [0.5])
    elements = Elements(page_html(load_findings([run.folder for run in runs])))
    inputs = [a for a, _ in elements.of("input") if a.get("name") == "runs"]
    assert {a["type"] for a in inputs} == {"radio"}
    assert [a["value"] for a in inputs] == ["0 1 2 3 4 5", "0", "1", "2", "3", "4", "5"]
    offered = {choice for a, _ in elements.of("template") for choice in a["data-choices"].split(",")}
    assert offered == {a["value"] for a in inputs}


def test_every_trial_is_there_with_its_curve_settings_and_command(elements, example_run):
    run = load_run(example_run(robustness=8, study=True))
    told = data_of(elements, "trials")
    mine = [trial for trial in told["trials"] if trial[0] == 0]
    assert len(mine) == len(run.trials)
    by_trial = dict(list(run.epochs.groupby("trial_id")))
    for (_, loss, status, number, accuracy, epochs, _, _, settings, curve, margins, error, command), row in zip(
        mine, run.trials.itertuples(), strict=True
    ):
        assert (told["losses"][loss]["key"], told["statuses"][status]) == (row.loss, row.state)
        assert f"{row.loss}-{number:04d}" == row.trial_id
        own = by_trial[row.trial_id].sort_values("epoch")
        assert [epoch for epoch, _ in curve] == own["epoch"].tolist()
        assert epochs == len(curve) == len(margins)
        assert (accuracy is None) == bool(own["val_accuracy"].isna().iloc[-1])
        for (_, drawn), recorded in zip(curve, own["val_accuracy"], strict=True):
            assert drawn is None or abs(drawn / 1e4 - recorded) <= 5e-5
        assert {told["names"][name][0] for name, _ in settings} == {
            *row.config["loss_args"],
            *(set(row.config) - {"loss", "loss_args"}),
        }
        assert (error is None) == (row.state != "failed")
        _, before, after, _ = told["commands"][0][command]
        assert f"{before}{row.trial_id}{after}" == f"python tune/run_search.py --again {run.folder}/{row.trial_id}"


# --- Hostile texts ---------------------------------------------------------------------------------------------------


def test_names_from_files_stay_text(hostile):
    elements = Elements(hostile)
    tags = {tag for tag, _, _ in elements.found}
    assert tags <= {
        *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "nav", "a", "main", "section"),
        *("div", "p", "figure", "figcaption", "button", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"),
        *("noscript", "script", "article", "details", "summary", "dl", "dt", "dd", "template", "span", "caption"),
        *("fieldset", "legend", "label", "input", "select", "option", "output"),
    }
    for _, attributes, _ in elements.found:
        assert not [name for name in attributes if name.startswith("on")]
    assert len(elements.of("title")) == 1
    assert {attributes.get("type") for attributes, _ in elements.of("script")} == {None, "application/json"}
    assert len([1 for attributes, _ in elements.of("script") if "type" not in attributes]) == 2


def test_names_from_files_are_shown_and_not_dropped(hostile):
    cells = [text for _, text in Elements(hostile).of("td")]
    assert any("<svg onload=alert(3)>" in cell for cell in cells)
    assert any("</script> rm -rf <b>/</b>" in cell for cell in cells)


def test_no_label_of_a_figure_holds_markup_from_a_file(hostile):
    allowed = re.compile(r"</?(br|extra)>")  # ours
    for attributes, text in Elements(hostile).of("script"):
        if attributes.get("type") != "application/json":
            continue
        assert "<" not in text  # no parser of HTML can leave it
        if attributes["id"] == "trials":
            continue  # set as text, see test_page_browser.py
        for label in strings_of(json.loads(text)):
            assert "<" not in allowed.sub("", label), label
    shown = [label for label in strings_of(json.loads(confusion_of(hostile))) if "script" in label]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)


def confusion_of(page):
    return next(text for a, text in Elements(page).of("script") if a.get("id") == "data-confusion")


def test_hostile_names_are_many_and_odd():
    assert any("</script>" in name for name in HOSTILE)
    assert any("href" in name for name in HOSTILE)


# --- Size ------------------------------------------------------------------------------------------------------------


def test_a_page_of_two_data_sets_is_little_more_than_its_plotly(page):
    assert len(page.encode()) < 6 * MIB


@pytest.mark.slow
def test_2000_trials_and_20000_epochs_stay_below_8_megabytes(tmp_path):
    folder = write_example_run(tmp_path / "big", trials=667, max_epochs=27, robustness=30)
    run = load_run(folder)
    assert len(run.trials) > 2000
    assert len(run.epochs) + len(run.seed_epochs) > 20_000
    assert len(page_html(findings([run])).encode()) < 8_000_000
