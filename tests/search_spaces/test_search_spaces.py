"""What every search space keeps to: equal shared parts, the protocol's ranges, and configurations that train."""

import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

import search_spaces
from search_spaces import SEARCH_SPACES, Parameter, SearchSpace
from search_spaces.common import SHARED
from trainables.config import TrialConfig
from trainables.losses import LOSSES

DRAWS = 200

# The protocol's ranges: (low, high, logarithmic) or the choices.
SHARED_RANGES: dict[str, Any] = {
    "learning_rate": (0.01, 1.0, True),
    "head_learning_rate_multiplier": (0.3, 10.0, True),
    "weight_decay": (1e-5, 1e-2, True),
    "label_smoothing": (0.0, 0.1),
}
SCALE: dict[str, Any] = {"scale": (4.0, 64.0, True)}
MARGIN: dict[str, Any] = {"margin_rad": (0.0, 0.6, False)}
RULE: dict[str, Any] = {
    "rate_up_rad_per_epoch": (0.01, 1.0, True),
    "rate_down_rad_per_epoch": (0.01, 1.0, True),
    "difficulty": ("error", "gap"),
    "target_error": (0.005, 0.5, True),
    "target_gap": (0.2, 0.45, False),
}
SPREAD: tuple[Any, ...] = (0.005, 0.1, True)
RATES: dict[str, Any] = {key: RULE[key] for key in ("rate_up_rad_per_epoch", "rate_down_rad_per_epoch")}
OWN_RANGES: dict[str, dict[str, Any]] = {
    "adacos": {},
    "softmax": {},
    "norm_softmax": SCALE,
    "arcface": SCALE | MARGIN,
    "cosface": SCALE | {"margin": MARGIN["margin_rad"]},
    "curricularface": SCALE | MARGIN,
    "mr2": {"temperature": (0.25, 4.0, True), "representation_weight": (0.01, 1.0, True)},
    "elasticface": SCALE | MARGIN | {"margin_std_rad": SPREAD},
    "elasticface_cos": SCALE | {"margin": MARGIN["margin_rad"], "margin_std": SPREAD},
    "adaloss_relative": SCALE | MARGIN | {"strength": (-1.0, 1.0, False), "difficulty": ("error", "gap")},
    "kappaface": SCALE
    | {"margin_rad": (0.0, 1.2, False), "gamma": (0.0, 1.0, False), "temperature": (0.05, 1.0, False)},
    "adaloss_quantile": SCALE
    | MARGIN
    | RATES
    | {"quantile": (0.005, 0.5, True), "target_angle_gap_rad": (0.0, 0.6, False)},
    "adaloss_trapezoid": SCALE
    | MARGIN
    | {"difficulty": ("error", "gap"), "plateau_from": (0.005, 0.2, True)}
    | {"plateau_until": (0.2, 0.5, False), "zero_from": (0.55, 1.0, False)},
    "adaloss": SCALE | MARGIN | RULE,
    "adaloss_per_class": SCALE | MARGIN | RULE,
}
ADAPTIVE = ("adaloss", "adaloss_per_class")

each_space = pytest.mark.parametrize("name", SEARCH_SPACES)


def study(seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), direction="maximize")


def draws(name: str, count: int = DRAWS, seed: int = 0) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    running = study(seed)
    trials = [running.ask() for _ in range(count)]
    return [(trial, SEARCH_SPACES[name].suggest(trial)) for trial in trials]


def build_loss(config: TrialConfig) -> Any:
    arguments = dict(config.loss_args)
    if "steps_per_epoch" in inspect.signature(LOSSES[config.loss]).parameters:
        arguments["steps_per_epoch"] = 10
    return LOSSES[config.loss](
        config.embedding_dim, num_classes=10, label_smoothing=config.label_smoothing, **arguments
    )


def test_every_loss_has_a_space_and_every_space_a_loss() -> None:
    controls_only = {"arcface_schedule", "adaloss_relative_permuted"}
    assert set(SEARCH_SPACES) == set(LOSSES) - controls_only
    assert all(space.loss == name for name, space in SEARCH_SPACES.items())
    assert [name for name in SEARCH_SPACES if name in OWN_RANGES] == list(OWN_RANGES)  # in this order


@pytest.fixture
def new_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], dict[str, SearchSpace]]:
    """Puts a module into the package and returns the spaces that are then collected."""

    def put(source: str) -> dict[str, SearchSpace]:
        (tmp_path / "invented.py").write_text(f"from search_spaces.common import SCALE, SearchSpace\n{source}")
        monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(tmp_path)])
        monkeypatch.delitem(sys.modules, "search_spaces.invented", raising=False)
        try:
            return search_spaces._collected()
        finally:
            sys.modules.pop("search_spaces.invented", None)

    return put


def test_a_space_is_found_wherever_it_is_in_the_package(new_module: Callable[[str], dict[str, SearchSpace]]) -> None:
    found = new_module(
        'A = SearchSpace("zeta")\nB = SearchSpace("beta", own=(SCALE,), own_points=({"scale": 8.0},) * 2)'
    )
    assert set(found) == {*SEARCH_SPACES, "zeta", "beta"}
    assert list(found)[:5] == [
        "adacos",
        "softmax",
        "zeta",
        "beta",
        "norm_softmax",
    ]  # fewer parameters first, then by name
    assert all(found[name] is SEARCH_SPACES[name] for name in SEARCH_SPACES)


def test_two_spaces_of_a_loss_are_an_error(new_module: Callable[[str], dict[str, SearchSpace]]) -> None:
    with pytest.raises(ValueError, match=r"search_spaces\.invented: there is another search space of arcface"):
        new_module('A = SearchSpace("arcface")')


