"""What holds for every picture of every page, whatever the state of the run."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from analysis.arms import ARMS
from analysis.findings import load_findings
from analysis.loading import load_run
from analysis.plots import PAGES, Sheet, download_name
from analysis.plots.picture import labels, slug
from analysis.plots.style import TEMPLATE, arm_name

LOOKS = {arm: known.look for arm, known in ARMS.items()}

SCENARIOS = {
    "only a search": [{"seeds": 0}],
    "running": [{"finished": False}],
    "everything": [{"robustness": 8, "study": True}],
    "one loss": [{"losses": ("adaloss",), "controls": False, "seeds": 3}],
    "without AdaLoss": [{"losses": ("arcface", "softmax"), "seeds": 2}],
    "a margin a class, 100 classes": [
        {"dataset": "cifar100", "losses": ("adaloss_per_class", "norm_softmax"), "seeds": 2, "max_epochs": 6}
    ],
    "several data sets": [
        {"dataset": "mnist", "controls": False, "seeds": 6},
        {"dataset": "cifar10", "controls": False, "seeds": 2},
        {"dataset": "digits", "seeds": 0},
    ],
    "twice the same data set": [
        {"seeds": 2, "trials": 5, "max_epochs": 8, "seed": 1},
        {"seeds": 2, "trials": 5, "max_epochs": 8, "seed": 2},
    ],
}


@pytest.fixture(scope="module", params=SCENARIOS)
def scenario(request):
    return SCENARIOS[request.param]


@pytest.fixture(scope="module")
def runs(scenario, example_findings):
    return [found.run for found in example_findings(*scenario)]


@pytest.fixture(scope="module")
def sheets_of(example_findings):
    """Builds every page of example runs, once."""
    built = {}

    def get(scenario):
        if repr(scenario) not in built:
            found = example_findings(*scenario)
            built[repr(scenario)] = {page.key: page.build(found) for page in PAGES}
        return built[repr(scenario)]

    return get


@pytest.fixture(scope="module")
def sheets(scenario, sheets_of):
    return sheets_of(scenario)


@pytest.fixture(scope="module")
def pictures(sheets):
    return [picture for sheet in sheets.values() for picture in sheet.pictures]


def axes_of(figure):
    """Each axis that a trace is drawn on, by name such as "xaxis2"."""
    names = set()
    for trace in figure.data:
        for letter in "xy":
            names.add(f"{letter}axis{(trace[f'{letter}axis'] or letter)[1:]}")
    return {name: figure.layout[name] for name in sorted(names)}


def numbers_of(trace):
    """All numbers that a trace draws."""
    values = trace.z if trace.type == "heatmap" else [trace.y]
    return [v for row in values for v in row if isinstance(v, int | float | np.number) and math.isfinite(v)]


# --- Pages -----------------------------------------------------------------------------------------------------------


def test_pages_have_names_of_their_own():
    assert len({page.key for page in PAGES}) == len({page.title for page in PAGES}) == len(PAGES)
    assert all(re.fullmatch(r"[a-z-]+", page.key) for page in PAGES)


def test_every_page_shows_something_or_says_why_not(sheets):
    for key, sheet in sheets.items():
        assert sheet.pictures or sheet.notes, key


def test_notes_are_sentences_that_say_what_is_missing(sheets):
    for sheet in sheets.values():
        for note in sheet.notes:
            assert re.fullmatch(r"[A-Z\d].{10,300}\.", note), note
        assert len(set(sheet.notes)) == len(sheet.notes)


def test_pages_are_pure(example_run, example_findings, sheets_of):
    scenario = SCENARIOS["everything"]
    run, found = load_run(example_run(**scenario[0])), example_findings(*scenario)
    before = (run.trials, run.epochs, run.seed_runs.to_json(), json.dumps(run.info))
    run = found[0].run
    for page in PAGES:
        first, second = sheets_of(scenario)[page.key], page.build(found)
        assert (first.lines, first.tables, first.notes) == (second.lines, second.tables, second.notes)
        for one, other in zip(first.pictures, second.pictures, strict=True):
            assert (one.key, one.title, one.caption) == (other.key, other.title, other.caption)
            assert one.figure.to_json() == other.figure.to_json()
    assert run.trials.equals(before[0])
    assert run.epochs.equals(before[1])
    assert (run.seed_runs.to_json(), json.dumps(run.info)) == before[2:]


def test_tables_have_as_many_cells_as_columns(sheets):
    tables = [table for sheet in sheets.values() for table in sheet.tables]
    assert tables
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(isinstance(cell, str) and cell for row in table.rows for cell in row)
        assert table.caption.endswith(".")


# --- Pictures --------------------------------------------------------------------------------------------------------


def test_keys_are_good_for_ids_and_file_names_and_occur_once(pictures):
    names = [download_name(picture) for picture in pictures]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert len(set(names)) == len(names)


def test_every_picture_has_a_title_and_a_caption_of_whole_sentences(pictures):
    for picture in pictures:
        assert 5 < len(picture.title) < 120
        assert re.match(r"[A-Z\d]|softmax|normalised", picture.title), picture.title
        assert re.fullmatch(r"[A-Z\d].{20,700}\.", picture.caption), picture.caption
        assert "nan" not in picture.caption
    assert len({picture.title for picture in pictures}) == len(pictures)


def test_every_picture_has_our_template_a_height_and_the_width_of_its_column(pictures):
    for picture in pictures:
        layout = picture.figure.layout
        assert layout.template == TEMPLATE
        assert 150 <= layout.height <= 1300, picture.key
        assert layout.width is None
        assert layout.uirevision == picture.key


def test_no_trace_is_empty(pictures):
    for picture in pictures:
        assert picture.figure.data
        for trace in picture.figure.data:
            assert numbers_of(trace), (picture.key, trace.name)
            assert trace.visible in (None, True)


def test_no_panel_is_empty(pictures):
    for picture in pictures:
        drawn = set(axes_of(picture.figure))
        declared = {name for name in picture.figure.layout.to_plotly_json() if re.match(r"[xy]axis\d*$", name)}
        slots = {name for name in declared if picture.figure.layout[name].title.text}
        assert slots <= drawn, picture.key


def test_every_axis_has_a_title_or_shares_that_of_its_neighbour(pictures):
    for picture in pictures:
        for name, axis in axes_of(picture.figure).items():
            inner = axis.matches or axis.showticklabels is False or (axis.domain and axis.domain[0] > 0.3)
            second_column = name.startswith("y") and picture.key.startswith("slices")
            assert axis.title.text or inner or second_column, (picture.key, name)


UNITS = {
    r"accuracy": r"\(%\)",
    r"margin(?!_)": r"\(rad\)",
    r"angle": r"\(rad\)",
    r"difference": r"\(percentage points\)",
    r"\bloss \(": r"\(nats\)",
    r"importance": r"\(% of the variance\)",
    r"images": r"\(%\)",
    r"collapsed": r"\(%\)",
}


def test_axes_say_their_units(pictures):
    for picture in pictures:
        for axis in axes_of(picture.figure).values():
            title = axis.title.text or ""
            for quantity, unit in UNITS.items():
                if re.search(quantity, title):
                    assert re.search(unit, title), (picture.key, title)


def test_a_loss_has_its_colour_everywhere(pictures):
    by_name = {arm_name(arm): look.colour for arm, look in LOOKS.items()}
    seen = 0
    for picture in pictures:
        for trace in picture.figure.data:
            if trace.name in by_name and trace.type == "scatter":
                colours = {trace.line.color, trace.marker.color} - {None}
                assert colours == {by_name[trace.name]}, (picture.key, trace.name)
                seen += 1
    assert seen


def test_figures_are_json_without_numbers_that_json_does_not_have(pictures):
    def refuse(constant):
        raise AssertionError(constant)

    for picture in pictures:
        assert json.loads(picture.figure.to_json(), parse_constant=refuse)


def test_runs_of_the_same_data_set_are_told_apart(runs):
    names = labels(runs)
    assert len(set(names)) == len(set(map(slug, names))) == len(runs)


# --- Colours ---------------------------------------------------------------------------------------------------------

OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}


def test_losses_have_colours_that_the_colour_blind_tell_apart():
    losses = ("adaloss", "arcface", "softmax", "norm_softmax", "adaloss_per_class")
    assert {LOOKS[loss].colour for loss in losses} <= OKABE_ITO
    assert len({LOOKS[loss].colour for loss in losses}) == len(losses)


def test_no_two_arms_look_the_same():
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)
    controls = [look for arm, look in LOOKS.items() if look.dash != "solid"]
    assert len({(look.dash, look.symbol) for look in controls}) == len(controls)


# --- States that have nothing to draw --------------------------------------------------------------------------------


def test_a_run_before_its_first_trial_has_notes_and_no_picture(new_run):
    found = load_findings([new_run(losses=("arcface", "adaloss", "softmax")).folder])
    for page in PAGES:
        sheet = page.build(found)
        assert isinstance(sheet, Sheet)
        assert not sheet.pictures, page.key
        assert sheet.notes, page.key


def test_trials_without_an_epoch_have_nothing_to_draw(new_run):
    writer = new_run()
    writer.trial("arcface", 0, [], "failed", error="out of memory")
    writer.trial("softmax", 0, [], None)
    found = load_findings([writer.folder])
    for page in PAGES:
        assert not page.build(found).pictures, page.key


def test_trials_that_all_diverged_are_drawn_as_failed(new_run):
    writer = new_run(losses=("arcface",))
    for number in range(3):
        writer.trial("arcface", number, [math.nan], "failed", error="diverged")
    sheet = next(page for page in PAGES if page.key == "search").build(load_findings([writer.folder]))
    (rungs,) = (picture for picture in sheet.pictures if picture.key.startswith("rungs"))
    (trace,) = (trace for trace in rungs.figure.data if trace.name == "failed")
    assert len(trace.x) == 3
    assert "3 failed" in rungs.caption


def test_a_confirmation_of_failed_runs_alone_is_drawn_at_chance(new_run):
    writer = new_run(losses=("arcface", "adaloss"))
    writer.rewrite(confirmation={"seeds": 2})
    for arm in ("arcface", "adaloss"):
        writer.seed_runs("winner", arm, [None, None])
    found = load_findings([writer.folder])
    sheets = {page.key: page.build(found) for page in PAGES}
    pairs = next(picture for picture in sheets["paired"].pictures if picture.key.endswith("winner"))
    (points,) = (trace for trace in pairs.figure.data if trace.name == "ArcFace")
    assert list(points.y) == [10.0, 10.0]
    assert "ArcFace 2 and AdaLoss 2" in pairs.caption
    assert not sheets["confusion"].pictures
    assert not sheets["embeddings"].pictures


@pytest.mark.parametrize("folder", ["study", "records"])
def test_a_page_is_made_of_what_lies_there_when_other_parts_are_gone(example_run, tmp_path, folder):
    copy = tmp_path / "run"
    shutil.copytree(example_run(seeds=2, trials=5, max_epochs=8, study=True), copy)
    if folder == "study":
        (copy / "study.db").write_bytes(b"this is no database")
    else:
        shutil.rmtree(copy / "arcface")
        (copy / "study.db").unlink()
    found = load_findings([copy])
    sheets = {page.key: page.build(found) for page in PAGES}
    assert sheets["paired"].pictures
    assert sheets["search"].pictures
    assert not sheets["parameters"].pictures
    assert "study.db" in sheets["parameters"].notes[0]
