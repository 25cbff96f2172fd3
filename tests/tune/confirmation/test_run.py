"""The confirmation's order of things, with runs that take no time: Ray and training are tested in test_command."""

import json
import math

import pytest

from tests.tune.confirmation.conftest import EPOCHS, confirm, finished_search, results_of
from trainables.errors import UserError
from tune import session
from tune.confirmation import stages
from tune.confirmation.arms import CONTROLS
from tune.confirmation.stages import plan_of
from tune.records import LossRecords, read_json, write_json
from tune.records.roles import PERMUTED
from tune.settings import ConfirmSettings, load_confirm_settings


def count(settings, role):
    return sum(record["role"] == role for record in results_of(settings))


def test_the_test_split_is_read_once_and_only_when_all_is_chosen(settings, world):
    outcome = confirm(settings)
    assert (outcome.interrupted, outcome.broken, outcome.left_out) == (None, {}, [])
    read = world.happened.index("test split read")
    assert world.happened.count("test split read") == 1
    assert all(name.startswith("candidate") for name in world.happened[:read])
    assert not any(name.startswith("candidate") for name in world.happened[read:])
    assert [count(settings, role) for role in ("candidate", "winner", "untuned", "control")] == [12, 9, 0, 0]


def test_winners_train_on_training_and_validation_images_and_see_no_validation(settings, world):
    confirm(settings)
    chosen, tested = world.data["candidates"], world.data["paired-seeds"]
    assert chosen.test_images is None
    assert tested.validation_images is None
    assert len(tested.train_labels) == len(chosen.train_labels) + len(chosen.validation_labels) == 1500
    assert len(tested.train_images) == 1500
    assert len(tested.test_labels) == 297


def test_of_each_winner_the_weights_of_the_first_pair_are_kept(settings, world):
    confirm(settings)
    assert world.kept == [(f"winner-{loss}-0000-000", f"winner_{loss}.pt") for loss in settings.losses]


def test_the_winner_is_who_is_best_on_fresh_seeds(settings, world):
    world.accuracy = lambda run_id: 0.8 if "adaloss-0000" in run_id else 0.9
    confirm(settings)
    winner = read_json(settings.folder / "winner_adaloss.json")
    assert winner["trial_id"] == "adaloss-0001"
    assert [(c["trial_id"], c["val_accuracy"]) for c in winner["candidates"]] == [
        ("adaloss-0000", pytest.approx(0.8)),
        ("adaloss-0001", pytest.approx(0.9)),
    ]
    assert {r["trial_id"] for r in results_of(settings) if r["role"] == "winner" and r["arm"] == "adaloss"} == {
        "adaloss-0001"
    }
    assert read_json(settings.folder / "winner_softmax.json")["trial_id"] == "softmax-0000"


def test_pairs_train_with_the_same_seed_and_all_else_of_the_search(settings, world):
    confirm(settings)
    seeds = {}
    for record in results_of(settings):
        config = world.configs[record["run_id"]]
        assert (config.max_epochs, config.batch_size, config.model) == (EPOCHS, 64, "ArcFaceCNN")
        assert config.seed == record["seed"] != settings.seed
        seeds.setdefault((record["role"], record["pair"]), set()).add(config.seed)
    assert all(len(of_pair) == 1 for of_pair in seeds.values())


