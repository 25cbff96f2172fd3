import pytest

from analysis.loading import load_run
from analysis.statistics.claims import PUBLISHED, adaptivity, claims
from analysis.statistics.verdict import verdicts
from tune.records.roles import CONTROLS

# --- The published claim ---------------------------------------------------------------------------------------------


@pytest.fixture
def checked(new_run):
    """Writes a run with untuned accuracies of both losses and returns the check at the published defaults."""

    def check(arcface, adaloss, dataset="mnist", role="untuned"):
        run = new_run("run", ("arcface", "adaloss"), dataset=dataset)
        run.seed_runs(role, "arcface", arcface)
        run.seed_runs(role, "adaloss", adaloss)
        (claim,) = claims(load_run(run.folder))
        return claim

    return check


def test_the_published_gaps():
    gaps = {dataset: 100 * (values["adaloss"] - values["arcface"]) for dataset, values in PUBLISHED.items()}
    assert gaps == pytest.approx({"mnist": 1.25, "cifar10": 5.78})


@pytest.mark.parametrize(
    ("gaps_pp", "outcome", "words"),
    [
        ([1.2, 1.3, 1.25, 1.1], "reproduced", "reproduced"),
        ([0.1, 0.12, 0.11, 0.1], "smaller", "less than published"),
        ([3.0, 3.1, 3.05, 3.0], "larger", "more than published"),
        ([-0.5, -0.6, -0.5, -0.55], "reversed", "reversed"),
        ([0.1, -0.1, 0.05, -0.05], "not reproduced", "not reproduced"),
        ([2.0, -1.0, 1.5, 0.5], "uncertain", "too few seeds"),
    ],
)
def test_our_interval_decides_what_becomes_of_the_published_gap(checked, gaps_pp, outcome, words):
    claim = checked([0.9] * 4, [0.9 + gap / 100 for gap in gaps_pp])
    assert claim.outcome == outcome
    assert words in claim.sentence
    assert claim.published_gap == pytest.approx(0.0125)
    assert claim.result.mean == pytest.approx(sum(gaps_pp) / 400)


@pytest.mark.parametrize(
    ("arcface", "adaloss", "both_above", "words"),
    [
        (0.98, 0.992, True, "both accuracies lie above the published ones"),
        (0.98, 0.99, False, "not above the published accuracy: AdaLoss (99.11 %)"),
        (0.97, 0.99, False, "not above the published accuracy: AdaLoss (99.11 %) and ArcFace (97.86 %)"),
    ],
)
def test_it_is_said_whether_the_published_accuracies_are_low(checked, arcface, adaloss, both_above, words):
    claim = checked([arcface] * 3, [adaloss] * 3)
    assert claim.both_above == both_above
    assert claim.sentence.endswith(words)


def test_a_single_seed_cannot_check_a_gap(checked):
    claim = checked([0.9], [0.95])
    assert claim.outcome == "uncertain"
    assert "a single seed has no interval" in claim.sentence
    assert "[" not in claim.sentence


def test_where_nothing_is_published_the_numbers_stand_alone(checked):
    claim = checked([0.9, 0.91], [0.95, 0.95], dataset="digits")
    assert (claim.outcome, claim.published_gap, claim.both_above) == ("nothing published", None, None)
    assert claim.sentence == (
        "at the published defaults: AdaLoss 95.00 %, ArcFace 90.50 %, difference +4.50 pp [-1.85, 10.85], n 2"
    )


def test_the_claim_is_checked_before_and_after_tuning(example_run):
    untuned, tuned = claims(load_run(example_run(robustness=4)))
    assert (untuned.settings, tuned.settings) == ("untuned", "winner")
    assert untuned.sentence.startswith("at the published defaults: ")
    assert tuned.sentence.startswith("after tuning: ")


@pytest.mark.parametrize("missing", ["arcface", "adaloss"])
def test_without_both_losses_there_is_no_claim(new_run, missing):
    run = new_run("run", ("arcface", "adaloss"), dataset="mnist")
    run.seed_runs("untuned", {"arcface": "adaloss", "adaloss": "arcface"}[missing], [0.9] * 3)
    assert claims(load_run(run.folder)) == []


def test_failed_seeds_are_in_the_mean(checked):
    claim = checked([0.9, None, 0.9], [0.95] * 3)
    assert claim.arcface == pytest.approx((0.9 + 0.1 + 0.9) / 3)


