"""Numbers in the pictures against the records that they come from."""

import json

import numpy as np
import pytest

from analysis.findings import load_findings
from analysis.loading import load_run
from analysis.plots import PAGES
from analysis.plots.bands import best_trial
from analysis.statistics.stats import bca_interval, expected_maximum, t_interval
from tests.analysis.plots.pictures import axis_number, confirmed, pictures_of, searched, trace_of
from tune.search.rungs import Rungs


def accuracies_from(error_percents):
    return [1 - error / 100 for error in error_percents]


# --- Learning curves -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["arcface", "adaloss", "softmax"])
@pytest.mark.parametrize(("name", "field"), [("training", "train"), ("validation", "val")])
def test_the_band_of_a_learning_curve_goes_from_the_lowest_to_the_highest_seed(example_run, loss, name, field):
    folder = example_run()
    winner = json.loads((folder / f"winner_{loss}.json").read_text())["trial_id"]
    curves = [r["curve"] for r in confirmed(folder, "candidate", loss) if r["trial_id"] == winner]
    assert len(curves) == 3
    picture = pictures_of(folder, "curves", f"curves-cifar10-{loss}")[f"curves-cifar10-{loss}"]
    for row, what, unit in ((1, "accuracy", 100.0), (2, "loss", 1.0)):
        values = unit * np.array([[epoch[f"{field}_{what}"] for epoch in curve] for curve in curves])
        line, band = (
            next(t for t in picture.figure.data if t.name == wanted and axis_number(t) == row)
            for wanted in (name, f"{name}, lowest to highest seed")
        )
        epochs = [epoch["epoch"] for epoch in curves[0]]
        assert list(line.x) == epochs
        assert list(band.x) == epochs + epochs[::-1]
        np.testing.assert_allclose(line.y, values.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(band.y, [*values.max(axis=0), *values.min(axis=0)[::-1]], atol=1e-4)


def test_the_test_accuracy_of_a_learning_curve_is_the_winners_mean_with_its_range(example_run):
    folder = example_run()
    values = [100 * r["test_accuracy"] for r in confirmed(folder, "winner", "adaloss")]
    picture = pictures_of(folder, "curves", "curves-cifar10-adaloss")["curves-cifar10-adaloss"]
    trace = trace_of(picture, "test")
    assert trace.y[0] == pytest.approx(np.mean(values), abs=1e-4)
    assert trace.y[0] + trace.error_y.array[0] == pytest.approx(max(values), abs=1e-3)
    assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(min(values), abs=1e-3)
    assert f"{np.mean(values):.2f} %, 10 seeds" in picture.caption


def test_a_failed_seed_is_not_in_the_band_and_the_caption_says_so(new_run):
    writer = new_run(losses=("arcface",))
    writer.trial("arcface", 0, [0.5, 0.6])
    (writer.folder / "winner_arcface.json").write_text(json.dumps({"trial_id": "arcface-0000", "config": {}}))
    for pair, last in enumerate((0.7, 0.9)):
        curve = [{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": last}]
        writer.seed_run("candidate", "arcface", pair, last, trial_id="arcface-0000", curve=curve)
    writer.seed_run("candidate", "arcface", 2, None, trial_id="arcface-0000", curve=[{"epoch": 1, "val_accuracy": 0.1}])
    (picture,) = pictures_of(writer.folder, "curves").values()
    assert list(trace_of(picture, "validation").y) == [50.0, 80.0]
    assert "2 seeds" in picture.caption
    assert "they failed: 1." in picture.caption


def test_epochs_that_not_every_seed_has_are_left_out_of_means(new_run):
    writer = new_run(losses=("arcface",))
    writer.trial("arcface", 0, [0.5])
    (writer.folder / "winner_arcface.json").write_text(json.dumps({"trial_id": "arcface-0000", "config": {}}))
    for pair, length in enumerate((2, 3)):
        curve = [{"epoch": epoch, "val_accuracy": epoch / 10} for epoch in range(1, length + 1)]
        writer.seed_run("candidate", "arcface", pair, 0.5, trial_id="arcface-0000", curve=curve)
    (picture,) = pictures_of(writer.folder, "curves").values()
    assert list(trace_of(picture, "validation").x) == [1, 2]


def test_without_a_confirmation_the_best_trial_is_drawn_as_the_single_run_that_it_is(example_run):
    folder = example_run(seeds=0, study=True)
    run = load_run(folder)
    picture = pictures_of(folder, "curves", "curves-cifar10-softmax")["curves-cifar10-softmax"]
    best = best_trial(run, "softmax")["trial_id"]
    assert best == json.loads((folder / "best_softmax.json").read_text())["trial_id"]
    values = [100 * r["val_accuracy"] for r in searched(folder, "softmax") if r["trial_id"] == best]
    np.testing.assert_allclose(trace_of(picture, "validation", yaxis="y").y, values, atol=1e-4)
    assert "single run" in picture.caption
    assert not [trace for trace in picture.figure.data if "seed" in trace.name]


def test_the_comparison_says_what_each_loss_ends_with(example_run):
    folder = example_run()
    picture = pictures_of(folder, "curves")["curves-cifar10-all"]
    for loss, name in (("arcface", "ArcFace"), ("softmax", "softmax")):
        winner = json.loads((folder / f"winner_{loss}.json").read_text())["trial_id"]
        runs = [r for r in confirmed(folder, "candidate", loss) if r["trial_id"] == winner]
        mean = 100 * np.mean([r["val_accuracy"] for r in runs])
        assert f"{name} {mean:.2f} % (3 seeds)" in picture.caption
        assert trace_of(picture, name, yaxis="y").y[-1] == pytest.approx(mean, abs=1e-4)


# --- Margins ---------------------------------------------------------------------------------------------------------


def test_margins_are_means_over_the_winners_seeds(example_run):
    folder = example_run()
    (picture,) = pictures_of(folder, "margins").values()
    curves = [r["curve"] for r in confirmed(folder, "winner", "adaloss")]
    for name, field in (("applied margin", "margin_rad"), ("raw margin", "margin_raw_rad")):
        values = np.mean([[epoch[field] for epoch in curve] for curve in curves], axis=0)
        np.testing.assert_allclose(trace_of(picture, name).y, values, atol=1e-6)
    applied = np.mean([[epoch["margin_rad"] for epoch in curve] for curve in curves], axis=0)
    assert f"from {applied[0]:.3f} rad in epoch 1 to {applied[-1]:.3f} rad in epoch 16" in picture.caption
    fixed = json.loads((folder / "winner_arcface.json").read_text())["config"]["loss_args"]["margin_rad"]
    assert list(trace_of(picture, "ArcFace, fixed").y) == [pytest.approx(fixed)] * 2


def test_the_map_of_margins_has_a_row_a_class(example_run):
    folder = example_run(dataset="digits", losses=("adaloss_per_class",), seeds=2)
    (picture,) = pictures_of(folder, "margins", "class-margins").values()
    (trace,) = picture.figure.data
    curves = [r["curve"] for r in confirmed(folder, "winner", "adaloss_per_class")]
    values = np.mean([[epoch["margin_per_class_rad"] for epoch in curve] for curve in curves], axis=0)
    np.testing.assert_allclose(trace.z, values.T, atol=1e-4)
    assert list(trace.y) == [str(number) for number in range(10)]


# --- Search ----------------------------------------------------------------------------------------------------------


def step_value(trace, x):
    """The value of a staircase at x."""
    return [y for at, y in zip(trace.x, trace.y, strict=True) if at <= x][-1]


def test_best_so_far_is_the_maximum_up_to_every_epoch(example_run):
    folder = example_run()
    picture = pictures_of(folder, "search")["best-so-far-cifar10"]
    run = load_run(folder)
    for loss, name in (("arcface", "ArcFace"), ("adaloss", "AdaLoss")):
        finished = set(run.trials[(run.trials["loss"] == loss) & (run.trials["state"] == "finished")]["trial_id"])
        last = run.info["settings"]["max_epochs"]
        best_any = best_finished = 0.0
        for spent, epoch in enumerate(searched(folder, loss), start=1):
            best_any = max(best_any, epoch["val_accuracy"] or 0.0)
            any_epoch = step_value(trace_of(picture, f"{name}, any epoch"), spent)
            assert any_epoch == pytest.approx(100 - 100 * best_any, abs=1e-3)
            if epoch["trial_id"] in finished and epoch["epoch"] == last:
                best_finished = max(best_finished, epoch["val_accuracy"])
            if best_finished:
                best = step_value(trace_of(picture, name), spent)
                assert best == pytest.approx(100 - 100 * best_finished, abs=1e-3)
        assert f"{name} {100 * best_finished:.2f} % after {spent} epochs" in picture.caption


@pytest.mark.parametrize("settings", [(1, 16, 3.0), (2, 16, 3.0), (3, 20, 3.0), (1, 8, 2.0), (3, 81, 3), (5, 5, 2.0)])
def test_rungs_are_those_of_the_search(new_run, settings):
    grace, longest, factor = settings
    writer = new_run()
    changed = {"grace_epochs": grace, "max_epochs": longest, "reduction_factor": factor}
    writer.rewrite(settings={**writer.info["settings"], **changed})
    assert tuple(load_run(writer.folder).rung_epochs) == Rungs(grace, longest, factor).milestones


def test_every_trial_lies_where_it_ended(example_run):
    folder = example_run()
    picture = pictures_of(folder, "search")["rungs-cifar10"]
    run = load_run(folder)
    for row, loss in enumerate(run.losses, start=1):
        for state in ("finished", "stopped"):
            trials = run.trials[(run.trials["loss"] == loss) & (run.trials["state"] == state)]
            traces = [t for t in picture.figure.data if t.name == state and axis_number(t) == row]
            drawn = [(x, round(a, 4)) for t in traces for x, a in zip(t.x, accuracies_from(t.y), strict=True)]
            assert sorted(drawn) == sorted(
                zip(trials["epochs"], (round(a, 4) for a in trials["val_accuracy"]), strict=True)
            )
    counts = run.trials["state"].value_counts()
    assert f"{counts['stopped']} were stopped, {counts['failed']} failed and {counts['finished']}" in picture.caption


def test_lengths_count_trials_that_trained_so_far(example_run):
    folder = example_run()
    picture = pictures_of(folder, "search")["survival-cifar10"]
    run = load_run(folder)
    lengths = run.trials[run.trials["loss"] == "adaloss"]["epochs"].tolist()
    trace = trace_of(picture, "AdaLoss")
    assert list(trace.y) == [sum(length >= epoch for length in lengths) for epoch in trace.x]
    assert f"AdaLoss {sum(lengths)} of {16 * len(lengths)}" in picture.caption


def test_many_trials_are_thinned_and_the_caption_says_so(new_run):
    writer = new_run(losses=("softmax",))
    for number in range(70):
        writer.trial("softmax", number, [0.5 + number / 1000])
    picture = pictures_of(writer.folder, "search")["rungs-digits"]
    curves = trace_of(picture, "softmax, curves")
    assert sum(x is None for x in curves.x) == 60
    assert len(trace_of(picture, "finished").x) == 70
    assert "curves of 60 trials" in picture.caption


# --- Paired tests ----------------------------------------------------------------------------------------------------


def test_paired_points_and_lines_are_the_test_accuracies(example_run):
    folder = example_run()
    picture = pictures_of(folder, "paired")["pairs-cifar10-winner"]
    run = load_run(folder)
    arms = run.arms("winner")
    for name, arm in (("ArcFace", "arcface"), ("AdaLoss", "adaloss"), ("softmax", "softmax")):
        values = [100 * r["test_accuracy"] for r in confirmed(folder, "winner", arm)]
        np.testing.assert_allclose(trace_of(picture, name).y, values, atol=1e-4)
        np.testing.assert_allclose(trace_of(picture, f"{name}, mean of 10").y, [np.mean(values)] * 2, atol=1e-4)
    lines = trace_of(picture, "seeds").y
    assert len(lines) == 10 * (len(arms) + 1)
    first = [100 * confirmed(folder, "winner", arm)[0]["test_accuracy"] for arm in arms]
    np.testing.assert_allclose(lines[: len(arms)], first, atol=1e-4)


def test_intervals_are_those_of_the_statistics(example_run):
    folder = example_run()
    picture = pictures_of(folder, "paired")["differences-cifar10"]
    a, b = ([r["test_accuracy"] for r in confirmed(folder, "winner", arm)] for arm in ("adaloss", "arcface"))
    differences = np.array(a) - np.array(b)
    drawn = {name: next(t for t in picture.figure.data if t.name == name) for name in ("seed", "mean", "95 % t")}
    np.testing.assert_allclose(drawn["seed"].x, 100 * differences, atol=1e-4)
    assert drawn["mean"].x[0] == pytest.approx(100 * differences.mean(), abs=1e-4)
    interval = t_interval(differences)
    np.testing.assert_allclose(drawn["95 % t"].x, [100 * interval.low, 100 * interval.high], atol=1e-4)
    bootstrap = bca_interval(differences)
    line = next(t for t in picture.figure.data if t.name == "95 % BCa")
    np.testing.assert_allclose(line.x, [100 * bootstrap.low, 100 * bootstrap.high], atol=1e-4)
    assert f"{100 * differences.mean():+.2f} pp" in picture.caption
    assert ("excludes 0" in picture.caption) == interval.excludes(0.0)


def test_pairs_of_different_seeds_are_not_compared(new_run):
    writer = new_run(losses=("arcface", "adaloss"))
    writer.rewrite(confirmation={"seeds": 2})
    writer.seed_runs("winner", "arcface", [0.8, 0.8])
    writer.seed_run("winner", "adaloss", 0, 0.9)
    writer.seed_run("winner", "adaloss", 1, 0.95, seed=7)
    picture = pictures_of(writer.folder, "paired")["differences-digits"]
    assert list(trace_of(picture, "seed").x) == [pytest.approx(10.0)]


@pytest.mark.parametrize(
    ("dataset", "controls", "are_run"), [("digits", False, False), ("digits", True, True), ("cifar10", False, True)]
)
def test_defaults_that_nobody_asked_for_are_not_waited_for(new_run, dataset, controls, are_run):
    writer = new_run(losses=("arcface", "adaloss"), dataset=dataset)
    writer.rewrite(confirmation={"seeds": 2, "controls": controls})
    writer.seed_runs("winner", "arcface", [0.8, 0.8])
    page = next(page for page in PAGES if page.key == "paired")
    note = next(note for note in page.build(load_findings([writer.folder])).notes if "untuned" in note)
    assert ("has come to its end" in note) == are_run
    assert ("--controls asks for it" in note) != are_run


def test_controls_are_drawn_and_compared_with_adaloss(example_run):
    folder = example_run()
    pictures = pictures_of(folder, "controls")
    adaloss = [r["test_accuracy"] for r in confirmed(folder, "winner", "adaloss")]
    control = [r["test_accuracy"] for r in confirmed(folder, "control", "gate_off")]
    trace = trace_of(pictures["controls-cifar10"], "ungated AdaLoss")
    np.testing.assert_allclose(trace.x, 100 * np.array(control), atol=1e-4)
    means = [t.x[0] for t in pictures["control-differences-cifar10"].figure.data if t.name == "mean"]
    assert len(means) == 6
    assert means[-1] == pytest.approx(100 * (np.mean(adaloss) - np.mean(control)), abs=1e-3)


def test_the_caption_of_the_controls_claims_no_more_than_their_intervals(example_run):
    folder = example_run()
    caption = pictures_of(folder, "controls")["control-differences-cifar10"].caption
    adaloss = np.array([r["test_accuracy"] for r in confirmed(folder, "winner", "adaloss")])
    names = {"mean_margin": "mean-margin ArcFace", "gated": "gated ArcFace", "gate_off": "ungated AdaLoss"}
    for arm, name in names.items():
        control = np.array([r["test_accuracy"] for r in confirmed(folder, "control", arm)])
        assert (name in caption) == t_interval(adaloss - control).excludes(0.0), name


def test_the_highest_mean_of_the_controls_is_everybodys_who_has_it(new_run):
    writer = new_run(losses=("arcface", "adaloss"))
    writer.rewrite(confirmation={"seeds": 2, "controls": True})
    for role, arm in (("winner", "arcface"), ("winner", "adaloss"), ("control", "gated")):
        writer.seed_runs(role, arm, [0.9, 0.9 if arm == "gated" else 1.0])
    caption = pictures_of(writer.folder, "controls")["controls-digits"].caption
    assert "The highest mean, 95.00 %, has AdaLoss and ArcFace;" in caption


def test_each_loss_is_held_against_its_own_controls_alone(new_run):
    writer = new_run(losses=("arcface", "adaloss", "adaloss_relative"))
    writer.rewrite(confirmation={"seeds": 2, "controls": True})
    accuracies = {"arcface": 0.5, "adaloss": 0.7, "adaloss_relative": 0.9}
    for arm, accuracy in accuracies.items():
        writer.seed_runs("winner", arm, [accuracy, accuracy + 0.01])
    writer.seed_runs("control", "gated", [0.6, 0.61])
    writer.seed_runs("control", "adaloss_relative_permuted", [0.8, 0.81])
    pictures = pictures_of(writer.folder, "controls")
    for key, name in (("", "AdaLoss"), ("adaloss_relative-", "relative AdaLoss")):
        picture = pictures[f"control-differences-{key}digits"]
        assert picture.title.lower().startswith(f"{name.lower()} minus each control")
        assert [t.x[0] for t in picture.figure.data if t.name == "mean"] == [pytest.approx(10.0, abs=1e-3)]
    names = " ".join(str(trace.name) for trace in pictures["controls-digits"].figure.data)
    assert all(name in names for name in ("AdaLoss", "relative AdaLoss", "ArcFace"))


# --- Robustness ------------------------------------------------------------------------------------------------------


def test_robustness_counts_draws_that_collapsed_and_failed(new_run):
    writer = new_run(losses=("arcface", "adaloss"))
    writer.rewrite(confirmation={"seeds": 0, "robustness": 4})
    writer.seed_runs("robustness", "arcface", [0.10, 0.15, 0.9, None])
    writer.seed_runs("robustness", "adaloss", [0.16, 0.8, 0.9, 0.7])
    pictures = pictures_of(writer.folder, "robustness")
    collapsed = pictures["collapsed-digits"]
    assert trace_of(collapsed, "ArcFace").x[0] == 75.0
    assert trace_of(collapsed, "AdaLoss").x[0] == 0.0
    assert "ArcFace 3 of 4; AdaLoss 0 of 4" in collapsed.caption
    points = trace_of(pictures["draws-digits"], "ArcFace")
    np.testing.assert_allclose(points.x, [90.0, 85.0, 10.0, 90.0])
    assert "Failed runs, counted at chance: ArcFace 1." in pictures["draws-digits"].caption


def test_the_expected_maximum_begins_at_the_mean_and_ends_at_the_best(example_run):
    folder = example_run(robustness=8, study=True)
    picture = pictures_of(folder, "robustness")["expected-maximum-cifar10"]
    values = [r["val_accuracy"] for r in confirmed(folder, "robustness", "softmax")]
    curve = trace_of(picture, "softmax")
    assert list(curve.x) == list(range(1, 9))
    assert curve.y[0] == pytest.approx(100 * np.mean(values), abs=1e-3)
    assert curve.y[-1] == pytest.approx(100 * max(values), abs=1e-3)
    pairs = [max(a, b) for i, a in enumerate(values) for b in values[i + 1 :]]
    assert curve.y[1] == pytest.approx(100 * np.mean(pairs), abs=1e-3)
    bands = expected_maximum(values, draws=range(1, 9)).bands
    counts = [k for k, band in enumerate(bands, start=1) if band is not None]
    band = trace_of(picture, "softmax, interval")
    assert list(band.x) == counts + counts[::-1]
    assert band.y[0] == pytest.approx(100 * bands[0].high, abs=1e-3)
    assert band.y[-1] == pytest.approx(100 * bands[0].low, abs=1e-3)
    assert "Bands: 95 % bootstrap" in picture.caption


def test_few_draws_have_an_expected_maximum_without_a_band(new_run):
    writer = new_run(losses=("arcface",))
    writer.rewrite(confirmation={"seeds": 0, "robustness": 3})
    writer.seed_runs("robustness", "arcface", [0.7, 0.8, 0.9])
    picture = pictures_of(writer.folder, "robustness")["expected-maximum-digits"]
    assert [trace.name for trace in picture.figure.data] == ["ArcFace"]
    assert "Bands" not in picture.caption
