"""How losses rank: against loops, SciPy's Friedman test, and every permutation where they are few."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare

from analysis.compare import comparison_csv, comparison_markdown, comparison_text
from analysis.findings import findings, load_findings
from analysis.loading import load_run
from analysis.report.export import as_plain
from analysis.statistics.ranks import friedman_p, ranking, ranks_by_seed
from analysis.statistics.verdict import verdicts

pytestmark = pytest.mark.usefixtures("no_warning")

tables = st.integers(2, 6).flatmap(
    lambda k: st.lists(
        st.lists(st.sampled_from([0.9, 0.91, 0.92, 0.95]), min_size=k, max_size=k), min_size=2, max_size=6
    )
)


def looped_ranks(row):
    """A loss's rank: one more than those that are better, and half of the others that are level."""
    return [1 + sum(b > a for b in row) + (sum(b == a for b in row) - 1) / 2 for a in row]


@given(tables)
def test_ranks_agree_with_a_loop(table):
    assert ranks_by_seed(table).tolist() == [looped_ranks(row) for row in table]


def test_a_difference_by_rounding_alone_is_a_tie():
    assert ranks_by_seed([[0.1 + 0.2, 0.3, 0.1]]).tolist() == [[1.5, 1.5, 3.0]]


@pytest.mark.parametrize(
    "table", [[[3, 2, 1], [3, 1, 2], [3, 2, 1]], [[1, 2, 3], [3, 2, 1], [2, 3, 1]], [[1, 1, 2]] * 3]
)
def test_friedmans_p_is_that_of_all_permutations(table):
    ranks = [looped_ranks(row) for row in table]

    def statistic(rows):
        return sum((sum(column) - len(table) * 2) ** 2 for column in zip(*rows, strict=True))

    every = [statistic(rows) for rows in itertools.product(*(itertools.permutations(row) for row in ranks))]
    exact = np.mean([value >= statistic(ranks) for value in every])
    assert friedman_p(table) == pytest.approx(exact, abs=0.015)


def test_friedmans_p_is_scipys_for_many_seeds():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, 0.5):
        table = rng.normal(size=(40, 5)) + shift * np.arange(5) / 4
        assert friedman_p(table) == pytest.approx(friedmanchisquare(*table.T).pvalue, abs=0.02)


def test_friedmans_p_is_that_of_no_difference_where_there_is_none():
    rng = np.random.default_rng(1)
    p = [friedman_p(rng.normal(size=(6, 4)), seed=seed) for seed in range(60)]
    assert 0.3 < np.mean(p) < 0.7
    assert friedman_p([[1.0, 1.0, 1.0]] * 5) == 1.0


@pytest.fixture
def ranked(new_run):
    def rank(reference="arcface", **accuracies):
        run = new_run("run", tuple(accuracies))
        for loss, values in accuracies.items():
            run.seed_runs("winner", loss, values)
        loaded = load_run(run.folder)
        return ranking(loaded.against(reference), verdicts([loaded.against(reference)]))

    return rank


FOUR = {
    "arcface": [0.90, 0.91, 0.92, 0.93, 0.90, 0.91, 0.92],
    "cosface": [0.95, 0.96, 0.95, 0.96, 0.95, 0.96, 0.95],
    "softmax": [0.90, 0.90, 0.96, 0.90, 0.90, 0.90, 0.90],
    "adaloss": [0.95, 0.94, 0.95, 0.94, 0.95, 0.94, 0.95],
}


def test_the_table_of_losses(ranked):
    found = ranked(**FOUR)
    assert [rank.loss for rank in found.ranks] == ["cosface", "adaloss", "arcface", "softmax"]
    expected = np.mean([looped_ranks(row) for row in zip(*FOUR.values(), strict=True)], axis=0)
    assert {rank.loss: rank.mean_rank for rank in found.ranks} == pytest.approx(dict(zip(FOUR, expected, strict=True)))
    won = {rank.loss: rank.won for rank in found.ranks}
    # Seeds 0, 4 and 6 are shared by two, seed 2 is softmax's.
    assert won == pytest.approx({"cosface": 4.5 / 7, "adaloss": 1.5 / 7, "softmax": 1 / 7, "arcface": 0.0})
    assert sum(won.values()) == pytest.approx(1)
    by_loss = {rank.loss: rank for rank in found.ranks}
    assert by_loss["cosface"].difference == pytest.approx(np.mean(FOUR["cosface"]) - np.mean(FOUR["arcface"]))
    assert (by_loss["arcface"].difference, by_loss["arcface"].p_holm) == (None, None)
    assert by_loss["cosface"].decision == "better"
    assert by_loss["cosface"].p_holm == pytest.approx(2 * 2 / 2**7)  # of two primary comparisons
    assert found.p == friedman_p(np.transpose(list(FOUR.values())))
    assert [by_loss[loss].group for loss in FOUR] == ["peer", "peer", "baseline", "ours"]


def test_only_seeds_that_all_have_are_ranked_and_a_failed_run_is_at_chance(ranked):
    found = ranked(arcface=[0.9, 0.9, 0.9], cosface=[0.8, None], softmax=[0.7, 0.7, 0.7])
    assert found.pairs == (0, 1)
    assert {rank.loss: rank.mean_rank for rank in found.ranks} == {"arcface": 1.0, "cosface": 2.5, "softmax": 2.5}


@pytest.mark.parametrize(
    "accuracies",
    [{"arcface": [0.9] * 6, "adaloss": [0.9] * 6}, {"arcface": [0.9], "adaloss": [], "softmax": []}],
)
def test_two_losses_have_no_ranking(ranked, accuracies):
    assert ranked(**accuracies) is None


def test_a_single_seed_has_ranks_and_no_p(ranked):
    found = ranked(arcface=[0.9], adaloss=[0.8], softmax=[0.7])
    assert found.p is None
    assert [rank.mean_rank for rank in found.ranks] == [1, 2, 3]


@pytest.fixture
def four(new_run):
    run = new_run("run", tuple(FOUR))
    for loss, values in FOUR.items():
        run.seed_runs("winner", loss, values)
    return run.folder


def test_the_ranking_is_in_every_output(four):
    found = load_findings([four])
    text, markdown = comparison_text(found), comparison_markdown(found)
    assert "mean rank" in text
    assert "Friedman's test by permutation" in text
    row = next(line for line in markdown.splitlines() if line.startswith("| CosFace | peer |"))
    assert "64 %" in row
    plain = as_plain(found[0])["confirmation"]["ranking"]
    assert [rank["loss"] for rank in plain["ranks"]] == ["cosface", "adaloss", "arcface", "softmax"]
    assert ",rank,cosface,mean_rank,1.4285714285714286" in comparison_csv(found)


def test_findings_of_two_losses_say_nothing_of_ranks(four):
    (found,) = findings([load_run(four)])
    assert "mean rank" not in comparison_text([replace(found, ranking=None)])
