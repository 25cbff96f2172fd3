"""The pictures of results: what they show is what the records have, in light and in dark."""

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.arms import ARMS
from analysis.plots.dark import PAPER, darkened, in_the_dark
from analysis.plots.results import fingerprint, result_pictures
from analysis.plots.style import GREY, INK

LOSSES = ("arcface", "adaloss", "adaloss_per_class", "softmax")


@pytest.fixture(scope="module")
def found(example_findings):
    return example_findings({"dataset": "mnist", "losses": LOSSES}, {"dataset": "cifar10"})


@pytest.fixture(scope="module")
def pictures(found):
    drawn = result_pictures([("MNIST", found[0]), ("CIFAR-10", found[1])])
    return {picture.key.removeprefix("results-"): picture for picture in drawn}


def traces(picture, name, axis=""):
    return [t for t in picture.figure.data if t.name == name and (t.xaxis or "x") == f"x{axis}"]


def test_the_five_pictures_are_there_with_captions(pictures):
    assert list(pictures) == ["accuracy", "margins", "curves", "angles", "confusion"]
    for picture in pictures.values():
        assert 250 < picture.figure.layout.height < 1_000
        assert 40 < len(picture.caption) < 250


def test_accuracies_are_those_of_the_seeds_and_what_was_published(found, pictures):
    picture, run = pictures["accuracy"], found[0].run
    rows = [("winner", loss) for loss in LOSSES] + [("untuned", "arcface"), ("untuned", "adaloss")]
    drawn = {round(float(np.mean(trace.y))): trace for trace in traces(picture, "seed")}
    for row, (role, arm) in enumerate(rows):
        expected = 100 - 100 * run.accuracies(role, arm).to_numpy()
        assert drawn[row].x == pytest.approx(expected, abs=1e-3)
        (mean,) = (trace for trace in traces(picture, "mean") if np.mean(trace.y) == row)
        assert mean.x[0] == pytest.approx(expected.mean(), abs=1e-3)
    published = {trace.y[0]: trace.x[0] for trace in traces(picture, "published")}
    assert published == {4: pytest.approx(100 - 97.86), 5: pytest.approx(100 - 99.11)}
    assert picture.figure.layout.yaxis.ticktext[:2] == ("ArcFace", "AdaLoss")
    assert sum(bool(trace.showlegend) for trace in picture.figure.data) == 3


def test_published_accuracies_stand_beside_tuned_ones_where_no_defaults_were_run(new_run):
    from analysis.findings import load_findings

    run = new_run("run", ("arcface", "adaloss"), dataset="mnist")
    for loss in ("arcface", "adaloss"):
        run.seed_runs("winner", loss, [0.99, 0.991])
    (picture,) = result_pictures([("MNIST", load_findings([run.folder])[0])])
    assert [trace.y[0] for trace in traces(picture, "published")] == [0, 1]


def test_margins_are_drawn_by_step_and_by_epoch(found, pictures):
    picture, run = pictures["margins"], found[0].run
    winners = run.seed_runs_of("winner", "adaloss")
    steps = traces(picture, "a seed, by step")
    assert len(steps) == len(winners)
    for trace, run_id in zip(steps, winners["run_id"], strict=True):
        own = run.seed_epochs[run.seed_epochs["run_id"] == run_id].sort_values("epoch")
        margins = np.concatenate(own["margin_steps_rad"].tolist())
        assert set(np.round(trace.y, 5)) <= set(np.round(margins, 5))
        assert (trace.y[0], trace.y[-1]) == pytest.approx((margins[0], margins[-1]), abs=1e-5)
        assert len(trace.x) <= 240
        assert 0.5 < trace.x[0] < trace.x[-1] < len(own) + 0.5
    (applied,) = traces(picture, "applied margin")
    curves = [[epoch["margin_rad"] for epoch in curve] for curve in winners["curve"]]
    assert applied.y == pytest.approx(np.mean(curves, axis=0), abs=1e-5)
    assert picture.figure.layout.yaxis.title.text == "AdaLoss (rad)"