def test_controls_and_untuned_runs_come_when_asked_for(settings, world):
    confirm(settings, ConfirmSettings(seeds=2, candidates=1, candidate_seeds=1, controls=True, robustness=2))
    roles = {role: count(settings, role) for role in ("candidate", "winner", "untuned", "control", "robustness")}
    assert roles == {"candidate": 3, "winner": 6, "untuned": 4, "control": 12, "robustness": 8}
    assert {r["arm"] for r in results_of(settings) if r["role"] == "control"} == set(CONTROLS)
    replay = next(c for run_id, c in world.configs.items() if "yoked_replay" in run_id)
    assert replay.to_dict()["loss_args"]["margins_rad"] == pytest.approx([0.1] * 3 + [0.2] * 3)
    ramp = next(c for run_id, c in world.configs.items() if "linear_ramp" in run_id)
    assert len(ramp.loss_args["margins_rad"]) == EPOCHS * (1500 // 64)


def test_a_claim_is_checked_at_untuned_settings_where_it_was_made(settings, world, monkeypatch):
    monkeypatch.setattr(stages, "CLAIMED", ("digits",))
    confirm(settings)
    assert count(settings, "untuned") == 6


@pytest.mark.parametrize("done", [0, 1, 5, 12, 13, 20, 29])
def test_an_interrupted_confirmation_goes_on_where_it_was(settings, world, done):
    asked = ConfirmSettings(seeds=2, candidates=2, candidate_seeds=2, controls=True)
    world.stop_after = done
    assert confirm(settings, asked).interrupted == "SIGTERM"
    assert len(results_of(settings)) == done
    world.stop_after = math.inf
    world.happened.clear()
    assert confirm(settings, asked).interrupted is None
    assert len(results_of(settings)) == 12 + 6 + 4 + 12
    assert sum(name in world.configs for name in world.happened) == 34 - done


def test_a_finished_confirmation_has_nothing_left_and_takes_more_seeds(settings, world):
    confirm(settings)
    before = (settings.folder / "confirm.jsonl").read_bytes()
    world.happened.clear()
    confirm(settings)
    assert world.happened == []
    assert (settings.folder / "confirm.jsonl").read_bytes() == before
    confirm(settings, ConfirmSettings(seeds=5, candidates=2, candidate_seeds=2))
    assert count(settings, "winner") == 15
    assert (settings.folder / "confirm.jsonl").read_bytes().startswith(before)
    recorded = read_json(settings.folder / "run.json")["confirmation"]
    assert recorded["seeds"] == 5
    assert [entry["seeds"] for entry in recorded["history"]] == [3, 3, 5]
    assert load_confirm_settings(settings.folder, {}) == ConfirmSettings(5, 2, 2)
    assert load_confirm_settings(settings.folder, {"controls": True}) == ConfirmSettings(5, 2, 2, controls=True)


def test_a_broken_run_is_no_result_and_nothing_is_chosen_without_it(settings, world):
    world.error = lambda run_id: "Traceback\nMemoryError" if run_id == "candidate-softmax-0000-001" else None
    outcome = confirm(settings)
    assert outcome.broken == {"candidate-softmax-0000-001": "Traceback\nMemoryError"}
    assert "test split read" not in world.happened
    assert count(settings, "winner") == 0
    world.error = lambda run_id: None
    assert confirm(settings).broken == {}
    assert count(settings, "candidate") == 12
    assert count(settings, "winner") == 9


def test_a_diverged_run_counts_at_chance(settings, world):
    world.accuracy = lambda run_id: math.nan if run_id == "candidate-arcface-0000-000" else 0.6
    assert confirm(settings).broken == {}
    winner = read_json(settings.folder / "winner_arcface.json")
    assert winner["trial_id"] == "arcface-0001"
    assert winner["candidates"][0]["val_accuracy"] == pytest.approx((0.1 + 0.6) / 2)


def test_a_loss_that_never_worked_is_left_out_and_said(settings, world):
    events = settings.folder / "softmax" / "trials.jsonl"
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    for line in lines:
        if line["event"] == "finished":
            line |= {"event": "failed", "val_accuracy": None, "error": "no"}
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert confirm(settings).left_out == ["softmax"]
    assert {record["arm"] for record in results_of(settings)} == {"arcface", "adaloss"}


@pytest.mark.parametrize("change", ["in flight", "too few"])
def test_an_unfinished_search_is_not_confirmed(settings, world, change):
    if change == "in flight":
        LossRecords(settings.folder / "softmax").event("softmax-0004", "started", config={})
    else:
        (settings.folder / "softmax" / "trials.jsonl").unlink()
    with pytest.raises(UserError, match=r"not finished .*--resume"):
        confirm(settings)
    assert not (settings.folder / "confirm.jsonl").exists()


def test_other_data_than_the_searchs_is_refused(settings, world):
    run = read_json(settings.folder / "run.json")
    run["dataset"]["fingerprint"] = "0" * 64
    write_json(settings.folder / "run.json", run)
    with pytest.raises(UserError, match="not what the run was started with"):
        confirm(settings)
    assert world.happened == []


def test_missing_test_data_is_told_before_anything_runs(settings, world, monkeypatch):
    def missing(*_):
        raise UserError("no test files")

    monkeypatch.setattr(session, "check_test_data", missing)
    with pytest.raises(UserError, match="no test files"):
        confirm(settings)
    assert world.happened == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (ConfirmSettings(seeds=0), "--confirm-seeds must be at least 1, got 0"),
        (ConfirmSettings(candidates=0), "--candidates must be at least 1"),
        (ConfirmSettings(candidate_seeds=-1), "--candidate-seeds must be at least 1"),
        (ConfirmSettings(robustness=-1), "--robustness must be 0 or more"),
    ],
)
def test_numbers_that_cannot_be_are_named(settings, world, asked, words):
    with pytest.raises(UserError, match=words):
        confirm(settings, asked)


@pytest.mark.parametrize(
    ("losses", "controls"),
    [
        (("arcface", "adaloss_relative"), {PERMUTED}),
        (("adaloss_relative", "adaloss"), {*CONTROLS, PERMUTED}),
    ],
)
def test_every_loss_that_has_controls_gets_them(tmp_path, world, capsys, losses, controls):
    settings = finished_search(tmp_path, losses)
    asked = ConfirmSettings(seeds=2, candidates=1, candidate_seeds=1, controls=True)
    planned = sorted(run.run_id for run in plan_of(settings, asked).runs if run.role == "control")
    confirm(settings, asked)
    found = [record for record in results_of(settings) if record["role"] == "control"]
    assert {record["arm"] for record in found} == controls
    assert len(found) == len(planned) == 2 * len(controls)
    permuted = [record for record in found if record["arm"] == PERMUTED]
    assert {record["config"]["loss"] for record in permuted} == {PERMUTED}
    assert "left out" not in capsys.readouterr().out


def test_controls_need_a_loss_that_has_some():
    with pytest.raises(UserError, match="variants of adaloss or adaloss_relative, which is not among"):
        ConfirmSettings(controls=True).validate(("arcface", "softmax"))
    ConfirmSettings(controls=True).validate(("arcface", "adaloss_relative"))
