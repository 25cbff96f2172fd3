"""The live page without a browser: what is sent when, and what is refused."""

import copy
import json
import shutil

import plotly.graph_objects as go
import pytest
from plotly.io.json import to_json_plotly

from analysis.live import server as live
from analysis.live.blocks import blocks_of
from analysis.live.frame import frame
from analysis.live.runs import Runs
from analysis.plots import PAGES, Page, Picture, Sheet, Table

PAGE = {page.key: page for page in PAGES}


class Reader:
    """A browser as far as the server sees it: what it shows, and what it remembers of that."""

    def __init__(self, folders, monkeypatch, page=None):
        self.runs = Runs(folders, interval_s=0)
        self.page = page or PAGE["curves"]
        self.seen = {}
        self.body = copy.deepcopy(frame())
        self.sent = []  # ids, of the last update
        monkeypatch.setattr(live, "set_props", self.set_props)

    def set_props(self, name, properties):
        self.sent.append(name)
        for key, value in properties.items():
            setattr(self.body[name], key, copy.deepcopy(value))  # KeyError: there is no such element

    def update(self):
        self.sent = []
        answer = live._bring_up_to_date(self.page, self.runs, self.seen)
        if answer is not live.no_update:
            self.seen = json.loads(json.dumps(answer))  # on its way through the browser
        return self.sent

    def keys(self):
        """The blocks from top to bottom."""
        return [key for key, _ in sorted(self.seen["slots"].items(), key=lambda item: item[1][1])]

    def blocks(self):
        """What is seen of the page, from top to bottom."""
        slots = [slot for slot in self.body["sheet"].children if getattr(slot, "children", None) is not None]
        slots.sort(key=lambda slot: slot.style["order"])
        return [(to_json_plotly(slot.children), slot.style.get("gridColumn")) for slot in slots]

    def text(self, name):
        return str(self.body[name].children)


@pytest.fixture
def reader(new_run, monkeypatch):
    """A run with one trial, and a browser that looks at its learning curves."""
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6], None)
    reader = Reader([run.folder], monkeypatch)
    reader.update()
    return run, reader


# --- What is sent ----------------------------------------------------------------------------------------------------


def test_the_first_answer_is_the_whole_page_and_the_next_nothing(reader):
    _, browser = reader
    assert getattr(browser.body["sheet"], "data-page") == "curves"
    assert browser.text("page-title") == "Learning curves"
    assert browser.update() == []


def test_an_epoch_changes_its_picture_and_the_head_and_nothing_else(reader):
    run, browser = reader
    run.trial("softmax", 0, [0.3])
    browser.update()
    before = browser.keys()
    run.epoch("arcface", 0, 3, 0.7)
    sent = browser.update()
    assert browser.keys() == before
    assert "head" in sent
    plots = {name for name in sent if name.endswith("-plot")}
    assert plots
    assert all("arcface" in name or name.endswith("-all-plot") for name in plots)
    assert not any(name.startswith(("sheet", "slot")) for name in sent)
    assert browser.update() == []


def test_a_picture_that_appears_takes_an_empty_place_and_moves_nothing_else(reader):
    run, browser = reader
    places = {key: slot for key, (slot, _, _) in browser.seen["slots"].items()}
    run.trial("softmax", 0, [0.3])
    sent = browser.update()
    assert "sheet" not in sent
    new = set(browser.keys()) - set(places)
    assert any("softmax" in key for key in new)
    now = {key: slot for key, (slot, _, _) in browser.seen["slots"].items()}
    assert {key: now[key] for key in places if key in now} == {key: slot for key, slot in places.items() if key in now}
    assert len(browser.blocks()) == len(browser.keys())


