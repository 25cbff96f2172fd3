import numpy as np
import pytest

from analysis.loading import load_run
from analysis.statistics.generality import over_seeds_and_images
from analysis.statistics.stats import seeds_for_half_width, seeds_for_power
from analysis.statistics.verdict import equivalence_bound, verdicts
from tests.analysis.conftest import run_of
from tune.records import write_json

pytestmark = pytest.mark.usefixtures("no_warning")


@pytest.fixture
def judged(new_run):
    """Writes a run from accuracies by arm, None for a failed seed, and returns its verdicts by (first, second)."""

    def judge(dataset="cifar10", *, controls=None, name="run", losses=("arcface", "adaloss"), **arms):
        run = new_run(name, losses, dataset=dataset)
        for arm, accuracies in arms.items():
            run.seed_runs("winner", arm, accuracies)
        for arm, accuracies in (controls or {}).items():
            run.seed_runs("control", arm, accuracies)
        return {(v.first, v.second): v for v in verdicts([load_run(run.folder)])}

    return judge


def spread(n, mean, sd, seed=0):
    """n numbers with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


ARCFACE = np.full(10, 0.9)
PRIMARY = ("adaloss", "arcface")


# --- The decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean_pp", "sd_pp", "decision"),
    [
        (1.0, 0.5, "better"),
        (-1.0, 0.5, "worse"),
        (0.05, 0.2, "equivalent"),
        (-0.05, 0.2, "equivalent"),
        (0.0, 1.0, "inconclusive"),
        (0.4, 0.9, "inconclusive"),
    ],
)
def test_the_decision_follows_from_mean_and_spread(judged, mean_pp, sd_pp, decision):
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, mean_pp, sd_pp) / 100)[PRIMARY]
    assert verdict.decision == decision
    assert verdict.kind == "primary"
    assert verdict.result.mean == pytest.approx(mean_pp / 100)
    assert verdict.p_holm == verdict.result.p
    assert verdict.first_accuracy - verdict.second_accuracy == pytest.approx(mean_pp / 100)
    assert f"epochs: {decision}" in verdict.sentence


def test_the_sentence_is_that_of_the_protocol(judged):
    differences = np.array([0.2, 0.3, 0.1, 0.5, 0.4, 0.6, 0.3, 0.2, 0.7, -0.1]) / 100
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + differences)[PRIMARY]
    assert verdict.sentence == (
        "AdaLoss - ArcFace = +0.32 pp [0.15, 0.49], p_holm 0.006, P(A>B) 0.90, n 10, 4 trials x 3 epochs: better"
    )


@pytest.mark.parametrize(
    ("dataset", "bound_pp"), [("mnist", 0.1), ("fashion_mnist", 0.1), ("cifar10", 0.3), ("my/own", 0.3)]
)
def test_how_small_is_too_small_depends_on_the_data_set(judged, dataset, bound_pp):
    assert equivalence_bound(dataset) == pytest.approx(bound_pp / 100)
    inside = judged(dataset, arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.0, bound_pp) / 100)[PRIMARY]
    assert inside.decision == "equivalent"
    assert inside.sentence.endswith(f"equivalent (within +-{bound_pp:g} pp)")
    wider = judged(dataset, name="b", arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.0, 1.6 * bound_pp) / 100)[PRIMARY]
    assert wider.decision == "inconclusive"


def test_a_difference_that_is_sure_and_does_not_matter_is_equivalent_and_said(judged):
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.1, 0.05) / 100)[PRIMARY]
    assert verdict.p_holm < 0.05
    assert verdict.decision == "equivalent"
    assert verdict.notes == ("AdaLoss is ahead (p_holm 0.002), by less than the 0.3 pp that matter",)


def test_a_mean_that_hangs_on_few_seeds_is_no_difference(judged):
    """All pairs point one way, but one is so large that the interval holds 0."""
    differences = np.array([0.01] * 9 + [30.0]) / 100
    verdict = judged(arcface=np.full(10, 0.5), adaloss=0.5 + differences)[PRIMARY]
    assert verdict.p_holm < 0.05
    assert not verdict.result.t_interval.excludes(0.0)
    assert verdict.decision == "inconclusive"
    assert any("a few seeds differ much" in note for note in verdict.notes)


def test_identical_accuracies_are_equivalent(judged):
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE)[PRIMARY]
    assert (verdict.decision, verdict.result.p, verdict.result.superiority.share) == ("equivalent", 1.0, 0.5)
    assert any("no width" in note for note in verdict.notes)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("mean_pp", [0.0, 0.05, 5.0])
def test_fewer_than_six_seeds_decide_nothing(judged, n, mean_pp):
    sd_pp = 0.01 if n > 1 else 0.0
    differences = spread(n, mean_pp, sd_pp) if n > 1 else np.array([mean_pp])
    verdict = judged(arcface=ARCFACE[:n], adaloss=ARCFACE[:n] + differences / 100)[PRIMARY]
    assert verdict.decision == "inconclusive"
    assert verdict.seeds_needed >= 6
    assert any("can never show a difference" in note for note in verdict.notes)
    assert ("[" in verdict.sentence) == (n > 1)


def test_six_seeds_can_decide(judged):
    verdict = judged(arcface=ARCFACE[:6], adaloss=ARCFACE[:6] + spread(6, 1.0, 0.2) / 100)[PRIMARY]
    assert (verdict.decision, verdict.p_holm) == ("better", 0.03125)


# --- Seeds needed ----------------------------------------------------------------------------------------------------


def test_so_many_seeds_would_find_the_difference(judged):
    """Mean 0.5, sd 0.8: 80 % power needs 23 seeds by the tables of the paired t test."""
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.5, 0.8) / 100)[PRIMARY]
    assert verdict.seeds_needed == 23
    assert verdict.sentence.endswith("inconclusive (about 23 seeds needed)")


def test_so_many_seeds_would_show_equivalence(judged):
    """Mean 0, sd 0.6: the interval is as narrow as +-0.3 with 18 seeds."""
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.0, 0.6) / 100)[PRIMARY]
    assert verdict.seeds_needed == 18


def test_equivalence_needs_more_seeds_the_nearer_the_mean_is_to_the_bound(judged):
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.1, 0.6) / 100)[PRIMARY]
    assert verdict.seeds_needed == seeds_for_half_width(0.6, 0.2) > 30


def test_more_comparisons_need_more_seeds():
    alone = run_of("one", arcface=ARCFACE, adaloss=ARCFACE + spread(10, 0.5, 0.8) / 100)
    other = run_of("two", arcface=ARCFACE, adaloss=ARCFACE)
    assert verdicts([alone])[0].seeds_needed == 23
    assert verdicts([alone, other])[0].seeds_needed == seeds_for_power(0.5, 0.8, level=0.975) > 23


def test_where_so_many_seeds_should_have_done_one_more_is_asked_for():
    """Nine of ten pairs agree by far: enough for the t test among 19 comparisons, not for the sign flips."""
    differences = np.array([0.9, 1.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 1.1, -0.05]) / 100
    runs = [run_of("one", arcface=ARCFACE, adaloss=ARCFACE + differences)]
    runs += [run_of(f"other-{i}", arcface=ARCFACE, adaloss=ARCFACE) for i in range(18)]
    first = verdicts(runs)[0]
    assert (first.family, first.decision) == (19, "inconclusive")
    assert seeds_for_power(first.result.mean, first.result.sd, level=1 - 0.05 / 19) <= 10
    assert first.seeds_needed == 11


def test_one_seed_says_nothing_about_how_many_are_needed(judged):
    verdict = judged(arcface=[0.9], adaloss=[0.95])[PRIMARY]
    assert verdict.sentence.endswith("n 1, 4 trials x 3 epochs: inconclusive (at least 6 seeds needed)")


def test_a_number_of_seeds_beyond_reach_is_not_given(judged):
    # The mean is just the bound: neither a difference of this spread nor equivalence is near.
    verdict = judged(arcface=np.full(10, 0.5), adaloss=0.5 + spread(10, 0.3, 25) / 100)[PRIMARY]
    assert verdict.seeds_needed is None
    assert verdict.sentence.endswith("inconclusive (more than 10,000 seeds needed)")


@pytest.mark.parametrize("mean_pp", [0.0, 0.1, 0.25, 0.3, 0.5, 3.0])
@pytest.mark.parametrize("n", [2, 5, 6, 12])
def test_an_inconclusive_verdict_never_asks_for_seeds_that_are_there(judged, n, mean_pp):
    base = np.full(n, 0.9)
    verdict = judged(arcface=base, adaloss=base + spread(n, mean_pp, 1.0) / 100)[PRIMARY]
    if verdict.decision == "inconclusive":
        assert verdict.seeds_needed > n
    else:
        assert verdict.seeds_needed is None


# --- What seeds there are --------------------------------------------------------------------------------------------


def test_failed_seeds_count_at_chance_and_are_counted(judged):
    verdict = judged(arcface=[0.9] * 7 + [None] * 3, adaloss=[0.9] * 10)[PRIMARY]
    assert verdict.differences == pytest.approx([0.0] * 7 + [0.8] * 3)
    assert "3 of 10 runs of ArcFace failed and count at chance, 10.00 %" in verdict.notes
    assert verdict.decision == "inconclusive"


def test_where_every_run_failed_nothing_is_equivalent(judged):
    verdict = judged(arcface=[None] * 8, adaloss=[None] * 8)[PRIMARY]
    assert verdict.result.mean == 0.0
    assert verdict.decision == "inconclusive"
    assert verdict.sentence.endswith("inconclusive (every run failed)")


def test_a_loss_that_always_fails_is_worse(judged):
    verdict = judged(arcface=spread(10, 0.9, 0.01), adaloss=[None] * 10)[PRIMARY]
    assert verdict.decision == "worse"


def test_unequal_seeds_are_paired_where_both_have_one(judged):
    verdict = judged(arcface=[0.9] * 8, adaloss=[0.91] * 10)[PRIMARY]
    assert verdict.pairs == tuple(range(8))
    assert "AdaLoss has 10 seeds and ArcFace has 8 seeds; the 8 that both have are compared" in verdict.notes


def test_pairs_are_matched_by_index_whatever_the_order(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    for pair in (2, 0, 1):
        run.seed_run("winner", "arcface", pair, 0.1 * pair + 0.1)
    for pair in (1, 5, 2, 0):
        run.seed_run("winner", "adaloss", pair, 0.1 * pair + 0.2)
    (verdict,) = verdicts([load_run(run.folder)])
    assert verdict.pairs == (0, 1, 2)
    assert verdict.differences == pytest.approx([0.1] * 3)


def test_a_pair_of_different_seeds_is_no_pair(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_runs("winner", "arcface", [0.9] * 3)
    run.seed_runs("winner", "adaloss", [0.91] * 2)
    run.seed_run("winner", "adaloss", 2, 0.99, seed=77)
    (verdict,) = verdicts([load_run(run.folder)])
    assert verdict.pairs == (0, 1)
    assert "1 pairs are left out: their two sides had different seeds" in verdict.notes


def test_without_a_common_seed_there_is_a_verdict_that_says_so(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_run("winner", "arcface", 0)
    run.seed_run("winner", "adaloss", 1)
    (verdict,) = verdicts([load_run(run.folder)])
    assert (verdict.result, verdict.p_holm, verdict.first_accuracy, verdict.pairs) == (None, None, None, ())
    assert verdict.decision == "inconclusive"
    assert "no seed in common yet" in verdict.sentence


def test_a_confirmation_under_way_says_how_far_it_is(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.rewrite(confirmation={"seeds": 10, "history": []})
    run.seed_runs("winner", "arcface", [0.9] * 4)
    run.seed_runs("winner", "adaloss", [0.9] * 4)
    (verdict,) = verdicts([load_run(run.folder)])
    assert "n 4 of 10," in verdict.sentence


def test_seeds_of_an_earlier_winner_do_not_count(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.seed_runs("winner", "arcface", [0.9] * 6)
    for number, accuracy in ((1, 0.5), (2, 0.95)):
        for pair in range(6):
            run.seed_run(
                "winner", "adaloss", pair, accuracy, run_id=f"{number}-{pair}", trial_id=f"adaloss-000{number}"
            )
    write_json(run.folder / "winner_adaloss.json", {"trial_id": "adaloss-0001", "config": {}})
    (verdict,) = verdicts([load_run(run.folder)])
    assert verdict.first_accuracy == pytest.approx(0.5)


# --- Which comparisons, and Holm -------------------------------------------------------------------------------------


def test_every_comparison_that_the_protocol_asks_for(judged):
    five = ("arcface", "adaloss", "softmax", "adaloss_per_class", "norm_softmax")
    found = judged(
        losses=five,
        controls={arm: [0.9] * 6 for arm in ("gated", "gate_off", "mean_margin")},
        **{loss: [0.9] * 6 for loss in five},
    )
    assert [(v.kind, *pair) for pair, v in found.items()] == [
        ("primary", "adaloss", "arcface"),
        ("primary", "adaloss_per_class", "arcface"),
        ("baseline", "adaloss", "softmax"),
        ("baseline", "adaloss_per_class", "softmax"),
        ("baseline", "arcface", "softmax"),
        ("baseline", "adaloss", "norm_softmax"),
        ("baseline", "adaloss_per_class", "norm_softmax"),
        ("baseline", "arcface", "norm_softmax"),
        ("control", "adaloss", "mean_margin"),
        ("control", "adaloss", "gated"),
        ("control", "adaloss", "gate_off"),
    ]
    assert {v.kind: v.family for v in found.values()} == {"primary": 2, "baseline": 6, "control": 3}


def test_the_controls_of_each_loss_are_a_question_of_their_own(judged):
    three = ("arcface", "adaloss", "adaloss_relative")
    control = "adaloss_relative_permuted"
    found = judged(
        losses=three,
        controls={arm: [0.9] * 6 for arm in ("gated", "gate_off", control)},
        **{loss: [0.9] * 6 for loss in three},
    )
    assert {pair: v.family for pair, v in found.items() if v.kind == "control"} == {
        ("adaloss", "gated"): 2,
        ("adaloss", "gate_off"): 2,
        ("adaloss_relative", control): 1,
    }


@pytest.mark.parametrize(
    ("losses", "pairs"),
    [
        (("arcface", "softmax"), [("arcface", "softmax")]),
        (("adaloss", "softmax"), [("adaloss", "softmax")]),
        (("adaloss",), []),
        (("softmax",), []),
        ((), []),
    ],
)
def test_what_there_is_is_compared(judged, losses, pairs):
    found = judged(losses=("arcface", "adaloss", "softmax"), **{loss: [0.9] * 6 for loss in losses})
    assert list(found) == pairs


def test_p_is_corrected_over_all_data_sets_that_answer_the_same_question(new_run):
    runs = []
    for name, mean_pp in (("one", 1.0), ("two", 0.35), ("three", 0.0)):
        run = new_run(name, ("arcface", "adaloss", "softmax"))
        run.seed_runs("winner", "arcface", ARCFACE)
        run.seed_runs("winner", "softmax", ARCFACE)
        run.seed_runs("winner", "adaloss", ARCFACE + spread(10, mean_pp, 0.4, seed=len(name)) / 100)
        runs.append(load_run(run.folder))
    primary = [v for v in verdicts(runs) if v.kind == "primary"]
    p = [v.result.p for v in primary]
    assert [v.family for v in primary] == [3] * 3
    order = sorted(range(3), key=p.__getitem__)
    expected, running = {}, 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (3 - rank) * p[place]))
        expected[place] = running
    assert [v.p_holm for v in primary] == pytest.approx([expected[i] for i in range(3)])
    (alone,) = [v for v in verdicts(runs[:1]) if v.kind == "primary"]
    assert alone.p_holm == alone.result.p


def test_too_many_comparisons_for_so_few_seeds_are_named(judged):
    """Six seeds give p = 0.031 at best; among two comparisons that is 0.0625."""
    rivals = {"arcface": [0.9] * 6, "softmax": [0.9] * 6}
    found = judged(losses=("arcface", "adaloss", "softmax"), adaloss=0.95 + spread(6, 0, 0.1) / 100, **rivals)
    assert found[PRIMARY].decision == "better"
    baseline = found["adaloss", "softmax"]
    assert baseline.decision == "inconclusive"
    assert "among 2 comparisons, 6 seeds cannot show a difference: p_holm is 0.062 at best" in baseline.notes
    assert "alone it would be a difference (p 0.031), among 2 it is not" in baseline.notes
    assert baseline.seeds_needed == 7


def test_a_run_that_is_planned_with_too_few_seeds_to_decide_takes_nothing_from_others(new_run):
    """Its comparisons can never come out, so no error is made by them; they are corrected among themselves."""
    rng, runs = np.random.default_rng(0), []
    for name, planned, seeds in (("mnist", 10, 10), ("cifar10", 10, 3), ("draws", 1, 1)):
        run = new_run(name, ("arcface", "adaloss", "adaloss_per_class"), dataset=name)
        run.rewrite(confirmation={"seeds": planned, "history": []})
        for loss in run.info["settings"]["losses"]:
            run.seed_runs("winner", loss, rng.normal(0.9, 0.01, seeds))
        runs.append(load_run(run.folder))
    together, without = verdicts(runs), verdicts(runs[:2])
    assert together[:4] == without
    assert [v.family for v in together] == [4, 4, 4, 4, 2, 2]  # seeds that are still to come count as planned
    assert {v.decision for v in together[4:]} == {"inconclusive"}


# --- Beyond the seeds and images at hand ------------------------------------------------------------------------------


def test_the_interval_for_other_images_is_that_of_the_images_on_record(example_run):
    run = load_run(example_run())
    found = {(v.kind, v.first, v.second): v for v in verdicts([run])}
    for kind, second, role in (("primary", "arcface", "winner"), ("control", "gated", "control")):
        verdict = found[kind, "adaloss", second]
        correct = run.correct_images("winner", "adaloss"), run.correct_images(role, second)
        assert verdict.images_too == over_seeds_and_images(*correct)
        assert verdict.images_too.mean == pytest.approx(verdict.result.mean)
        assert verdict.images_too.images == 10_000
        assert verdict.correlation == pytest.approx(np.corrcoef(*(arm.mean(axis=1) for arm in correct))[0, 1])


def test_without_images_on_record_there_is_none(judged):
    verdict = judged(arcface=ARCFACE, adaloss=ARCFACE + spread(10, 1.0, 0.5) / 100)[PRIMARY]
    assert verdict.images_too is None
    assert verdict.correlation is None  # ArcFace never changes
