"""The live page in a headless browser, while somebody appends to the records."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.findings import findings
from analysis.loading import load_run
from analysis.plots import PAGES
from tests.analysis.browser import OVERFLOWING, WIDTHS, Watch, headless_browser
from tests.analysis.example_run import write_example_run
from tests.analysis.hostile import write_hostile_run
from tests.analysis.live.served import Growing, Server
from tune.records import LossRecords, RecordFile, write_json

PROJECT = Path(__file__).parents[3]
NEVER_S = 600.0  # for runs that stay as they are: updates take most of the time of a browser that draws
PATIENCE_MS = 30_000

# Of each drawn picture: ranges of its x axes, points of its traces, hidden traces, and the mark of `MARK`.
PLOTS = """() => Object.fromEntries([...document.querySelectorAll('.plot')].filter(g => g._fullData).map(g => [
  g.id, {
    range: g._fullLayout.xaxis ? g._fullLayout.xaxis.range.map(v => Math.round(1000 * v)) : null,
    points: g.data.map(t => (t.x || t.y || []).length),
    hidden: g._fullData.filter(t => t.visible === 'legendonly').map(t => t.name),
    mark: g.mark || null,
  }]))"""
MARK = "() => document.querySelectorAll('.plot').forEach(g => { g.mark = 'the same element'; })"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Keeps what it has loaded and compiled: most of the time of opening a page goes into its 5 MB of scripts."""
    with headless_browser(profile=tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def serve(server):
    """Serves the page of some runs instead of those before and returns its address."""

    def show(*folders, **options):
        server.show(*folders, **options)
        return server.url

    return show


@pytest.fixture
def look(browser, serve):
    """Opens a page at an address; complaints of the browser and foreign requests fail the test in the end."""
    opened = []

    def open_page(url, page="curves", width=1400):
        tab = browser.new_page()
        tab.set_viewport_size({"width": width, "height": 900})
        tab.set_default_timeout(PATIENCE_MS)
        watch = Watch(tab, allowed="http://127.0.0.1")
        opened.append((tab, watch))
        tab.goto(f"{url}/#{page}")
        wait_for_page(tab, page)
        return tab

    yield open_page
    for tab, watch in opened:
        tab.close()
        assert watch.requests == []
        assert watch.complaints == []


def wait_for_page(tab, page):
    tab.wait_for_selector(f'#sheet[data-page="{page}"][aria-busy="false"]', state="attached")


@pytest.fixture
def growing(tmp_path):
    return Growing(tmp_path / "digits")


ARCFACE = "curves-picture-curves-digits-arcface-plot"


def wait_for_points(tab, plot, count):
    """Wait until a trace of a picture has so many points."""
    has = f"""() => {{ const g = document.getElementById({plot!r});
      return g && g.data && g.data.some(t => (t.x || []).length === {count}); }}"""
    tab.wait_for_function(has)


def drag(tab, plot, start, end):
    """Zoom by dragging over a picture, between shares of its width."""
    area = tab.locator(f"#{plot} .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + start * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + end * box["width"], middle + 3, steps=5)
    tab.mouse.up()


# --- While records come in -------------------------------------------------------------------------------------------


def test_new_epochs_arrive_and_zoom_legend_tab_and_scroll_position_stay(growing, serve, look):
    growing.start("arcface", epochs=8)
    growing.start("adaloss", epochs=4)
    url = serve(growing.folder)
    tab = look(url)
    wait_for_points(tab, ARCFACE, 8)
    drag(tab, ARCFACE, 0.2, 0.6)
    tab.wait_for_function(f"() => document.getElementById({ARCFACE!r}).layout.xaxis.autorange === false")
    tab.locator(f"#{ARCFACE} .legendtoggle").first.click()
    tab.wait_for_function(f"() => document.getElementById({ARCFACE!r})._fullData.some(t => t.visible === 'legendonly')")
    tab.evaluate(MARK)
    tab.evaluate("() => window.scrollTo(0, 120)")
    before = tab.evaluate(PLOTS)[ARCFACE]
    for epoch in (9, 10, 11):
        growing.add("arcface", epoch)
        wait_for_points(tab, ARCFACE, epoch)
    after = tab.evaluate(PLOTS)[ARCFACE]
    assert before["range"] == after["range"]
    assert before["hidden"] == after["hidden"] != []
    assert after["mark"] == "the same element"
    assert tab.evaluate("() => window.scrollY") == 120
    assert tab.locator("nav a[aria-current]").inner_text() == "Learning curves"
    assert tab.locator("#head tbody tr").nth(0).inner_text().split()[-1] == "11"  # epochs


def test_a_picture_that_appears_leaves_the_others_as_they_are(growing, serve, look):
    growing.start("arcface", epochs=8)
    url = serve(growing.folder)
    tab = look(url)
    wait_for_points(tab, ARCFACE, 8)
    drag(tab, ARCFACE, 0.2, 0.6)
    tab.wait_for_function(f"() => document.getElementById({ARCFACE!r}).layout.xaxis.autorange === false")
    tab.evaluate(MARK)
    before = tab.evaluate(PLOTS)[ARCFACE]
    growing.start("adaloss", epochs=4)
    wait_for_points(tab, ARCFACE.replace("arcface", "adaloss"), 4)
    growing.add("arcface", 9)
    wait_for_points(tab, ARCFACE, 9)
    after = tab.evaluate(PLOTS)[ARCFACE]
    assert (after["range"], after["mark"]) == (before["range"], "the same element")
    titles = tab.evaluate(
        """() => [...document.querySelectorAll('figure h3')].map(h => [h.getBoundingClientRect(), h.textContent])
          .sort(([a], [b]) => a.top - b.top || a.left - b.left).map(([, text]) => text)"""
    )
    assert "ArcFace" in titles[0]
    assert "AdaLoss" in titles[1]


def test_the_page_chosen_is_kept_by_address_and_can_be_chosen_by_keyboard(growing, serve, look):
    growing.start("arcface", epochs=3)
    url = serve(growing.folder, interval_s=NEVER_S)
    tab = look(url, "overview")
    tab.locator("nav a", has_text="Search").focus()
    tab.keyboard.press("Enter")
    wait_for_page(tab, "search")
    assert tab.locator("#page-title").inner_text() == "Search"
    tab.reload()
    wait_for_page(tab, "search")
    tab.go_back()
    wait_for_page(tab, "overview")


def test_a_run_that_is_not_there_yet_comes_and_one_that_breaks_stays(growing, serve, look, tmp_path):
    waiting = tmp_path / "waiting"
    waiting.mkdir()
    url = serve(waiting)
    tab = look(url)
    tab.wait_for_selector("#problems .problem")
    assert "holds no run yet" in tab.locator("#problems").inner_text()
    growing.start("arcface", epochs=5)
    waiting.rmdir()
    growing.folder.rename(waiting)
    wait_for_points(tab, ARCFACE, 5)
    assert tab.locator("#problems").inner_text() == ""
    with (waiting / "arcface" / "epochs.jsonl").open("ab") as file:
        file.write(b"broken\n")
    tab.wait_for_selector("#problems .problem")
    assert "line 6: not a JSON object" in tab.locator("#problems").inner_text()
    assert tab.evaluate(PLOTS)[ARCFACE]["points"]


def test_a_confirmation_is_followed_as_well(tmp_path, serve, look):
    folder = write_example_run(tmp_path / "mnist", dataset="mnist", seeds=3, trials=3, max_epochs=4, controls=False)
    lines = (folder / "confirm.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "confirm.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    url = serve(folder)
    tab = look(url, "paired")
    tab.wait_for_function(f"() => document.getElementById('head').innerText.includes('{len(lines) // 2} training')")
    with (folder / "confirm.jsonl").open("ab") as file:
        file.write(b"".join(lines[len(lines) // 2 :]))
    tab.wait_for_function(f"() => document.getElementById('head').innerText.includes('{len(lines)} training')")
    tab.wait_for_function("() => document.getElementById('head').innerText.includes('finished')")
    tab.wait_for_function("() => [...document.querySelectorAll('.plot')].some(g => g._fullData)")


def test_a_server_that_is_gone_is_said_and_one_that_is_back_is_taken_up(growing, server, browser, monkeypatch):
    monkeypatch.setattr("analysis.live.frame.PATIENCE_S", 1.5)
    growing.start("arcface", epochs=3)
    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    server.show(growing.folder)
    tab.goto(f"{server.url}/#curves")
    wait_for_points(tab, ARCFACE, 3)
    assert not tab.locator("#lost").is_visible()
    server.stop()
    tab.wait_for_selector("#lost", state="visible")
    growing.add("arcface", 4)
    server.show(growing.folder)
    server.start()
    tab.wait_for_selector("#lost", state="hidden")
    wait_for_points(tab, ARCFACE, 4)
    tab.close()


# By its name: an update may put another element in the place of one that was there a moment ago.
DRAWN = """name => {
  const plot = document.getElementById(name);
  plot?.scrollIntoView();
  return plot?._fullData && plot.querySelector('.main-svg');
}"""


# --- What is on the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [WIDTHS[0], *(pytest.param(width, marks=pytest.mark.slow) for width in WIDTHS[1:])])
def test_every_page_fits_its_width_and_every_picture_is_drawn(width, serve, look, tmp_path):
    folder = write_example_run(
        tmp_path / "cifar10", losses=("arcface", "adaloss"), seeds=6, trials=6, max_epochs=6, robustness=3
    )
    url = serve(folder, interval_s=NEVER_S)
    tab = look(url, "overview", width)
    for link in tab.locator("nav a").all():
        link.click()
        wait_for_page(tab, link.get_attribute("href").removeprefix("#"))
        assert tab.evaluate(OVERFLOWING) <= 0
        for name in tab.evaluate("[...document.querySelectorAll('.plot')].map(plot => plot.id)"):
            tab.wait_for_function(DRAWN, arg=name, polling=100)
        assert tab.locator(".plot").count() + tab.locator(".table, .notes").count() > 0
    assert tab.evaluate(OVERFLOWING) <= 0


def test_a_picture_is_downloaded_under_its_name(growing, serve, look):
    growing.start("arcface", epochs=5)
    url = serve(growing.folder, interval_s=NEVER_S)
    tab = look(url)
    wait_for_points(tab, ARCFACE, 5)
    for form, beginning in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with tab.expect_download() as download:
            tab.locator(f"figure:has(#{ARCFACE}) [data-format={form}]").click()
        assert download.value.suggested_filename == f"curves-digits-arcface.{form}"
        assert Path(download.value.path()).read_bytes().startswith(beginning)


IMAGE = "<img src=x onerror=alert(1)>"
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'>"


def test_texts_of_a_run_are_texts(new_run, serve, look):
    run = new_run("evil", losses=("arcface", "<b onmouseover=alert(3)>loss"), dataset=IMAGE)
    run.trial("arcface", 0, [0.5, 0.6], "failed", error=EVIL)
    run.trial("arcface", 1, [0.5, 0.7])
    run.trial("<b onmouseover=alert(3)>loss", 0, [0.4])
    url = serve(run.folder)
    tab = look(url, "overview")
    for link in tab.locator("nav a").all():
        link.click()
        wait_for_page(tab, link.get_attribute("href").removeprefix("#"))
    assert tab.locator("img[src=x], [onerror], [onmouseover]").count() == 0
    assert "<img src=x" in tab.locator("#head").inner_text()
    damaged = run.folder / "arcface" / "epochs.jsonl"
    RecordFile(damaged).append({"trial_id": EVIL, "epoch": EVIL, "val_accuracy": 0.1, "seconds": 1.0})
    tab.wait_for_selector("#problems .problem")
    assert "'epoch' is '<img" in tab.locator("#problems").inner_text()


# --- Trials, choices, stages -----------------------------------------------------------------------------------------


def cells(tab, field):
    return tab.locator(f'.ag-center-cols-container [col-id="{field}"]').all_inner_texts()


def test_trials_are_filtered_and_opened_and_stay_so_while_they_grow(growing, serve, look):
    growing.start("arcface", epochs=2)
    growing.start("adaloss", epochs=4)
    tab = look(serve(growing.folder), "trials")
    tab.wait_for_selector(".ag-center-cols-container .ag-row")
    assert sorted(cells(tab, "loss")) == ["AdaLoss", "ArcFace"]
    tab.locator('.ag-header-cell-label:has-text("val. acc.")').click()
    tab.wait_for_selector('.ag-header-cell[col-id="accuracy"][aria-sort="ascending"]')
    tab.locator('.ag-floating-filter[aria-colindex="2"] input, [aria-label="loss Filter Input"]').first.fill("Arc")
    tab.wait_for_function("() => document.querySelectorAll('.ag-center-cols-container .ag-row').length === 1")
    tab.locator('.ag-row [col-id="trial"]').first.click()
    tab.wait_for_selector("#detail .command")
    command = f"python tune/run_search.py --resume --output {growing.folder.parent} --name {growing.folder.name}"
    assert tab.locator("#detail code").inner_text() == command
    wait_for_points(tab, "plot-trial", 2)
    growing.add("arcface", 3)
    wait_for_points(tab, "plot-trial", 3)  # what is open grows
    tab.wait_for_function("() => document.querySelector('.ag-row [col-id=epochs]').innerText === '3'")
    assert cells(tab, "loss") == ["ArcFace"]  # and the filter stays
    assert tab.locator('[role=columnheader][col-id="accuracy"]').get_attribute("aria-sort") == "ascending"
    tab.locator("#detail [data-copy]").click()
    tab.wait_for_selector("#detail [data-copy]:text('Copied')")


def test_a_reader_chooses_runs_which_are_judged_together_and_losses(example_run, serve, look):
    small = {"seeds": 8, "controls": False, "trials": 4, "max_epochs": 4}
    folders = [example_run(dataset=name, **small) for name in ("mnist", "digits")]
    tab = look(serve(*folders, interval_s=1.0), "overview")
    tab.wait_for_selector(".card")
    assert tab.locator(".card h3").all_inner_texts() == ["mnist", "digits"]
    tab.click("summary:text('Choose what is shown')")
    tab.uncheck("input[name=runs][value=digits]")
    tab.wait_for_function("() => document.querySelectorAll('.card').length === 1")
    (alone,) = findings([load_run(folders[0])])
    tab.locator(".card summary:text('In full')").click()
    assert alone.verdicts[0].sentence in tab.locator(".card").inner_text()
    tab.uncheck("input[name=losses][value=softmax]")
    tab.locator("nav a", has_text="Learning curves").click()
    wait_for_page(tab, "curves")
    tab.wait_for_function("() => document.querySelector('figure[data-loss-out]')")
    shown = tab.locator("figure h3:visible").all_inner_texts()
    assert shown
    assert not [title for title in shown if "softmax" in title]
    tab.check("input[name=runs][value=digits]")
    tab.wait_for_function("() => document.body.innerText.includes('on digits')")


def test_stages_and_the_time_left_are_told_in_the_dark_too(growing, serve, browser):
    growing.start("arcface", epochs=2)
    left = {"time": time.time(), "part": "search", "seconds_left": 250.0}
    write_json(growing.folder / "progress.json", left)
    tab = browser.new_page()
    tab.emulate_media(color_scheme="dark")
    watch = Watch(tab, allowed="http://127.0.0.1")
    tab.set_default_timeout(PATIENCE_MS)
    tab.goto(f"{serve(growing.folder)}/#curves")
    tab.wait_for_selector("#head .left")
    assert tab.locator("#head .left").inner_text() == "about 4 min left"
    assert tab.locator(".stages li[aria-current=step]").inner_text() == "Search 0/2"
    wait_for_points(tab, ARCFACE, 2)
    paper = "name => document.getElementById(name)._fullLayout.paper_bgcolor"
    assert tab.evaluate(paper, ARCFACE) == "rgba(22,25,29,1)"
    tab.click("#theme")
    tab.wait_for_function(f"() => ({paper})({ARCFACE!r}) === 'white'")
    write_json(growing.folder / "progress.json", {**left, "seconds_left": 20.0})
    tab.wait_for_selector("#head .left:text('about 20 s left')")
    tab.close()
    assert (watch.complaints, watch.requests) == ([], [])


# --- A real search and the real command ------------------------------------------------------------------------------


@pytest.mark.cluster
def test_the_command_follows_a_real_search(tmp_path, serve, look):
    options = ["--dataset", "digits", "--trials", "4", "--max-epochs", "6", "--max-concurrent", "1", "--no-confirm"]
    with contextlib.ExitStack() as stack:

        def start(script, *arguments):
            process = subprocess.Popen(
                [sys.executable, str(PROJECT / script), *arguments],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        (tmp_path / "results" / "search").mkdir(parents=True)  # the page may be opened first
        page = start("analysis/dashboard.py", "results/search", "--port", "0", "--interval", "0.5")
        url = re.search(r"http://\S+?(?=/ )", page.stdout.readline())[0]
        tab = look(url, "search")
        stack.callback(tab.close)  # before the server ends, whose answers it would miss
        assert "holds no run yet" in tab.locator("#problems").inner_text()
        search = start("tune/run_search.py", *options, "--output", "results", "--name", "search")
        epochs = "() => [...document.querySelectorAll('#head tbody tr')].map(r => +r.lastElementChild.innerText)"
        tab.wait_for_function(f"() => ({epochs})().some(n => n > 0)", timeout=600_000)
        tab.evaluate(MARK)
        first, seen = sum(tab.evaluate(epochs)), set()
        while search.poll() is None:
            seen.add(sum(tab.evaluate(epochs)))
            time.sleep(0.2)
        assert search.returncode == 0, search.stdout.read()
        tab.wait_for_function("() => document.getElementById('head').innerText.includes('finished')")
        last = sum(tab.evaluate(epochs))
        assert len(seen) > 3, (first, sorted(seen), last)  # they came one after another, not at the end
        assert last == sum(
            len(LossRecords(tmp_path / "results" / "search" / loss).read_epochs())
            for loss in ("arcface", "adaloss", "softmax")
        )
        assert tab.locator("#problems").inner_text() == ""


# --- Hostile texts ---------------------------------------------------------------------------------------------------


def test_hostile_names_stay_text_on_the_live_page_too(tmp_path, serve, look):
    """No script runs, nothing is asked of the network, no element comes from a name; `look` sees to the first two."""
    tab = look(serve(write_hostile_run(tmp_path), interval_s=NEVER_S), "overview")
    for page in PAGES:
        tab.click(f'nav a[href="#{page.key}"]')
        wait_for_page(tab, page.key)
        made = (
            "() => document.querySelectorAll('#sheet img, #sheet script, #sheet b, #sheet i, #sheet u, svg a').length"
        )
        assert tab.evaluate(made) == 0, page.key
        handlers = "() => [...document.querySelectorAll('*')].filter(e => e.onload || e.onerror).length"
        assert tab.evaluate(handlers) == 0, page.key
    text = tab.locator("body").inner_text()
    assert "i> %{x} &amp;: finished" in text
    assert "%{x} %{customdata} for a&lt;b&amp;" in text
