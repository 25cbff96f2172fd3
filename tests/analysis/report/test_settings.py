"""The settings that matter most, on draws whose accuracies follow from one of them."""

import numpy as np
import pytest

from analysis.loading import load_run
from analysis.report.settings import FEWEST, WORSE, settings_that_matter
from search_spaces import SEARCH_SPACES

DRAWS = 40


@pytest.fixture
def drawn(new_run):
    """A run whose draws have accuracies by a function of their settings; None for one that failed."""

    def make(accuracy_of, draws=DRAWS):
        rng, run = np.random.default_rng(0), new_run("run", ("arcface",))
        space = SEARCH_SPACES["arcface"]
        run.rewrite(search_spaces={"arcface": {"dimensions": 6, "parameters": space.describe()}})
        configs = []
        for pair in range(draws):
            shared = {
                "learning_rate": float(10 ** rng.uniform(-2, 0)),
                "head_learning_rate_multiplier": float(10 ** rng.uniform(-0.5, 1)),
                "weight_decay": float(10 ** rng.uniform(-5, -2)),
                "label_smoothing": float(rng.choice([0.0, 0.1])),
            }
            own = {"scale": float(4 * 16 ** rng.uniform()), "margin_rad": float(rng.uniform(0, 0.6))}
            config = {**shared, "loss": "arcface", "loss_args": own}
            run.seed_run("robustness", "arcface", pair, accuracy_of({**shared, **own}), config=config)
            configs.append({**shared, **own})
        return load_run(run.folder), configs

    return make


def test_the_setting_on_which_accuracy_rests_comes_first_with_its_good_values(drawn):
    run, configs = drawn(lambda config: 0.9 - 0.1 * abs(config["margin_rad"] - 0.2))
    winner = {"loss": "arcface", "loss_args": {"margin_rad": 0.25}}
    found = settings_that_matter(run, "arcface", winner)
    first = found.settings[0]
    assert (found.loss, found.draws, len(found.settings)) == ("arcface", DRAWS, 3)
    assert first.name == "margin_rad"
    assert first.share > 0.8
    assert first.chosen == 0.25
    errors = [0.1 + 0.1 * abs(config["margin_rad"] - 0.2) for config in configs]
    good = [c["margin_rad"] for c, error in zip(configs, errors, strict=True) if error <= WORSE * min(errors)]
    assert len(good) > FEWEST
    assert found.good == len(good)
    assert (first.low, first.high) == (min(good), max(good))
    shares = [setting.share for setting in found.settings]
    assert shares == sorted(shares, reverse=True)
    assert found.settings[1].chosen is None


def test_a_choice_has_the_values_of_good_draws(drawn):
    run, _ = drawn(lambda config: 0.9 if config["label_smoothing"] else 0.6)
    first = settings_that_matter(run, "arcface", None).settings[0]
    assert (first.name, first.choices, first.low, first.high) == ("label_smoothing", (0.1,), None, None)


def test_where_only_one_draw_is_good_the_five_best_count(drawn):
    run, configs = drawn(lambda config: 1 - config["margin_rad"] ** 2)
    found = settings_that_matter(run, "arcface", None)
    margins = sorted(config["margin_rad"] for config in configs)
    assert margins[1] ** 2 > WORSE * margins[0] ** 2  # otherwise this says nothing
    assert found.good == FEWEST
    (margin,) = (setting for setting in found.settings if setting.name == "margin_rad")
    assert (margin.low, margin.high) == (margins[0], margins[FEWEST - 1])


def test_draws_that_failed_count_at_chance(drawn):
    run, configs = drawn(lambda config: None if config["margin_rad"] > 0.3 else 0.9)
    found = settings_that_matter(run, "arcface", None)
    assert found.settings[0].name == "margin_rad"
    assert found.settings[0].high == max(c["margin_rad"] for c in configs if c["margin_rad"] <= 0.3)


@pytest.mark.parametrize("accuracy_of", [lambda config: 0.9, lambda config: None])
def test_draws_that_are_all_alike_say_nothing(drawn, accuracy_of):
    assert settings_that_matter(drawn(accuracy_of)[0], "arcface", None) is None


def test_too_few_draws_say_nothing(drawn):
    assert settings_that_matter(drawn(lambda config: config["margin_rad"], draws=9)[0], "arcface", None) is None
