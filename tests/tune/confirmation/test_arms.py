import math
from statistics import fmean

import pytest

from search_spaces import SEARCH_SPACES
from search_spaces.common import SHARED
from search_spaces.published import CLAIMED, PUBLISHED
from trainables.config import TrialConfig
from trainables.data import DATASETS
from tune.confirmation.arm_study import ConfirmRecords
from tune.confirmation.arms import (
    CONTROLS,
    Candidate,
    all_control_runs,
    candidate_runs,
    control_runs,
    robustness_runs,
    top_trials,
    untuned_runs,
    winner_of,
    winner_runs,
)
from tune.records import LossRecords
from tune.records.roles import PERMUTED

ADALOSS = {
    "loss": "adaloss",
    "learning_rate": 0.1,
    "label_smoothing": 0.1,
    "loss_args": {
        "scale": 8.0,
        "margin_rad": 0.2,
        "rate_up_rad_per_epoch": 0.3,
        "rate_down_rad_per_epoch": 0.4,
        "difficulty": "error",
        "target_difficulty": 0.1,
    },
}
WINNER = Candidate("adaloss-0007", ADALOSS)


def result(run, **rest):
    return {
        "run_id": run.run_id, "config": run.config, "error": None, "val_accuracy": None, "test_accuracy": 0.9, **rest
    }  # fmt: skip


# --- The search's best -----------------------------------------------------------------------------------------------


def test_the_best_finished_trials_come_first_and_stopped_ones_fill_up(tmp_path):
    records = LossRecords(tmp_path)
    for trial_id, event, epoch, accuracy in (
        ("t-0", "finished", 9, 0.90),
        ("t-1", "stopped", 3, 0.99),  # has seen a third of its schedule
        ("t-2", "finished", 9, 0.95),
        ("t-3", "failed", 2, None),
        ("t-4", "stopped", 1, 0.999),
        ("t-5", "finished", 9, 0.95),
    ):
        records.event(trial_id, "started", config={"name": trial_id})
        records.event(trial_id, event, epoch=epoch, val_accuracy=accuracy)
    order = [candidate.trial_id for candidate in top_trials(records, 9)]
    assert order == ["t-2", "t-5", "t-0", "t-1", "t-4"]
    assert top_trials(records, 1) == [Candidate("t-2", {"name": "t-2"})]


def test_a_loss_of_which_every_trial_failed_has_no_candidates(tmp_path):
    records = LossRecords(tmp_path)
    records.event("t-0", "started", config={})
    records.event("t-0", "failed", epoch=1, val_accuracy=None)
    assert top_trials(records, 3) == []


# --- Choosing --------------------------------------------------------------------------------------------------------


def accuracies(candidates, table, error_at=None):
    runs = candidate_runs("softmax", candidates, 3, 0)
    values = {run.run_id: table[run.trial_id][run.pair] for run in runs}
    return {
        run_id: {"error": "diverged" if math.isnan(value) else None, "val_accuracy": value, "test_accuracy": None}
        for run_id, value in values.items()
    }


def test_the_best_mean_wins_not_the_searchs_best_and_divergence_counts_at_chance():
    a, b, c = (Candidate(name, {}) for name in "abc")
    results = accuracies([a, b, c], {"a": [0.9, 0.8, 0.7], "b": [0.85, 0.85, 0.85], "c": [1.0, 1.0, math.nan]})
    winner, means = winner_of([a, b, c], results, 3, chance=0.1)
    assert winner == b
    assert means == pytest.approx([0.8, 0.85, 0.7])


def test_of_equal_candidates_the_searchs_better_wins():
    a, b = Candidate("a", {}), Candidate("b", {})
    results = accuracies([a, b], {"a": [0.5] * 3, "b": [0.5] * 3})
    assert winner_of([a, b], results, 3, 0.1)[0] == a


# --- Seeds -----------------------------------------------------------------------------------------------------------


def test_pairs_share_their_seed_in_all_arms_and_stages_do_not_share_seeds():
    winners = {run.pair: run.seed for run in winner_runs("adaloss", WINNER, 5, 3)}
    assert len(set(winners.values())) == 5
    other = winner_runs("softmax", Candidate("softmax-0001", {}), 5, 3)
    assert {run.pair: run.seed for run in other} == winners
    assert {run.pair: run.seed for run in untuned_runs("arcface", 5, 3)} == winners
    candidates = candidate_runs("softmax", [Candidate("a", {}), Candidate("b", {})], 5, 3)
    of_each = {trial: [run.seed for run in candidates if run.trial_id == trial] for trial in "ab"}
    assert of_each["a"] == of_each["b"]
    draws = {run.seed for run in robustness_runs(["softmax"], 5, 3)["softmax"]}
    assert len({3} | set(winners.values()) | set(of_each["a"]) | draws) == 16
    assert {run.pair: run.seed for run in winner_runs("adaloss", WINNER, 5, 4)} != winners


