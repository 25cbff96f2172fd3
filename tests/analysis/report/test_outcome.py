"""What a study is said to have come to: for every outcome the words that it has, and none that it has not."""

import itertools
import re
from dataclasses import replace

import pytest

from analysis.findings import load_findings
from analysis.report.outcome import contributions, draws_say, gap_says, headline, holds, open_questions, plan_says
from analysis.report.study import arranged
from analysis.statistics.generality import ImagesToo
from analysis.statistics.stats import Interval
from tests.analysis.report.conftest import CONTROLS, DECISIONS
from tune.records import RecordError


def everything(decision, **others):
    return dict.fromkeys(("arcface", "softmax", *CONTROLS), decision) | others


# --- The answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mnist", "cifar10"), [*itertools.product(DECISIONS, DECISIONS)])
def test_the_first_words_are_the_answer(study, mnist, cifar10):
    """Whether it beats comes first, and each data set stands where its decision puts it."""
    data_sets = study(mnist={"arcface": mnist}, cifar10={"arcface": cifar10})
    assert [data.primary.decision for data in data_sets] == [mnist, cifar10]
    (line,) = headline(data_sets)
    if "better" in (mnist, cifar10):
        assert line.startswith("AdaLoss beats ArcFace on ")
    elif "inconclusive" in (mnist, cifar10):
        assert line.startswith("AdaLoss is not shown to beat ArcFace")
    else:
        assert line.startswith("AdaLoss does not beat ArcFace")
    words = {
        "better": "beats ArcFace on",
        "worse": "worse on",
        "equivalent": "equivalent on",
        "inconclusive": "undecided on",
    }
    if "better" in (mnist, cifar10):
        words |= {"worse": "not on", "equivalent": "not on"}
    for decision, title in ((mnist, "MNIST"), (cifar10, "CIFAR-10")):
        _, found, after = line.partition(words[decision])
        assert found
        assert title in after.split(",")[0] if mnist != cifar10 else after


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_one_data_set_is_not_told_as_the_whole(study, dataset):
    missing, there = ("CIFAR-10", "MNIST") if dataset == "mnist" else ("MNIST", "CIFAR-10")
    data_sets = study(**{dataset: {"arcface": "better", "softmax": "better"}})
    (line,) = headline(data_sets)
    assert line.startswith(f"AdaLoss beats ArcFace on {there}, both tuned under the same budget.")
    assert line.endswith(f"{missing} is not there yet.")
    assert plan_says(data_sets) == f"The plan decides on all data sets together, and {missing} is not there yet."


def test_without_adaloss_there_is_no_answer(study):
    assert headline(study(mnist={"softmax": "better"})) == [
        "There is no verdict on AdaLoss and ArcFace yet. CIFAR-10 is not there yet."
    ]


# --- The gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", DECISIONS)
@pytest.mark.parametrize("primary", DECISIONS)
def test_that_the_gate_alone_does_the_work_is_said_where_there_is_work_and_it_does_all_of_it(study, primary, gated):
    lines = headline(study(mnist={"arcface": primary, "gated": gated}, cifar10={"arcface": "equivalent"}))
    alone = primary == "better" and gated in ("equivalent", "worse")
    assert (len(lines) == 2) == alone
    if alone:
        state = "equivalent to AdaLoss" if gated == "equivalent" else "better than AdaLoss"
        assert lines[1].endswith(f"without any feedback, gated ArcFace is {state} on MNIST.")


@pytest.mark.parametrize(("gate_off", "gated"), [*itertools.product(DECISIONS, DECISIONS)])
def test_gate_and_rates_are_told_by_their_verdicts(study, gate_off, gated):
    (data, _) = study(mnist={"arcface": "better", "gate_off": gate_off, "gated": gated}, cifar10={"arcface": "better"})
    gate, rates, beside, adaptivity = contributions(data)
    word = {"better": "better than", "worse": "worse than", "equivalent": "equivalent:", "inconclusive": "undecided,"}
    assert gate.startswith("The gate: AdaLoss ")
    assert word[gate_off] in gate
    assert rates.startswith("The update rates: AdaLoss ")
    assert word[gated] in rates
    assert beside.startswith("The gate without feedback")
    assert adaptivity == data.main.adaptivity


@pytest.mark.parametrize(("ramp", "final", "word"), [("worse", "better", "gains"), ("better", "worse", "costs")])
def test_the_start_is_told_by_its_interval(study, ramp, final, word):
    """A ramp that AdaLoss is worse than is ahead of a margin that AdaLoss is better than."""
    (data,) = study(mnist={"arcface": "better", "linear_ramp": ramp, "final_margin": final})
    (start,) = (line for line in contributions(data) if line.startswith("The start"))
    assert f"at its end, {word} (" in start
    assert f"({'+' if word == 'gains' else '-'}1.00 pp [" in start