def made_up_sheet(step):
    """Pictures, tables and texts that come, go and change."""
    pictures = []
    for number in range(12):
        if (step * 7 + number * 3) % 5:
            figure = go.Figure(go.Scatter(y=[number, step % (number + 1)]), {"height": 300 + 10 * (step % 2)})
            pictures.append(Picture(f"p{number}", f"title {number * step % 3}", "caption", figure, wide=number == 3))
    rows = (("x", str(step // 2)),)
    return Sheet(
        lines=("line",) * (step % 2),
        tables=tuple(Table(f"t{number}", "table", "caption", ("a", "b"), rows) for number in range(step % 3)),
        pictures=tuple(pictures),
        notes=("note",) * (step % 4 == 0),
    )


@pytest.mark.parametrize("spare", [0, 40])
def test_after_any_changes_the_page_is_what_it_would_be_when_opened_anew(new_run, monkeypatch, spare):
    """What is sent, bit by bit, adds up; where the spare places run out, the page is sent anew."""
    monkeypatch.setattr("analysis.live.blocks._SPARE_SLOTS", spare)
    run, steps = new_run(), iter(range(20))
    browser = Reader([run.folder], monkeypatch, Page("made-up", "Made up", lambda _: made_up_sheet(next(steps))))
    sent_anew = 0
    for step in range(20):
        run.epoch("arcface", 0, step, 0.5)
        sent_anew += "sheet" in browser.update()
        fresh = blocks_of("made-up", made_up_sheet(step))
        assert browser.blocks() == [
            (to_json_plotly(block.component), "1 / -1" if block.wide else None) for block in fresh
        ]
        assert browser.keys() == [block.key for block in fresh]
    assert (sent_anew == 1) == (spare == 40)
    assert sent_anew < 10


def test_only_the_page_in_view_is_built_and_only_when_something_changed(reader, monkeypatch):
    run, browser = reader
    built = []
    for key in ("curves", "search"):
        page = PAGE[key]
        counted = Page(key, page.title, lambda runs, page=page: built.append(page.key) or page.build(runs))
        monkeypatch.setitem(PAGE, key, counted)
    browser.page = PAGE["curves"]
    browser.runs._views.clear()
    for _ in range(3):
        browser.update()
    assert built == ["curves"]
    run.epoch("arcface", 0, 3, 0.7)
    for _ in range(3):
        browser.update()
    assert built == ["curves", "curves"]
    browser.page = PAGE["search"]
    browser.update()
    assert built == ["curves", "curves", "search"]


def test_several_browsers_share_the_work_and_each_gets_what_it_lacks(reader, monkeypatch):
    run, first = reader
    second = Reader([run.folder], monkeypatch)
    second.runs = first.runs
    run.epoch("arcface", 0, 3, 0.7)
    assert "sheet" in second.update()
    monkeypatch.setattr(live, "set_props", first.set_props)
    assert any(name.endswith("-plot") for name in first.update())
    assert "sheet" not in first.sent


def test_a_browser_that_outlives_the_server_is_brought_up_to_date(reader):
    run, browser = reader
    run.epoch("arcface", 0, 3, 0.7)
    browser.runs = Runs([run.folder], interval_s=0)
    assert any(name.endswith("-plot") for name in browser.update())
    assert browser.update() == []


def test_a_page_that_cannot_be_drawn_says_so_and_the_others_can(reader, caplog):
    _, browser = reader

    def build(runs):
        raise KeyError("unforeseen")

    browser.page = Page("broken", "Broken", build)
    browser.update()
    assert "This page cannot be drawn: KeyError: 'unforeseen'" in browser.blocks()[0][0]
    assert "the page 'Broken' cannot be drawn" in caplog.text
    browser.page = PAGE["search"]
    assert "sheet" in browser.update()


def test_a_run_that_breaks_is_a_banner_above_what_was_there(reader):
    run, browser = reader
    path = run.folder / "arcface" / "epochs.jsonl"
    intact = path.read_bytes()
    path.write_bytes(intact + b"broken\n")
    assert browser.update() == ["problems"]
    assert f"{path}, line 3: not a JSON object" in browser.text("problems")
    assert "shown as it was before" in browser.text("problems")
    path.write_bytes(intact)
    assert "problems" in browser.update()
    assert browser.body["problems"].children == []


def test_a_folder_without_a_run_is_said_and_the_run_is_shown_once_it_is_there(new_run, tmp_path, monkeypatch):
    folder = tmp_path / "later"
    folder.mkdir()
    browser = Reader([folder], monkeypatch)
    browser.update()
    assert f"{folder}: holds no run yet (run.json is missing); nothing to show of it yet" in browser.text("problems")
    other = new_run("other")
    other.trial("arcface", 0, [0.5])
    folder.rmdir()
    other.folder.rename(folder)
    browser.update()
    assert browser.body["problems"].children == []
    assert "arcface" in str(browser.keys())


def test_a_folder_of_runs_is_all_of_them_as_they_come_and_go(new_run, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    browser = Reader([folder], monkeypatch)
    browser.update()
    assert f"{folder}: holds no run yet" in browser.text("problems")
    first = new_run("runs/a", dataset="mnist")
    first.trial("arcface", 0, [0.5])
    browser.update()
    assert browser.body["problems"].children == []
    assert "'mnist: '" in browser.text("head")
    new_run("runs/b", dataset="cifar10").trial("arcface", 0, [0.5])
    browser.update()
    assert all(name in browser.text("head") for name in ("'mnist: '", "'cifar10: '"))
    shutil.rmtree(first.folder)
    browser.update()
    assert browser.update() == []
    assert browser.body["problems"].children == []
    assert "mnist" not in browser.text("head")


def test_the_head_names_the_runs_and_says_what_saw_a_part_of_the_data_only(new_run, monkeypatch):
    runs = [new_run("a", dataset="mnist", partial=True), new_run("b", dataset="mnist"), new_run("c", dataset="digits")]
    browser = Reader([run.folder for run in runs], monkeypatch)
    browser.update()
    head = browser.text("head")
    assert all(name in head for name in ("'mnist, a (a part of the training images): '", "'mnist, b: '", "'digits: '"))


def test_every_page_of_a_real_run_fits_the_places_and_changes_nothing_twice(example_run, monkeypatch):
    browser = Reader([example_run(seeds=2), example_run(dataset="mnist", seeds=2, robustness=4)], monkeypatch)
    for page in PAGES:
        browser.page = page
        assert "sheet" in browser.update()
        assert browser.update() == []
