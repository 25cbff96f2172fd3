"""The static page in a headless browser, wide and narrow, with the network cut."""

import pytest

from analysis.findings import findings, load_findings
from analysis.loading import load_run
from analysis.page import page_html
from analysis.plots import PAGES
from tests.analysis.browser import OVERFLOWING, PLOTS, WIDTHS, Watch, headless_browser
from tests.analysis.hostile import HOSTILE, write_hostile_run

KEYS = [page.key for page in PAGES]
TOLERANCE_PX = 1.0


@pytest.fixture(scope="module")
def browser():
    with headless_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(example_run, tmp_path_factory):
    """The page of a run that has everything, and of one with other losses that is not finished."""
    runs = [
        load_run(example_run(robustness=8, study=True)),
        load_run(example_run(dataset="digits", losses=("adaloss_per_class", "norm_softmax"), finished=False)),
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_html(findings(runs)))
    return path


class Opened:
    """A page in the browser, and what it complains about."""

    def __init__(self, browser, path, page=""):
        self.tab = browser.new_page(viewport={"width": WIDTHS[0], "height": 900}, accept_downloads=True)
        self.tab.route(
            "**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort()
        )
        self.watch = Watch(self.tab)
        self.tab.goto(f"{path.as_uri()}#{page}")

    def resize(self, width):
        """Go to a width at which no picture is drawn yet; to open the page anew takes as long as all its pictures."""
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.tab.evaluate(
            """() => document.querySelectorAll('.plot[data-drawn]').forEach(plot => {
              Plotly.purge(plot);
              delete plot.dataset.drawn;
            })"""
        )

    def show(self, key):
        """Go to a page by its link and draw all of it."""
        self.tab.click(f'nav a[href="#{key}"]')
        self.tab.wait_for_selector(f'nav a[href="#{key}"][aria-current]')
        self.tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        self.tab.wait_for_function(
            "[...document.querySelectorAll('section.shown .plot')].every(p => p.querySelector('.nsewdrag'))"
        )
        return self.tab.evaluate(PLOTS)


@pytest.fixture(scope="module")
def reader(browser, page_file):
    opened = Opened(browser, page_file)
    yield opened
    opened.tab.close()


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request, reader):
    reader.resize(request.param)
    return reader


# --- Every page at every width ---------------------------------------------------------------------------------------


def inside(inner, outer):
    return (
        inner["left"] >= outer["left"] - TOLERANCE_PX
        and inner["right"] <= outer["right"] + TOLERANCE_PX
        and inner["top"] >= outer["top"] - TOLERANCE_PX
        and inner["bottom"] <= outer["bottom"] + TOLERANCE_PX
    )


def overlap(a, b):
    wide = min(a["right"], b["right"]) - max(a["left"], b["left"])
    high = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
    return wide > TOLERANCE_PX and high > TOLERANCE_PX


@pytest.mark.parametrize("key", KEYS)
def test_a_page_is_drawn_without_overlap_overflow_or_complaint(opened, key):
    plots = opened.show(key)
    assert opened.tab.evaluate(OVERFLOWING) <= 0
    assert opened.tab.is_visible(f"section#page-{key} h2")
    assert opened.tab.locator("section:visible").count() == 1
    for plot in plots:
        assert plot["traces"] > 0, plot["id"]
        assert plot["marks"] > 0, plot["id"]
        assert plot["panels"], plot["id"]
        assert plot["titles"], plot["id"]
        outer = [*plot["titles"], *plot["legends"], *plot["ticks"]]
        for box in outer:
            assert inside(box, plot["box"]), (plot["id"], box)
        for panel in plot["panels"]:
            assert panel["right"] - panel["left"] > 100, plot["id"]
            assert panel["bottom"] - panel["top"] > 60, plot["id"]
        for i, first in enumerate(outer):
            for second in [*outer[i + 1 :], *plot["panels"]]:
                if first["turned"] and second["turned"]:
                    continue  # the frames of slanted texts overlap, the texts do not
                assert not overlap(first, second), (plot["id"], first["text"], second["text"])
    frames = opened.tab.evaluate(
        """() => [...document.querySelectorAll('section.shown figure, section.shown .table')]
        .map(e => e.getBoundingClientRect().toJSON())"""
    )
    for i, first in enumerate(frames):
        assert not [second for second in frames[i + 1 :] if overlap(first, second)]
    assert opened.watch.complaints == []
    assert opened.watch.requests == []