def test_more_seeds_keep_the_first_ones():
    few, many = winner_runs("adaloss", WINNER, 3, 0), winner_runs("adaloss", WINNER, 9, 0)
    assert many[:3] == few


# --- Published settings ----------------------------------------------------------------------------------------------


def test_the_published_settings_are_arcfaces_and_share_all_but_the_rule():
    assert set(CLAIMED) <= set(DATASETS)
    arcface, adaloss = PUBLISHED["arcface"], PUBLISHED["adaloss"]
    assert arcface["loss_args"] == {"scale": 64.0, "margin_rad": 0.5}
    assert arcface["loss_args"].items() <= adaloss["loss_args"].items()
    for parameter in SHARED:
        assert arcface[parameter.name] == adaloss[parameter.name]
    for config in PUBLISHED.values():
        TrialConfig(model="ArcFaceCNN", max_epochs=1, **config)


# --- Robustness ------------------------------------------------------------------------------------------------------


def test_draws_are_paired_independent_and_within_their_ranges():
    arms = robustness_runs(["arcface", "adaloss", "softmax"], 40, 0)
    assert set(arms) == {"arcface", "adaloss", "softmax", "gated"}
    for arcface, adaloss, softmax, gated in zip(
        *(arms[a] for a in ("arcface", "adaloss", "softmax", "gated")), strict=True
    ):
        for parameter in SHARED:
            values = {run.config[parameter.name] for run in (arcface, adaloss, softmax, gated)}
            assert len(values) == 1
            assert parameter.distribution._contains(parameter.distribution.to_internal_repr(values.pop()))
        for name in ("scale", "margin_rad"):
            assert arcface.config["loss_args"][name] == adaloss.config["loss_args"][name]
        assert gated.config["loss_args"] == {
            **adaloss.config["loss_args"],
            "rate_up_rad_per_epoch": 0.0,
            "rate_down_rad_per_epoch": 0.0,
        }
        assert arcface.seed == adaloss.seed == softmax.seed == gated.seed
    rates = [run.config["learning_rate"] for run in arms["softmax"]]
    assert len(set(rates)) == 40
    assert min(rates) < 0.03 < 0.3 < max(rates)  # log[0.01, 1]
    # Parameters of one draw are independent of each other too: no two move together.
    scales = [run.config["loss_args"]["scale"] for run in arms["arcface"]]
    assert abs(correlation([math.log(r) for r in rates], [math.log(s) for s in scales])) < 0.5
    assert robustness_runs(["arcface", "adaloss", "softmax"], 10, 0)["gated"] == arms["gated"][:10]
    assert robustness_runs(["arcface"], 10, 1)["arcface"][0].config != arms["arcface"][0].config
    assert set(robustness_runs(["arcface", "softmax"], 1, 0)) == {"arcface", "softmax"}


def correlation(x, y):
    mx, my = fmean(x), fmean(y)
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return cov / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def test_every_loss_can_be_drawn():
    for loss, runs in robustness_runs(list(SEARCH_SPACES), 3, 0).items():
        for run in runs:
            assert run.config["loss"] == ("adaloss" if loss == "gated" else loss)
            TrialConfig(model="ArcFaceCNN", max_epochs=1, **run.config)


# --- Controls --------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path):
    """Three winner runs of two epochs of two steps; the last one diverged in its first."""
    records = ConfirmRecords(tmp_path)
    margins = [[[0.0, 0.1], [0.2, 0.3]], [[0.0, 0.2], [0.4, 0.6]], [[0.0]]]
    for run, epochs in zip(winner_runs("adaloss", WINNER, 3, 0), margins, strict=True):
        for number, steps in enumerate(epochs, start=1):
            records.append_epoch(run.run_id, {"epoch": number, "margin_steps_rad": steps})
        records.append_result(result(run, error="diverged" if run.pair == 2 else None))
    return records


def controls(records, seeds=3):
    return control_runs(WINNER, records, seeds, 0, steps=4)


