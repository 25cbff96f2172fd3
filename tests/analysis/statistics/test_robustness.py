import pytest

from analysis.loading import load_run
from analysis.statistics.robustness import collapse_bound, robustness
from analysis.statistics.stats import expected_maximum


@pytest.fixture
def drawn(new_run):
    """Writes random draws, accuracies by arm, and returns what they say."""

    def draw(**arms):
        run = new_run("run", ("arcface", "adaloss", "softmax"))
        for arm, accuracies in arms.items():
            run.seed_runs("robustness", arm, accuracies)
        return robustness(load_run(run.folder))

    return draw


@pytest.mark.parametrize(("classes", "bound"), [(2, 0.55), (3, 0.4), (10, 0.15), (100, 0.015)])
def test_what_counts_as_collapsed(classes, bound):
    assert collapse_bound(1 / classes) == pytest.approx(bound)
    assert 1 / classes < collapse_bound(1 / classes) < 1


def test_an_arm_is_its_distribution(drawn):
    accuracies = [0.1, 0.9, 0.8, None, 0.149, 0.5, 0.7, 0.6]
    (arm,) = drawn(arcface=accuracies).arms
    assert (arm.arm, arm.draws, arm.failed, arm.collapsed) == ("arcface", 8, 1, 3)
    assert arm.best == 0.9
    assert arm.median == pytest.approx(0.55)
    assert arm.lower_quartile < arm.median < arm.upper_quartile
    assert arm.expected == expected_maximum([0.1 if a is None else a for a in accuracies])
    assert arm.expected.draws == (1, 2, 4, 8)


def test_arms_are_compared_draw_by_draw(drawn):
    found = drawn(arcface=[0.1, None, 0.8, 0.1, 0.1], adaloss=[0.7, 0.7, 0.7, 0.1, 0.8], gated=[0.7] * 5)
    by_pair = {(d.first, d.second): d for d in found.differences}
    assert list(by_pair) == [("adaloss", "arcface"), ("adaloss", "gated"), ("gated", "arcface")]
    difference = by_pair["adaloss", "arcface"]
    assert difference.result.n == 5
    assert difference.result.mean == pytest.approx((0.6 + 0.6 - 0.1 + 0.0 + 0.7) / 5)
    assert difference.median == pytest.approx(0.6)
    # Collapsed: ArcFace alone in draws 0, 1 and 4; both in draw 3. McNemar's exact p is 2 / 2^3.
    assert (difference.only_first_collapsed, difference.only_second_collapsed) == (0, 3)
    assert difference.collapse_p == pytest.approx(0.25)


def test_draws_that_only_one_arm_has_are_not_compared(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_run("robustness", "arcface", 0, 0.5)
    run.seed_run("robustness", "adaloss", 1, 0.6)
    found = robustness(load_run(run.folder))
    assert [arm.draws for arm in found.arms] == [1, 1]
    assert found.differences == ()


def test_without_draws_there_is_nothing(new_run):
    assert robustness(load_run(new_run().folder)) is None


def test_how_often_tuning_with_few_draws_finds_the_other_one_ahead(drawn):
    (difference,) = drawn(arcface=[0.5, 0.6, 0.9, 0.2], adaloss=[0.7, 0.7, 0.7, 0.7]).differences
    assert difference.best_of == (1, 2)
    assert difference.ahead == pytest.approx((0.75, 0.5))  # of the 6 pairs of ArcFace's draws 3 hold its best


def test_how_well_a_rung_foretells_the_end(new_run):
    run = new_run("run", ("arcface",))
    for pair, (early, final) in enumerate([(0.3, 0.9), (0.2, 0.8), (0.1, 0.5), (0.4, 0.7), (None, None)]):
        curve = [] if early is None else [{"epoch": 1, "val_accuracy": early}, {"epoch": 3, "val_accuracy": final}]
        run.seed_run("robustness", "arcface", pair, final, curve=curve)
    (foresight,) = robustness(load_run(run.folder)).foresight
    assert (foresight.arm, foresight.epoch, foresight.draws) == ("arcface", 1, 5)
    assert foresight.rank_correlation == pytest.approx(0.7)  # ranks 4 3 2 5 1 and 5 4 2 3 1