def test_pictures_stand_beside_each_other_where_there_is_room(opened):
    opened.show("curves")
    lefts = opened.tab.evaluate(
        "() => [...document.querySelectorAll('section.shown figure')].map(e => e.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == (2 if opened.tab.viewport_size["width"] >= 1000 else 1)


def test_the_navigation_stays_in_view(opened):
    opened.show("curves")
    opened.tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    box = opened.tab.evaluate("document.querySelector('nav').getBoundingClientRect().toJSON()")
    assert abs(box["top"]) <= 1
    link = opened.tab.evaluate("document.querySelector('nav a[aria-current]').getBoundingClientRect().toJSON()")
    assert link["left"] >= 0
    assert link["right"] <= opened.tab.viewport_size["width"]
    opened.tab.evaluate("window.scrollTo(0, 0)")


# --- What a reader does ----------------------------------------------------------------------------------------------


@pytest.fixture
def wide(reader):
    reader.tab.set_viewport_size({"width": WIDTHS[0], "height": 900})
    reader.tab.emulate_media(media="screen")
    yield reader
    assert reader.watch.complaints == []
    assert reader.watch.requests == []


def test_only_what_comes_into_view_is_drawn(wide):
    wide.resize(WIDTHS[0])
    wide.tab.click('nav a[href="#parameters"]')
    wide.tab.wait_for_selector("#page-parameters .plot .nsewdrag")
    drawn = wide.tab.locator("section.shown .plot[data-drawn]").count()
    assert 0 < drawn < wide.tab.locator("section.shown .plot").count()
    wide.tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    wide.tab.wait_for_selector("section.shown figure:last-child .plot[data-drawn] .main-svg")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_downloaded(wide, kind):
    wide.show("paired")
    with wide.tab.expect_download() as download:
        wide.tab.locator(f"section.shown button[data-format={kind}]").first.click()
    assert download.value.suggested_filename == f"pairs-cifar10-winner.{kind}"
    content = download.value.path().read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<svg"}[kind])
    assert len(content) > 5000


def test_an_address_names_a_page_and_back_goes_back(wide):
    wide.tab.goto(wide.tab.url.partition("#")[0] + "#confusion")
    wide.tab.wait_for_selector("#page-confusion:visible")
    wide.tab.click('nav a[href="#margins"]')
    wide.tab.wait_for_selector("#page-margins:visible")
    wide.tab.go_back()
    wide.tab.wait_for_selector("#page-confusion:visible")
    assert not wide.tab.is_visible("#page-margins")


def test_a_page_fits_again_after_the_window_has_changed(wide):
    wide.show("curves")
    wide.show("margins")
    wide.tab.set_viewport_size({"width": WIDTHS[1], "height": 900})
    wide.show("curves")
    wide.tab.wait_for_function(
        "() => [...document.querySelectorAll('section.shown .main-svg')].every(s => s.clientWidth < 420)"
    )
    assert wide.tab.evaluate(OVERFLOWING) <= 0


def test_printing_shows_the_page_without_navigation_and_buttons(wide):
    wide.show("paired")
    wide.tab.emulate_media(media="print")
    assert not wide.tab.is_visible("nav")
    assert not wide.tab.locator("section.shown .downloads").first.is_visible()
    assert wide.tab.locator("section.shown .main-svg").first.is_visible()


# --- Hostile texts ---------------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_as_they_are(browser, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(page_html(load_findings([write_hostile_run(tmp_path)])))
    opened = Opened(browser, path, "confusion")
    assert opened.tab.is_visible("#page-confusion")  # whatever comes first: the address names a page
    for key in KEYS:
        opened.show(key)
    opened.show("confusion")
    labels = opened.tab.locator("section.shown .plot").first.locator(".ytick text").all_text_contents()
    assert labels[2] == "<b>bold</b>"
    assert labels[4] == "%{x} %{custom…"
    assert labels[5] == "a&lt;b&amp;"
    assert len(labels) == len(HOSTILE)
    assert opened.tab.locator("section.shown svg a, section.shown svg b").count() == 0
    cell = opened.tab.locator("section.shown .plot").first
    box = cell.locator(".hm image").first.bounding_box()
    opened.tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    hover = opened.tab.wait_for_selector(".hoverlayer .hovertext", timeout=5000).text_content()
    assert "<b>bold</b>" in hover
    assert opened.watch.complaints == []
    assert opened.watch.requests == []
    assert opened.tab.title() == "Losses compared: i> %{x} &amp;"
    opened.tab.close()