def test_each_control_changes_one_thing(records):
    arms = controls(records)
    assert tuple(arms) == CONTROLS
    configs = {arm: runs[0].config for arm, runs in arms.items()}
    same = {key: value for key, value in ADALOSS.items() if key not in {"loss", "loss_args"}}
    assert all(config.items() >= same.items() for config in configs.values())
    assert configs["mean_margin"]["loss"] == "arcface"
    assert configs["mean_margin"]["loss_args"] == {"scale": 8.0, "margin_rad": pytest.approx((0.15 + 0.3) / 2)}
    assert configs["final_margin"]["loss_args"] == {"scale": 8.0, "margin_rad": pytest.approx((0.3 + 0.6) / 2)}
    still = {"rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0}
    assert configs["gated"]["loss_args"] == {**ADALOSS["loss_args"], **still}
    assert configs["gate_off"]["loss_args"] == {**ADALOSS["loss_args"], "competence_gate": False}
    for arm in CONTROLS:
        for run in arms[arm]:
            TrialConfig(model="ArcFaceCNN", max_epochs=1, **run.trained_config())


def test_the_ramp_rises_from_nothing_to_the_final_margin(records):
    run = controls(records)["linear_ramp"][0]
    assert run.config["loss_args"] == {"scale": 8.0, "ramp_to_rad": pytest.approx(0.45)}
    assert run.trained_config()["loss_args"]["margins_rad"] == pytest.approx([0.0, 0.15, 0.3, 0.45])


def test_a_replay_takes_another_seeds_margins_and_never_a_diverged_ones(records):
    replays = controls(records)["yoked_replay"]
    ids = [run.run_id for run in winner_runs("adaloss", WINNER, 3, 0)]
    assert [run.config["loss_args"]["replay_of"] for run in replays] == [ids[1], ids[0], ids[0]]
    assert replays[0].trained_config()["loss_args"] == {"scale": 8.0, "margins_rad": [0.0, 0.2, 0.4, 0.6]}
    assert replays[0].trained_config()["loss"] == "arcface_schedule"


def test_controls_share_the_winners_seeds(records):
    seeds = [run.seed for run in winner_runs("adaloss", WINNER, 3, 0)]
    assert all([run.seed for run in runs] == seeds for runs in controls(records).values())


def test_a_control_that_was_begun_keeps_its_margin_when_seeds_are_added(records):
    before = controls(records)
    for run in before["mean_margin"]:
        records.append_result(result(run))
    fourth = winner_runs("adaloss", WINNER, 4, 0)[3]
    records.append_epoch(fourth.run_id, {"epoch": 1, "margin_steps_rad": [0.8, 0.8, 0.8, 0.8]})
    records.append_result(result(fourth))
    after = controls(records, seeds=4)
    assert after["mean_margin"][3].config == before["mean_margin"][0].config
    assert after["final_margin"][3].config != before["final_margin"][0].config  # none of it was run yet


def test_without_a_run_that_worked_there_is_nothing_to_hold_against(tmp_path):
    records = ConfirmRecords(tmp_path)
    for run in winner_runs("adaloss", WINNER, 2, 0):
        records.append_result(result(run, error="diverged"))
    assert controls(records, seeds=2) == {}


def test_a_single_seed_has_no_other_to_replay(tmp_path):
    records = ConfirmRecords(tmp_path)
    (run,) = winner_runs("adaloss", WINNER, 1, 0)
    records.append_epoch(run.run_id, {"epoch": 1, "margin_steps_rad": [0.1]})
    records.append_result(result(run))
    assert set(controls(records, seeds=1)) == set(CONTROLS) - {"yoked_replay"}


def test_relative_margins_have_them_permuted_as_control(records):
    config = {**ADALOSS, "loss": "adaloss_relative", "loss_args": {"scale": 8.0, "margin_rad": 0.2, "strength": 0.5}}
    relative = Candidate("relative-0001", config)
    winners = {"adaloss": WINNER, "adaloss_relative": relative}
    arms = all_control_runs(winners, records, 3, 0, steps=4)
    assert tuple(arms) == (*CONTROLS, PERMUTED)
    assert {arm: arms[arm] for arm in CONTROLS} == controls(records)
    runs = arms[PERMUTED]
    assert [run.seed for run in runs] == [run.seed for run in winner_runs("adaloss_relative", relative, 3, 0)]
    assert {(run.role, run.arm, run.trial_id) for run in runs} == {("control", PERMUTED, "relative-0001")}
    assert [run.run_id for run in runs] == [f"control-{PERMUTED}-relative-0001-{pair:03d}" for pair in range(3)]
    for run in runs:
        assert run.config == {**config, "loss": PERMUTED}
        TrialConfig(model="ArcFaceCNN", max_epochs=1, **run.trained_config())
    assert all_control_runs({"adaloss_relative": relative}, records, 3, 0, steps=4) == {PERMUTED: runs}
    assert all_control_runs({"arcface": WINNER}, records, 3, 0, steps=4) == {}