# --- Adaptivity ------------------------------------------------------------------------------------------------------

BASE = [0.900, 0.901, 0.902, 0.903, 0.904, 0.905, 0.906, 0.907, 0.908, 0.909]
NOISE = [0.0001, 0.0002, -0.0001, 0.0003, 0.0, 0.0001, -0.0002, 0.0002, 0.0001, 0.0003]


@pytest.fixture
def concluded(new_run):
    """Writes AdaLoss, ArcFace and controls that lie so many percentage points below AdaLoss; returns what is said."""

    def conclude(arcface_pp=1.0, **below_pp):
        run = new_run("run", ("arcface", "adaloss"))
        run.seed_runs("winner", "adaloss", BASE)
        for role, arm, pp in (("winner", "arcface", arcface_pp), *(("control", a, p) for a, p in below_pp.items())):
            run.seed_runs(role, arm, [a - pp / 100 + noise for a, noise in zip(BASE, NOISE, strict=True)])
        return adaptivity(verdicts([load_run(run.folder)]))

    return conclude


def test_adaptivity_helps_where_every_control_is_beaten(concluded):
    said = concluded(**dict.fromkeys(CONTROLS, 1.0))
    assert said == (
        "AdaLoss beats mean-margin ArcFace, final-margin ArcFace, linear-ramp ArcFace, gated ArcFace and yoked-replay "
        "ArcFace: adaptivity itself helps. AdaLoss is better with its competence gate than without it."
    )


@pytest.mark.parametrize(("gated_pp", "state"), [(0.0, "equivalent"), (-1.0, "which is better")])
def test_adaptivity_is_not_what_helps_where_a_control_is_level(concluded, gated_pp, state):
    said = concluded(mean_margin=1.0, final_margin=1.0, linear_ramp=1.0, gated=gated_pp, yoked_replay=1.0)
    assert said == f"AdaLoss does not beat gated ArcFace ({state}): adaptivity is not shown to be what helps."


def test_the_gate_is_no_control_of_adaptivity(concluded):
    said = concluded(**dict.fromkeys(CONTROLS, 1.0) | {"gate_off": 0.0})
    assert "adaptivity itself helps" in said
    assert said.endswith("With or without its competence gate, AdaLoss is the same.")


@pytest.mark.parametrize(
    ("gate_off_pp", "words"), [(-1.0, "is worse with its competence gate"), (1.0, "is better with its competence gate")]
)
def test_the_gate_alone_is_judged_too(concluded, gate_off_pp, words):
    said = concluded(gate_off=gate_off_pp)
    assert words in said
    assert "adaptivity" not in said


def test_without_a_gain_there_is_nothing_to_explain(concluded):
    said = concluded(arcface_pp=0.0, **dict.fromkeys(CONTROLS, 1.0))
    assert said.startswith("AdaLoss is not shown to be better than the tuned ArcFace: there is no gain to explain. ")


def test_controls_that_were_not_run_are_named(concluded):
    said = concluded(gated=1.0)
    assert said.startswith("AdaLoss beats gated ArcFace: ")
    others = "mean-margin ArcFace, final-margin ArcFace, linear-ramp ArcFace and yoked-replay ArcFace"
    assert said.endswith(f"Not run: {others}.")


def test_without_controls_nothing_is_said(concluded):
    assert concluded() is None


@pytest.mark.parametrize(
    ("below_pp", "words"),
    [
        (1.0, "beats permuted relative AdaLoss: which class has which margin matters."),
        (0.0, "does not beat permuted relative AdaLoss (equivalent): adapting by class is not shown to help."),
        (-1.0, "does not beat permuted relative AdaLoss (which is better): adapting by class is not shown to help."),
    ],
)
def test_the_permuted_margins_answer_for_relative_adaloss(new_run, below_pp, words):
    run = new_run("run", ("arcface", "adaloss_relative"))
    run.seed_runs("winner", "adaloss_relative", BASE)
    values = [a - below_pp / 100 + noise for a, noise in zip(BASE, NOISE, strict=True)]
    run.seed_runs("control", "adaloss_relative_permuted", values)
    assert adaptivity(verdicts([load_run(run.folder)])) == f"relative AdaLoss {words}"
