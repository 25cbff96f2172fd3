import pytest

from analysis.loading import load_run
from analysis.statistics.budget import caveats, spending
from tune.records import RecordError


def test_what_a_loss_cost_is_added_up(new_run):
    run = new_run("run", ("arcface", "adaloss"))
    run.trial("arcface", 0, [0.5, 0.6, 0.7], seconds=2.0)
    run.trial("arcface", 1, [0.5], "failed", error="broke")
    run.trial("arcface", 2, [0.5], None)
    run.seed_run("candidate", "arcface", 0, trial_id="arcface-0000", epochs=5, seconds=10.0)
    run.seed_run("winner", "arcface", 0, None, epochs=1, seconds=2.0)
    run.seed_run("untuned", "arcface", 0, epochs=5, seconds=9.0)
    run.seed_run("robustness", "arcface", 0, epochs=4, seconds=8.0)
    run.seed_run("control", "gated", 0, epochs=3, seconds=6.0)
    run.seed_run("robustness", "gated", 0, epochs=2, seconds=1.0)
    arcface, adaloss, controls = spending(load_run(run.folder))
    assert (arcface.name, arcface.dimensions, arcface.trials, arcface.trials_asked) == ("arcface", 4, 2, 4)
    assert (arcface.failed_trials, arcface.search_epochs, arcface.search_seconds) == (1, 5, 10.0)
    assert (arcface.runs, arcface.failed_runs, arcface.run_epochs, arcface.run_seconds) == (4, 1, 15, 29.0)
    assert (adaloss.trials, adaloss.runs, adaloss.run_seconds) == (0, 0, 0.0)
    assert (controls.name, controls.dimensions, controls.runs, controls.run_epochs) == ("controls", None, 2, 5)


@pytest.fixture
def sound(new_run):
    """A run of two losses with six paired seeds each, about which there is nothing to say."""
    run = new_run("run", ("arcface", "adaloss"))
    for loss in ("arcface", "adaloss"):
        for number in range(4):
            run.trial(loss, number, [0.5])
        run.seed_runs("winner", loss, [0.9] * 6, time=100.0)
    run.rewrite(confirmation={"seeds": 6, "history": [{"time": 50.0, "seeds": 6}]})
    return run


def caveats_of(run):
    return caveats(load_run(run.folder))


def test_of_a_sound_run_there_is_nothing_to_say(sound):
    assert caveats_of(sound) == []


def test_a_part_of_the_data_is_named(sound):
    sound.info["dataset"]["partial"] = True
    sound.rewrite()
    (caveat,) = caveats_of(sound)
    assert "a part of the data (100 images)" in caveat


def test_trials_that_are_missing_are_named(sound):
    sound.info["settings"]["trials"] = 5
    sound.rewrite()
    assert caveats_of(sound) == ["ArcFace has 4 of 5 trials.", "AdaLoss has 4 of 5 trials."]


def test_too_few_seeds_are_warned_of(sound):
    sound.rewrite(confirmation={"seeds": 5, "history": []})
    (caveat,) = caveats_of(sound)
    assert caveat.startswith("5 paired seeds: the exact test cannot reach 0.05 with fewer than 6")


def test_seeds_that_are_missing_make_it_provisional(sound):
    sound.rewrite(confirmation={"seeds": 10, "history": []})
    (caveat,) = caveats_of(sound)
    assert caveat == "Of 10 paired seeds, ArcFace has 6 and AdaLoss has 6 so far: what is said of them is provisional."


def test_failed_runs_are_counted(sound):
    sound.seed_run("winner", "adaloss", 5, None)
    (caveat,) = caveats_of(sound)
    assert caveat == "Runs of the confirmation that failed and count at chance: 1 of 6 (AdaLoss)."


@pytest.mark.parametrize(
    ("history", "raised"),
    [
        ([(50, 4), (60, 6)], False),  # before any result
        ([(50, 4), (150, 6)], True),
        ([(50, 6), (150, 6)], False),  # a resume
        ([(50, 6), (150, 4)], False),
        ([(50, 2), (150, 4), (200, 4), (250, 6)], True),
    ],
)
def test_seeds_added_after_a_look_are_seen(sound, history, raised):
    entries = [{"time": float(when), "seeds": seeds} for when, seeds in history]
    sound.rewrite(confirmation={"seeds": 6, "history": entries})
    found = caveats_of(sound)
    assert bool(found) == raised
    if raised:
        steps = " to ".join(str(n) for n in sorted({seeds for _, seeds in history}))
        assert found[0].startswith(f"Seeds were raised from {steps} after results were there")


@pytest.mark.parametrize("history", [[{}], [{"time": "now", "seeds": "many"}], [{"seeds": 3}, {"seeds": 6}]])
def test_an_odd_history_does_no_harm(sound, history):
    sound.rewrite(confirmation={"seeds": 6, "history": history})
    assert caveats_of(sound) == []


def test_a_loss_that_came_later_is_named_with_what_was_known_by_then(sound):
    sound.rewrite(added_losses={"adaloss": {"time": 200.0}})
    (caveat,) = caveats_of(sound)
    assert caveat.startswith("AdaLoss was added on 1970-01-01, when 6 test results of the others were known: ")
    sound.rewrite(added_losses={"adaloss": {"time": 50.0}})
    (caveat,) = caveats_of(sound)
    assert caveat.startswith("AdaLoss was added on 1970-01-01: ")


@pytest.mark.parametrize("damage", [3, {"adaloss": 200.0}, {"adaloss": {"time": "later"}}])
def test_when_a_loss_was_added_is_checked(sound, damage):
    sound.rewrite(added_losses=damage)
    with pytest.raises(RecordError, match=r"'added_losses' is .*, not times by loss"):
        caveats_of(sound)


def test_test_images_that_are_trained_on_are_named(sound):
    sound.info["dataset"]["test_images_trained_on"] = 1234
    sound.rewrite()
    assert caveats_of(sound) == ["1,234 test images are trained on as well, pixel for pixel: accuracies are too high."]
