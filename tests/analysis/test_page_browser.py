"""The static page in a headless browser, wide and narrow, with the network cut."""

import itertools
import shlex

import pytest

from analysis.findings import findings, load_findings
from analysis.formatting import p_value
from analysis.loading import load_run
from analysis.page import page_html
from analysis.plots import PAGES
from analysis.trials import command_of, trial_rows
from tests.analysis.browser import OVERFLOWING, PLOTS, WIDTHS, Watch, headless_browser
from tests.analysis.hostile import HOSTILE, write_hostile_run

KEYS = [page.key for page in PAGES]
TOLERANCE_PX = 1.0
PATIENCE_MS = 30_000


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

    def __init__(self, browser, path, page="", **options):
        self.tab = browser.new_page(viewport={"width": WIDTHS[0], "height": 900}, accept_downloads=True, **options)
        self.tab.set_default_timeout(PATIENCE_MS)
        self.tab.route(
            "**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort()
        )
        self.watch = Watch(self.tab)
        self.tab.goto(f"{path.as_uri()}#{page}")

    def close(self):
        """End a look, in which nothing was complained about and nothing asked of anybody."""
        self.tab.close()
        assert self.watch.complaints == []
        assert self.watch.requests == []

    def resize(self, width):
        """Go to a width at which no picture is drawn yet; to open the page anew takes as long as all its pictures."""
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.tab.evaluate(
            """() => document.querySelectorAll('.plot[data-drawn]').forEach(plot => {
              Plotly.purge(plot);
              plot.isNear = false;
              delete plot.dataset.drawn;
            })"""
        )

    def show(self, key):
        """Go to a page by its link and draw all of it."""
        self.tab.click(f'nav a[href="#{key}"]')
        self.tab.wait_for_selector(f'nav a[href="#{key}"][aria-current]')
        self.tab.evaluate(
            """async () => {
              for (const plot of document.querySelectorAll('section.shown .plot')) {
                if (!plot.offsetParent) continue;
                plot.scrollIntoView();
                for (let i = 0; i < 300 && !plot.querySelector('.nsewdrag'); i++) {
                  await new Promise(resolve => setTimeout(resolve, 20));
                }
              }
              window.scrollTo(0, 0);
            }"""
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
    assert opened.tab.locator("section[data-page]:visible").count() == 1
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
    buttons = wide.tab.locator("section.shown .modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert buttons
    assert not [title for title in buttons if "Share" in title or "Cloud" in title]  # plotly's own would upload it
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


def test_on_paper_everything_is_there_light_and_unfolded_without_controls(browser, small_file):
    opened = Opened(browser, small_file, color_scheme="dark")
    tab = opened.tab
    tab.emulate_media(media="print", color_scheme="dark")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for control in ("nav", "#theme", ".choices", ".downloads", ".filters"):
        assert not tab.locator(control).first.is_visible(), control
    assert tab.locator("section[data-page]:visible").count() == len(KEYS)
    drawn = "[...document.querySelectorAll('.plot[data-picture]')].every(p => p.querySelector('.main-svg'))"
    tab.wait_for_function(drawn)
    assert tab.locator("details:not([open])").count() == 0
    assert tab.evaluate(PAPER) == ["rgb(255, 255, 255)"] * 2
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen", color_scheme="dark")
    assert tab.locator("section[data-page]:visible").count() == 1
    assert tab.locator("details[open]").count() == 0
    opened.close()


# --- Trials ----------------------------------------------------------------------------------------------------------

PAPER = """() => [getComputedStyle(document.documentElement).backgroundColor,
  getComputedStyle(document.querySelector('section .main-svg')).backgroundColor]"""


@pytest.fixture(scope="module")
def small_file(example_run, tmp_path_factory):
    """The page of four runs, of few trials each."""
    runs = [example_run(dataset=name, **SMALL) for name in ("mnist", "cifar10", "digits", "fashion_mnist")]
    path = tmp_path_factory.mktemp("page") / "four.html"
    path.write_text(page_html(load_findings(runs)))
    return path


SMALL = {"seeds": 8, "controls": False, "trials": 6, "max_epochs": 6}


@pytest.fixture
def trials(browser, small_file):
    opened = Opened(browser, small_file, "trials")
    yield opened.tab
    opened.close()


def column(tab, number):
    return tab.locator(f".trials tbody tr:not(.detail) > :nth-child({number})").all_text_contents()


def test_trials_are_sorted_by_a_heading_and_back(trials):
    assert "1 to 25 of 72" in trials.locator(".filters output").inner_text()
    trials.click(".trials thead button:text('val. acc.')")
    assert trials.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    seen = [float(text) for text in column(trials, 5)]
    trials.click("[data-step='1']")
    seen += [float(text) for text in column(trials, 5)]
    assert len(seen) == 50
    assert seen == sorted(seen, reverse=True)
    trials.click(".trials thead button:text('val. acc.')")
    assert trials.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert column(trials, 5)[0] == "-"  # failed trials have none


def test_trials_are_filtered_by_loss_status_and_words(trials):
    trials.locator(".filters select").nth(0).select_option("adaloss")
    assert set(column(trials, 3)) == {"AdaLoss"}
    trials.locator(".filters select").nth(1).select_option("failed")
    assert set(column(trials, 4)) == {"failed"}
    assert column(trials, 1) == ["adaloss-0004"] * 4
    trials.fill("[type=search]", "nosuch")
    assert "no trial is like that" in trials.locator(".filters output").inner_text()
    trials.fill("[type=search]", "0004 finite")
    assert len(column(trials, 1)) == 4


def test_a_trial_opens_by_keyboard_and_its_command_can_be_pasted(trials, example_run):
    trials.locator("button.open").nth(10).focus()
    trials.keyboard.press("Enter")
    detail = trials.locator("tr.detail")
    detail.locator(".plot .main-svg").first.wait_for()
    assert trials.locator("button.open[aria-expanded=true]").inner_text() == "adaloss-0004"
    assert "diverged: the loss was not finite in epoch 2" in detail.locator("pre").inner_text()
    assert "learning_rate" in detail.locator("dl").inner_text()
    detail.locator("[data-copy]").click()
    detail.locator("[data-copy]:text('Copied')").wait_for()
    trials.locator("[type=search]").focus()
    trials.keyboard.press("Control+V")
    command = trials.locator("[type=search]").input_value()
    folder = example_run(dataset="mnist", **SMALL)
    assert command == f"python tune/run_search.py --again {folder}/adaloss-0004"


def test_a_command_that_is_pasted_is_one_that_the_program_takes(example_run, called, monkeypatch):
    import tune.plan
    from tune import run_search

    asked = []
    monkeypatch.setattr(tune.plan, "plan_run", lambda *arguments: asked.append(arguments) or Plan())
    run = load_run(example_run(dataset="digits", **SMALL))
    for row in trial_rows(run)[::3]:
        command, _ = command_of(run, row)
        _, script, *options = shlex.split(command)
        assert script == "tune/run_search.py"
        assert called(run_search.main, *options, "--dry-run")[0] == 0
        settings, confirmation, _ = asked.pop()
        assert (settings.losses, settings.trials, confirmation) == ((row.loss,), 1, None)


class Plan:
    def lines(self):
        return []


# --- Choices ---------------------------------------------------------------------------------------------------------


def test_one_of_four_runs_has_p_values_of_its_own(browser, small_file, example_run):
    opened = Opened(browser, small_file, "paired")
    tab = opened.tab
    tab.click("summary:text('Choose what is shown')")
    runs = {name: load_run(example_run(dataset=name, **SMALL)) for name in ("mnist", "cifar10", "digits")}
    chosen = ["mnist", "cifar10", "digits", "fashion_mnist"]
    for leaving in ("fashion_mnist", "digits", "cifar10"):
        tab.uncheck(f"label:text-is('{leaving}') input")
        chosen.remove(leaving)
        expected = findings([runs[name] for name in chosen])
        told = [v for found in expected for v in found.verdicts if v.kind != "control"]
        shown = tab.locator("#page-paired table tbody tr td:nth-child(5)").all_text_contents()
        assert shown == [p_value(v.p_holm) for v in told]
    tab.click('nav a[href="#overview"]')
    assert tab.locator(".card:visible").count() == 1
    assert tab.locator(".card:visible h3").inner_text() == "mnist"
    assert tab.locator("#page-overview .plot .ytick text").count() == 3
    tab.click("label:text-is('mnist') input")
    assert tab.locator(".card:visible").count() == 1  # there is always something to see
    tab.click('nav a[href="#trials"]')
    assert "of 18" in tab.locator(".filters output").inner_text()
    tab.uncheck("input[name=losses][value=arcface]")  # leaves out more, and brings nothing back
    tab.click('nav a[href="#curves"]')
    titles = tab.locator("section.shown h3:visible").all_inner_texts()
    assert [title for title in titles if title.startswith("AdaLoss on mnist")]
    assert not [title for title in titles if "ArcFace" in title or "cifar10" in title]
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#page-curves:visible").count() == 1
    opened.close()


def test_a_loss_that_is_left_out_is_nowhere(browser, small_file):
    opened = Opened(browser, small_file, "curves")
    tab = opened.tab
    tab.click("summary:text('Choose what is shown')")
    tab.uncheck("input[name=losses][value=softmax]")
    titles = tab.locator("section.shown h3:visible").all_inner_texts()
    assert not [title for title in titles if "softmax" in title]
    assert [title for title in titles if "ArcFace" in title]
    tab.click('nav a[href="#trials"]')
    assert "softmax" not in column(tab, 3)
    assert "of 48" in tab.locator(".filters output").inner_text()
    tab.check("input[name=losses][value=softmax]")
    assert "of 72" in tab.locator(".filters output").inner_text()
    opened.close()


# --- Light and dark --------------------------------------------------------------------------------------------------


def test_the_dark_page_is_dark_with_its_pictures_and_can_be_made_light(browser, small_file):
    opened = Opened(browser, small_file, color_scheme="dark")
    tab = opened.tab
    tab.wait_for_selector("section.shown .main-svg")
    page, _ = tab.evaluate(PAPER)
    assert page == "rgb(22, 25, 29)"
    background = tab.evaluate("() => document.querySelector('section.shown .plot')._fullLayout.paper_bgcolor")
    assert background == "rgba(22,25,29,1)"
    tab.click("#theme")
    assert tab.inner_text("#theme") == "Colours: light"
    assert tab.evaluate(PAPER)[0] == "rgb(255, 255, 255)"
    background = tab.evaluate("() => document.querySelector('section.shown .plot')._fullLayout.paper_bgcolor")
    assert background == "white"
    opened.close()


# WCAG 2.2, "relative luminance" and "contrast ratio"; texts that stand on nothing of their own are on the page.
CONTRASTS = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + [0.2126, 0.7152, 0.0722][i] * v, 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('h1,h2,h3,p,a,button,li,td,th,dt,dd,summary,label,figcaption,output')]
    .filter(e => e.offsetParent && e.textContent.trim() && !e.disabled)
    .map(e => {
      const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
      return [e.tagName, e.textContent.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    }).filter(([, , contrast]) => contrast < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_and_controls_have_names(browser, small_file, scheme):
    opened = Opened(browser, small_file, color_scheme=scheme)
    tab = opened.tab
    for key in ("overview", "trials", "paired"):
        tab.click(f'nav a[href="#{key}"]')
        assert tab.evaluate(CONTRASTS) == []
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll('button, input, select')].filter(e => {
            const label = e.labels && e.labels[0] ? e.labels[0].textContent : '';
            return ![e.textContent, e.getAttribute('aria-label') || '', label].some(text => text.trim());
          }).map(e => e.outerHTML)"""
    )
    assert nameless == []
    levels = tab.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    opened.close()


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