@each_space
def test_every_draw_builds_a_trial_and_its_loss(name: str) -> None:
    for _, values in draws(name):
        config = TrialConfig.from_dict({**values, "model": "ArcFaceCNN", "max_epochs": 2})
        loss = build_loss(config)
        assert type(loss) is LOSSES[name]
        assert loss.label_smoothing == config.label_smoothing
        if "scale" in values["loss_args"]:
            assert loss.scale == values["loss_args"]["scale"]


@each_space
def test_every_draw_is_in_range_and_used(name: str) -> None:
    parameters = {p.name: p for p in SEARCH_SPACES[name].parameters}
    for trial, values in draws(name):
        assert all(
            parameters[key].distribution._contains(trial.distributions[key].to_internal_repr(value))
            for key, value in trial.params.items()
        )
        used = {**values, **values["loss_args"]}
        for key, value in trial.params.items():
            assert used[parameters[key].argument or key] == value


@pytest.mark.parametrize("name", OWN_RANGES)
def test_ranges_are_the_protocols(name: str) -> None:
    found: dict[str, Any] = {}
    for parameter in SEARCH_SPACES[name].parameters:
        match parameter.distribution:
            case FloatDistribution(low=low, high=high, log=log, step=None):
                found[parameter.name] = (low, high, log)
            case CategoricalDistribution(choices=choices):
                found[parameter.name] = choices
    assert found == SHARED_RANGES | OWN_RANGES[name]


@each_space
def test_the_shared_part_is_the_same_for_every_loss(name: str) -> None:
    assert SEARCH_SPACES[name].parameters[: len(SHARED)] == SHARED
    shared_points = [{key: point[key] for key in SHARED_RANGES} for point in SEARCH_SPACES[name].first_points]
    assert shared_points == [
        {key: point[key] for key in SHARED_RANGES} for point in SEARCH_SPACES["softmax"].first_points
    ]


@each_space
def test_first_points_are_drawn_as_they_are(name: str) -> None:
    space = SEARCH_SPACES[name]
    running = study()
    for point in space.first_points:
        running.enqueue_trial(point)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna only warns of a value outside its range
        for point in space.first_points:
            trial = running.ask()
            values = space.suggest(trial)
            assert trial.params == point  # nothing left over, nothing drawn beside it
            build_loss(TrialConfig.from_dict({**values, "model": "ArcFaceCNN", "max_epochs": 2}))
    assert len(space.first_points) == 2


def test_losses_begin_from_the_same_scales_and_margins() -> None:
    def of(name: str, *keys: str) -> list[tuple[Any, ...]]:
        return [tuple(point[key] for key in keys) for point in SEARCH_SPACES[name].first_points]

    scales = of("norm_softmax", "scale")
    scaled = [name for name in SEARCH_SPACES if name not in ("softmax", "adacos", "mr2")]
    assert all(of(name, "scale") == scales for name in scaled)
    margins = of("arcface", "margin_rad")
    angular = [name for name in scaled if "margin_rad" in OWN_RANGES[name] and name != "kappaface"]
    assert len(angular) == 8
    assert all(of(name, "margin_rad") == margins for name in angular)
    assert of("cosface", "margin") == of("elasticface_cos", "margin") == margins


def test_kappaface_begins_with_the_margins_of_arcface() -> None:
    for space, arcface in zip(
        SEARCH_SPACES["kappaface"].first_points, SEARCH_SPACES["arcface"].first_points, strict=True
    ):
        config = TrialConfig.from_dict(
            {**SEARCH_SPACES["kappaface"].suggest(FixedTrial(space)), "model": "ArcFaceCNN", "max_epochs": 2}
        )
        loss = build_loss(config)
        loss.epochs_seen.fill_(0.1)  # every class as often, and none more concentrated
        assert loss.margin_rad.tolist() == pytest.approx([arcface["margin_rad"]] * 10)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_target_belongs_to_the_kind_of_difficulty(name: str) -> None:
    kinds = set()
    for trial, values in draws(name):
        kind = values["loss_args"]["difficulty"]
        kinds.add(kind)
        assert {"target_error", "target_gap"} & set(trial.params) == {f"target_{kind}"}
        assert values["loss_args"]["target_difficulty"] == trial.params[f"target_{kind}"]
        assert not {"target_error", "target_gap"} & set(values["loss_args"])
    assert kinds == {"error", "gap"}


@each_space
def test_the_sampler_decides_the_draws(name: str) -> None:
    first, again, other = ([values for _, values in draws(name, 5, seed)] for seed in (0, 0, 1))
    assert first == again != other


def test_ranges_in_words() -> None:
    lines = SEARCH_SPACES["adaloss"].describe()
    assert lines == [
        "learning_rate log[0.01, 1]",
        "head_learning_rate_multiplier log[0.3, 10]",
        "weight_decay log[1e-05, 0.01]",
        "label_smoothing {0.0, 0.1}",
        "scale log[4, 64]",
        "margin_rad U[0, 0.6]",
        "rate_up_rad_per_epoch log[0.01, 1]",
        "rate_down_rad_per_epoch log[0.01, 1]",
        "difficulty {error, gap}",
        "target_error log[0.005, 0.5] where difficulty is error",
        "target_gap U[0.2, 0.45] where difficulty is gap",
    ]


@each_space
def test_each_parameter_has_a_line(name: str) -> None:
    space = SEARCH_SPACES[name]
    assert [line.split()[0] for line in space.describe()] == [p.name for p in space.parameters]


def test_whole_numbers_can_be_tuned_too() -> None:
    parameter = Parameter("depth", IntDistribution(2, 5))
    assert {parameter.suggest(study(seed).ask()) for seed in range(30)} == {2, 3, 4, 5}
    assert parameter.describe() == "depth U[2, 5]"