def test_a_start_without_an_effect_is_said_to_show_none(study):
    (data,) = study(mnist={"arcface": "better", "linear_ramp": "inconclusive", "final_margin": "inconclusive"})
    (start,) = (line for line in contributions(data) if line.startswith("The start"))
    assert "shows no effect" in start


# --- The plan --------------------------------------------------------------------------------------------------------


def test_the_study_that_is_varied_has_verdicts_that_the_plan_supports(decided, study):
    (data, other) = decided(mnist=everything("better"), cifar10=everything("better"))
    assert {v.second: v.decision for v in data.main.verdicts if v.first == "adaloss"} == everything("better")
    assert data.primary.p_holm < 0.05
    assert plan_says([data, other]) == plan_says(study(mnist=everything("better"), cifar10=everything("better")))


def test_the_plan_is_followed_to_the_letter(decided):
    ours = everything("better")
    supported = "By the plan this supports the claim: every condition that it names is met."
    assert plan_says(decided(mnist=ours, cifar10=ours)) == supported


@pytest.mark.parametrize("arm", ["softmax", "gated", "mean_margin", "yoked_replay"])
def test_one_data_set_is_enough_to_beat_a_simpler_rival(decided, arm):
    behind = everything("better", **{arm: "equivalent"})
    assert plan_says(decided(mnist=behind, cifar10=everything("better"))).startswith("By the plan this supports")


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ("softmax", "softmax"),
        ("gated", "gated ArcFace"),
        ("mean_margin", "mean-margin ArcFace"),
        ("yoked_replay", "yoked-replay ArcFace"),
    ],
)
@pytest.mark.parametrize("decision", ["inconclusive", "worse"])
def test_a_rival_that_is_beaten_nowhere_makes_it_partial(decided, arm, name, decision):
    behind = everything("better", **{arm: decision})
    expected = f"By the plan the result is partial: AdaLoss is not shown to be better on any data set than {name}."
    assert plan_says(decided(mnist=behind, cifar10=behind)) == expected


@pytest.mark.parametrize(("mnist", "cifar10"), [*itertools.product(DECISIONS, DECISIONS)])
def test_refuted_is_what_is_worse_or_equivalent_everywhere(decided, mnist, cifar10):
    said = plan_says(decided(mnist=everything("better", arcface=mnist), cifar10=everything("better", arcface=cifar10)))
    found = {mnist, cifar10}
    assert said.startswith("By the plan this refutes the claim") == (found <= {"worse", "equivalent"})
    assert said.startswith("By the plan this supports the claim") == (found == {"better"})
    if "partial" in said:
        assert said.endswith("not shown to be better than ArcFace on every data set.")


# --- What holds, and what is open ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", DECISIONS)
def test_each_comparison_is_told_once_where_it_belongs(study, decision):
    (data,) = study(mnist={"arcface": decision, "softmax": "better", "gated": "inconclusive"})
    told, untold = holds(data), open_questions(data)
    primary = [line for line in (*told, *untold) if "AdaLoss" in line and "softmax" not in line]
    assert len(primary) == 1
    assert (primary[0] in untold) == (decision == "inconclusive")
    assert len(told) + len(untold) == sum(v.kind != "control" for v in data.main.verdicts)
    for line in untold:
        assert "seeds would be needed)" in line


@pytest.mark.parametrize(
    ("decision", "ends", "holds_too"),
    [
        ("better", (0.001, 0.01), True),
        ("better", (-0.001, 0.011), False),
        ("worse", (-0.01, -0.001), True),
        ("worse", (-0.011, 0.001), False),
        ("equivalent", (-0.001, 0.001), True),
        ("equivalent", (-0.0011, 0.001), False),
    ],
)
def test_what_holds_for_these_test_images_alone_is_said_so(study, decision, ends, holds_too):
    (data,) = study(mnist={"arcface": decision})
    images_too = ImagesToo(10_000, data.primary.result.mean, Interval(*ends), 0.0, 0.0)
    verdicts = tuple(replace(verdict, images_too=images_too) for verdict in data.main.verdicts)
    (line,) = holds(replace(data, main=replace(data.main, verdicts=verdicts)))
    assert ("(for other test images too" in line) == (not holds_too)


# --- Draws -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(new_run):
    """A study with draws: how many of 20 of each arm collapse, the first ones."""

    def make(partial=False, **collapsed):
        run = new_run("mnist", ("arcface", "adaloss"), dataset="mnist", partial=partial)
        run.rewrite(confirmation={"seeds": 10, "history": []})
        for arm, count in collapsed.items():
            run.seed_runs("robustness", arm, [0.1] * count + [0.9] * (20 - count))
        return arranged(load_findings([run.folder]))[0]

    return make