def test_confusion_and_angles_are_of_the_two_losses_of_the_claim(found, pictures):
    for place, (findings, arm) in enumerate((f, a) for f in found for a in ("arcface", "adaloss")):
        tables = np.sum(findings.run.seed_runs_of("winner", arm)["confusion"].tolist(), axis=0)
        shares = 100 * tables / tables.sum(axis=1, keepdims=True)
        (errors,) = traces(pictures["confusion"], "errors", str(place + 1) if place else "")
        shown = np.array([[np.nan if cell is None else cell for cell in row] for row in errors.z], dtype=float)
        off = ~np.eye(10, dtype=bool)
        assert shown[off] == pytest.approx(shares[off], abs=1e-3)
    titles = [axis.title.text for axis in pictures["confusion"].figure.select_xaxes()]
    assert titles == [f"{data}, {arm}: predicted" for data in ("MNIST", "CIFAR-10") for arm in ("ArcFace", "AdaLoss")]
    titles = [axis.title.text for axis in pictures["angles"].figure.select_xaxes() if axis.title.text]
    assert titles == [f"{data}, {arm}: angle (rad)" for data in ("MNIST", "CIFAR-10") for arm in ("ArcFace", "AdaLoss")]
    for trace in traces(pictures["angles"], "own class"):
        assert sum(trace.y) == pytest.approx(100, abs=1e-3)


def test_one_data_set_alone_has_its_pictures(found):
    drawn = result_pictures([("MNIST", found[0])])
    assert len(drawn) == 5
    assert all(len({t.xaxis for t in picture.figure.data}) <= 4 for picture in drawn)


def test_a_run_without_a_confirmation_has_the_curves_of_its_search_alone(example_findings):
    (searched,) = example_findings({"dataset": "mnist", "seeds": 0})
    assert [picture.key for picture in result_pictures([("MNIST", searched)])] == ["results-margins", "results-curves"]


def test_the_fingerprint_is_of_what_is_shown_and_not_of_how(pictures):
    figure = pictures["accuracy"].figure
    assert fingerprint(go.Figure(figure)) == fingerprint(figure)
    assert fingerprint(darkened(figure)) == fingerprint(figure)
    other = go.Figure(figure)
    other.data[0].x = (*other.data[0].x[:-1], other.data[0].x[-1] + 0.01)
    assert fingerprint(other) != fingerprint(figure)
    assert len({fingerprint(picture.figure) for picture in pictures.values()}) == len(pictures)


# --- In the dark -----------------------------------------------------------------------------------------------------


def luminance(red, green, blue):
    parts = [part / 255 for part in (red, green, blue)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def parts_of(colour):
    return [float(part) for part in colour.removeprefix("rgba(").removesuffix(")").split(",")]


@pytest.mark.parametrize("colour", [*(known.look.colour for known in ARMS.values()), INK, "black"])
def test_what_is_drawn_stands_out_from_dark_paper(colour):
    *dark, alpha = parts_of(in_the_dark(colour))
    assert (luminance(*dark) + 0.05) / (luminance(*PAPER) + 0.05) >= 4.5
    assert alpha == 1


def test_paper_becomes_dark_and_tints_keep_their_opacity():
    assert in_the_dark("white") == "rgba(13,17,23,1)"
    assert in_the_dark("#ffffff") == in_the_dark("rgb(255,255,255)") == "rgba(13,17,23,1)"
    assert parts_of(in_the_dark("rgba(0,114,178,0.3)"))[3] == 0.3
    assert in_the_dark("rgba(0,0,0,0)").endswith(",0)")
    assert parts_of(in_the_dark(GREY))[0] > 120
    for text in ("ArcFace", "#12", "transparent", "rgb(1,2)"):
        assert in_the_dark(text) == text


def test_colours_change_wherever_they_are_and_texts_stay(pictures):
    for picture in pictures.values():
        dark = darkened(picture.figure)
        assert dark.layout.template.layout.paper_bgcolor == "rgba(13,17,23,1)"
        assert dark.layout.template.layout.font.color != picture.figure.layout.template.layout.font.color
        assert [t.name for t in dark.data] == [t.name for t in picture.figure.data]
    heat = darkened(pictures["confusion"].figure).data[0]
    assert heat.colorscale[0] == (0, "rgba(13,17,23,1)")
