import math

import pytest

from analysis.loading import load_run
from analysis.statistics.convergence import convergence
from tune.records import write_json

pytestmark = pytest.mark.usefixtures("no_warning")


@pytest.fixture
def measured(new_run):
    """Writes candidate runs of chosen configurations, their accuracies by epoch and seed; returns the speed."""

    def measure(dataset="digits", seconds=2.0, **losses):
        run = new_run("run", tuple(losses), dataset=dataset)
        for loss, curves in losses.items():
            trial_id = f"{loss}-0001"
            write_json(run.folder / f"winner_{loss}.json", {"trial_id": trial_id, "config": {}})
            for pair, curve in enumerate(curves):
                epochs = [{"epoch": e, "val_accuracy": a, "seconds": seconds} for e, a in enumerate(curve, start=1)]
                last = curve[-1] if curve else None
                run.seed_run("candidate", loss, pair, last, trial_id=trial_id, curve=epochs)
        return convergence(load_run(run.folder))

    return measure


def at(speed, threshold, loss=None):
    """Arrivals of a loss, or leads, at a threshold."""
    rows = speed.arrivals if loss else speed.leads
    (row,) = [r for r in rows if math.isclose(r.threshold, threshold) and (loss is None or r.loss == loss)]
    return row


SLOW = [0.5, 0.8, 0.91, 0.93, 0.96]
FAST = [0.8, 0.92, 0.955, 0.96, 0.99]


def test_the_first_epoch_at_the_threshold_counts(measured):
    speed = measured(arcface=[SLOW, [0.95, 0.5, 0.5]], adaloss=[FAST, FAST])
    assert not speed.derived
    arrival = at(speed, 0.9, "adaloss")
    assert (arrival.seeds, arrival.reached, arrival.epochs, arrival.seconds) == (2, 2, 2.0, 4.0)
    assert at(speed, 0.95, "arcface").epochs == 3.0  # the median of 5 and 1
    lead = at(speed, 0.9)
    assert (lead.first, lead.second, lead.pairs) == ("adaloss", "arcface", 2)
    assert (lead.epochs, lead.seconds) == (0.0, 0.0)  # 2 - 3 and 2 - 1


def test_leads_are_paired_by_seed(measured):
    speed = measured(arcface=[SLOW, FAST], adaloss=[FAST, [0.92]])
    lead = at(speed, 0.9)
    assert lead.epochs == pytest.approx(-1.0)
    assert lead.epochs_interval.low == lead.epochs_interval.high == pytest.approx(-1.0)
    assert lead.seconds == pytest.approx(-2.0)


def test_a_seed_that_never_arrives_is_longer_than_any_and_in_no_difference(measured):
    speed = measured(arcface=[SLOW, [0.3] * 5, [0.3] * 5], adaloss=[FAST, FAST, [0.2] * 5])
    arrival = at(speed, 0.9, "arcface")
    assert (arrival.reached, arrival.epochs, arrival.seconds) == (1, None, None)
    assert at(speed, 0.9, "adaloss").epochs == 2.0
    lead = at(speed, 0.9)
    assert (lead.pairs, lead.only_first, lead.only_second) == (1, 1, 0)
    assert (lead.epochs, lead.epochs_interval) == (-1.0, None)
    nowhere = at(speed, 0.98)
    assert (nowhere.pairs, nowhere.only_first, nowhere.epochs, nowhere.seconds) == (0, 2, None, None)


def test_a_failed_run_never_arrives(measured):
    arrival = at(measured(arcface=[SLOW, []], adaloss=[FAST, FAST]), 0.9, "arcface")
    assert (arrival.seeds, arrival.reached, arrival.epochs) == (2, 1, None)


def test_epochs_without_a_number_are_passed_over(measured):
    speed = measured(arcface=[[None, 0.91]], adaloss=[[0.95]])
    assert at(speed, 0.9, "arcface").epochs == 2.0


def test_without_times_epochs_remain(measured):
    speed = measured(seconds=None, arcface=[SLOW, SLOW], adaloss=[FAST, FAST])
    arrival, lead = at(speed, 0.9, "arcface"), at(speed, 0.9)
    assert (arrival.epochs, arrival.seconds) == (3.0, None)
    assert (lead.epochs, lead.seconds, lead.seconds_interval) == (-1.0, None, None)


def test_thresholds_are_fixed_for_known_data_sets(measured):
    speed = measured("mnist", arcface=[[0.985]])
    assert [arrival.threshold for arrival in speed.arrivals] == [0.98, 0.99, 0.995]
    assert speed.leads == ()


@pytest.mark.parametrize("dataset", ["my/own", "mnist"])
def test_elsewhere_and_where_none_is_reached_the_lowest_final_accuracy_sets_them(measured, dataset):
    speed = measured(dataset, arcface=[[0.3, 0.5]], adaloss=[[0.55, 0.6]])
    assert speed.derived
    assert sorted({arrival.threshold for arrival in speed.arrivals}) == pytest.approx([0.45, 0.475, 0.495])
    assert at(speed, 0.475, "arcface").epochs == 2.0
    assert at(speed, 0.475, "adaloss").epochs == 1.0


def test_a_loss_that_collapsed_sets_no_threshold(measured):
    speed = measured("my/own", arcface=[[0.1, 0.1]], adaloss=[[0.55, 0.6]])
    assert min(arrival.threshold for arrival in speed.arrivals) == pytest.approx(0.54)


def test_where_all_collapsed_there_is_no_speed(measured):
    assert measured("my/own", arcface=[[0.1, 0.1]], adaloss=[[0.1, 0.12]]) is None


def test_without_candidate_runs_there_is_no_speed(new_run):
    run = new_run()
    run.seed_runs("winner", "arcface", [0.9, 0.9])
    assert convergence(load_run(run.folder)) is None