@pytest.mark.parametrize(
    ("collapsed", "says"),
    [
        (
            {"arcface": 8, "adaloss": 0, "gated": 0},
            "(p 0.008; between the two p 1.000): the gate alone does it.",
        ),
        ({"arcface": 16, "adaloss": 0, "gated": 8}, "the gate alone does not do it."),
        ({"arcface": 8, "adaloss": 0, "gated": 3}, "whether the gate alone does it is open"),
        ({"arcface": 8, "adaloss": 0}, "whether the gate alone does it was not run."),
        ({"arcface": 3, "adaloss": 0, "gated": 0}, "That one of them collapses less often is not shown."),
        ({"arcface": 0, "adaloss": 3, "gated": 0}, "That one of them collapses less often is not shown."),
        ({"arcface": 0, "adaloss": 8, "gated": 0}, "AdaLoss collapses more often than ArcFace."),
    ],
)
def test_who_collapses_and_what_the_gate_does(drawn, collapsed, says):
    data = drawn(**collapsed)
    shares, by_draw, gate = draws_say(data)
    for arm, name in (("arcface", "ArcFace"), ("adaloss", "AdaLoss")):
        assert f"{collapsed[arm]} of 20 ({name})" in shares
    assert f"only ArcFace in {max(collapsed['arcface'] - collapsed['adaloss'], 0)}, p" in by_draw
    assert says in gate
    # Where AdaLoss is the safer one, that is among the first things that are said.
    begin = "With settings drawn at random, AdaLoss collapses less often than ArcFace on MNIST, "
    top = [line for line in headline([data]) if line.startswith(begin)]
    assert len(top) == gate.startswith("AdaLoss collapses less often")
    if top:
        without_numbers = re.sub(r" \(p [^)]*\)", "", gate)
        assert top[0].removeprefix(begin) == without_numbers.partition("than ArcFace, ")[2]


@pytest.mark.parametrize(("partial", "says"), [(True, "collapse, on 100 training images: "), (False, "collapse: ")])
def test_draws_on_a_part_of_the_images_say_so(drawn, partial, says):
    assert f"Random draws that {says}0 of 20 (ArcFace)" in next(draws_say(drawn(partial, arcface=0, adaloss=0)))


# --- The published gap -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps_pp", "says"),
    [
        ([1.1, 1.4] * 5, "reproduced after tuning (+1.25 pp"),
        ([0.1, 0.3] * 5, "only in part reproduced after tuning"),
        ([1.9, 2.1] * 5, "exceeded after tuning"),
        ([-0.1, -0.3] * 5, "reversed after tuning"),
        ([-0.1, 0.1] * 5, "not reproduced after tuning"),
        ([-9.0, 9.0] * 5, "not settled, as its interval holds 0 too after tuning"),
    ],
)
def test_the_published_gap_is_told_by_its_interval(new_run, gaps_pp, says):
    run = new_run("mnist", ("arcface", "adaloss"), dataset="mnist")
    run.rewrite(confirmation={"seeds": 10, "history": []})
    run.seed_runs("winner", "arcface", [0.8] * 10)
    run.seed_runs("winner", "adaloss", [0.8 + gap / 100 for gap in gaps_pp])
    (data,) = arranged(load_findings([run.folder]))
    assert gap_says(data).startswith("On MNIST the published gap of +1.25 pp is ")
    assert f"is {says}" in gap_says(data)


def test_nothing_is_said_of_a_gap_that_nobody_published(example_findings):
    (data,) = arranged(example_findings({"dataset": "digits"}))
    assert gap_says(data) == ""


# --- Which runs ------------------------------------------------------------------------------------------------------


def test_a_run_for_its_draws_stands_beside_the_one_that_is_compared(new_run):
    main, draws = new_run("cifar10", dataset="cifar10"), new_run("draws", dataset="cifar10", partial=True)
    main.rewrite(confirmation={"seeds": 10, "history": []})
    draws.rewrite(confirmation={"seeds": 1, "history": []})
    draws.seed_runs("robustness", "arcface", [0.1, 0.9])
    (data,) = arranged(load_findings([draws.folder, main.folder]))
    assert (data.main.run.folder, data.drawn.run.folder) == (main.folder, draws.folder)
    assert len(data.runs) == 2
    with pytest.raises(RecordError, match="cifar10: 0 runs with 6 paired seeds or more"):
        arranged(load_findings([draws.folder]))


@pytest.mark.parametrize(("seeds", "says"), [((10, 10), "2 runs with 6 paired seeds"), ((10, 1), "several runs have")])
def test_two_runs_of_the_same_kind_are_refused(new_run, seeds, says):
    runs = [new_run(f"run{number}", dataset="mnist") for number in range(2)]
    for run, planned in zip(runs, seeds, strict=True):
        run.rewrite(confirmation={"seeds": planned, "history": []})
        run.seed_runs("robustness", "arcface", [0.9])
    with pytest.raises(RecordError, match=says):
        arranged(load_findings([run.folder for run in runs]))
