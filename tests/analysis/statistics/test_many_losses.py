"""A run with all losses: what is compared, how it is corrected, and that the report stays short enough to be read."""

import numpy as np
import pytest

from analysis.arms import BASELINES
from analysis.compare import comparison_markdown, comparison_text
from analysis.findings import load_findings
from search_spaces import SEARCH_SPACES

pytestmark = pytest.mark.usefixtures("no_warning")

LOSSES = sorted(SEARCH_SPACES)
AHEAD = "kappaface"


@pytest.fixture(params=[6, 10])
def found(request, new_run):
    run = new_run("run", LOSSES)
    rng = np.random.default_rng(0)
    for loss in LOSSES:
        shift = 0.02 if loss == AHEAD else 0.0
        run.seed_runs("winner", loss, 0.9 + shift + rng.normal(0, 0.002, request.param))
    return load_findings([run.folder])


def test_each_question_has_its_family(found):
    families = {verdict.kind: verdict.family for verdict in found[0].verdicts}
    margins = len(LOSSES) - len(BASELINES)
    assert families == {"primary": margins - 1, "baseline": 2 * margins}
    assert found[0].run.reference == "arcface"


def test_a_difference_is_found_among_many_only_where_the_seeds_suffice(found):
    (verdict,) = [v for v in found[0].main_verdicts if v.first == AHEAD]
    if verdict.result.n == 10:
        assert verdict.decision == "better"
        assert verdict.p_holm == pytest.approx(12 * 2**-9)
    else:
        assert verdict.decision == "inconclusive"
        assert any(note.startswith("among 12 comparisons, 6 seeds cannot") for note in verdict.notes)


def test_the_one_that_is_ahead_ranks_first(found):
    ranking = found[0].ranking
    assert ranking.ranks[0].loss == AHEAD
    assert ranking.ranks[0].won == 1.0
    assert ranking.p < 0.05
    assert len(ranking.ranks) == len(LOSSES)
    assert np.mean([rank.mean_rank for rank in ranking.ranks]) == pytest.approx((len(LOSSES) + 1) / 2)


def test_a_remark_on_all_is_made_once(found):
    text, markdown = comparison_text(found), comparison_markdown(found)
    for shown in (text, markdown):
        assert shown.count("BCa bootstrap") == 0
        assert shown.count("6 seeds cannot show a difference") == (2 if found[0].verdicts[0].result.n == 6 else 0)
        assert shown.count(": equivalent") + shown.count("inconclusive") >= 10
