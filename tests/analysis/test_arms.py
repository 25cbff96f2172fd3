"""What arms are called, how they look, and which are compared."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.arms import (
    _FURTHER,
    ARMS,
    BASELINES,
    Pair,
    compared,
    compared_draws,
    compared_speeds,
    group_of,
    looks_of,
    name_of,
)
from search_spaces import SEARCH_SPACES
from tune.records.roles import CONTROLS, CONTROLS_OF, PERMUTED, controlled_loss, default_reference

DEFAULT = ("arcface", "adaloss", "softmax")
loss_lists = st.lists(st.sampled_from(["arcface", "adaloss", "adaloss_per_class", *BASELINES, "a", "b"]), unique=True)


def texts(pairs):
    return [f"{pair.kind}: {pair.first} - {pair.second}" for pair in pairs]


# --- What is compared ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", itertools.permutations(DEFAULT))
def test_the_default_losses_are_compared_as_the_protocol_says(losses):
    assert default_reference(losses) == "arcface"
    assert texts(compared(losses, "arcface", [*CONTROLS, "other"])) == [
        "primary: adaloss - arcface",
        "baseline: adaloss - softmax",
        "baseline: arcface - softmax",
        *(f"control: adaloss - {control}" for control in CONTROLS),
    ]
    assert texts(compared_speeds(losses, "arcface")) == ["primary: adaloss - arcface", "baseline: adaloss - softmax"]
    assert texts(compared_draws([*losses, "gated"], "arcface")) == [
        "primary: adaloss - arcface",
        "control: adaloss - gated",
        "control: gated - arcface",
        "baseline: adaloss - softmax",
        "baseline: arcface - softmax",
    ]


@pytest.mark.parametrize(
    ("losses", "reference", "pairs"),
    [
        ("arcface sphereface", "arcface", ["primary: sphereface - arcface"]),
        ("sphereface arcface", "sphereface", ["primary: arcface - sphereface"]),
        (
            "sphereface adaloss arcface softmax",
            "sphereface",
            [
                "primary: adaloss - sphereface",
                "primary: arcface - sphereface",
                *(f"baseline: {loss} - softmax" for loss in ("adaloss", "arcface", "sphereface")),
            ],
        ),
        ("arcface softmax", "arcface", ["baseline: arcface - softmax"]),
        ("arcface softmax", "softmax", ["primary: arcface - softmax"]),
        ("softmax norm_softmax", "softmax", ["primary: norm_softmax - softmax"]),
        ("softmax norm_softmax", "norm_softmax", ["primary: softmax - norm_softmax"]),
        (
            "sphereface softmax norm_softmax",
            "softmax",
            ["primary: sphereface - softmax", "baseline: sphereface - norm_softmax"],
        ),
        ("adaloss softmax", "arcface", ["baseline: adaloss - softmax"]),  # the reference is not there yet
        ("arcface", "arcface", []),
        ("", "", []),
    ],
)
def test_every_loss_is_held_against_the_reference_and_the_baselines(losses, reference, pairs):
    assert texts(compared(losses.split(), reference)) == pairs


@given(losses=loss_lists, data=st.data())
def test_whatever_the_losses_each_has_a_comparison_and_no_pair_comes_twice(losses, data):
    reference = data.draw(st.sampled_from(losses)) if losses else ""
    for pairs in (compared(losses, reference), compared_draws(losses, reference)):
        unordered = [frozenset((pair.first, pair.second)) for pair in pairs]
        assert len(set(unordered)) == len(unordered)
        assert all(len(pair) == 2 and pair <= set(losses) for pair in unordered)
        if len(losses) > 1:
            assert set().union(*unordered) == set(losses)
    assert bool(compared_speeds(losses, reference)) == (len(losses) > 1)


@pytest.mark.parametrize(
    ("losses", "reference"),
    [
        ("softmax adaloss arcface", "arcface"),
        ("adaloss_per_class arcface", "arcface"),
        ("adaloss_relative cosface arcface", "arcface"),
        ("cosface arcface", "cosface"),
        ("softmax arcface", "softmax"),
        ("adaloss softmax", "adaloss"),
        ("sphereface adaloss", "sphereface"),
        ("", ""),
    ],
)
def test_the_reference_is_arcface_beside_adaloss_and_the_first_loss_elsewhere(losses, reference):
    assert default_reference(losses.split()) == reference


def test_draws_of_the_gated_arcface_need_both_losses_that_it_is_between():
    assert Pair("control", "gated", "arcface") not in compared_draws(["adaloss", "gated"], "adaloss")
    assert Pair("control", "adaloss", "gated") in compared_draws(["adaloss", "gated"], "adaloss")


# --- Names and looks -------------------------------------------------------------------------------------------------


def test_every_control_has_a_name_and_a_look():
    controls = {control for known in CONTROLS_OF.values() for control in known}
    assert {arm for arm, known in ARMS.items() if known.group == "control"} == controls
    assert len({arm.name for arm in ARMS.values()}) == len(ARMS)
    assert len({arm.look.symbol for arm in ARMS.values()} | {look.symbol for look in _FURTHER}) == len(ARMS) + 5


def test_every_loss_that_is_searched_has_a_name_and_a_group():
    assert set(SEARCH_SPACES) == {arm for arm, known in ARMS.items() if known.group != "control"}
    assert {group_of(loss) for loss in SEARCH_SPACES if loss.startswith("adaloss")} == {"ours"}
    assert group_of("adacos") == group_of("sphereface") == "peer"
    assert BASELINES == ("softmax", "norm_softmax")


def test_each_loss_is_held_against_its_own_controls():
    losses = ("arcface", "adaloss_relative", "adaloss")
    assert texts(compared(losses, "arcface", [PERMUTED, "gated"])) == [
        "primary: adaloss - arcface",
        "primary: adaloss_relative - arcface",
        "control: adaloss - gated",
        f"control: adaloss_relative - {PERMUTED}",
    ]
    assert texts(compared(["arcface", "adaloss_relative"], "arcface", [PERMUTED, "gated"])) == [
        "primary: adaloss_relative - arcface",
        f"control: adaloss_relative - {PERMUTED}",
    ]
    assert [controlled_loss(control) for control in (PERMUTED, "gated", "of another version")] == [
        "adaloss_relative",
        "adaloss",
        "adaloss",
    ]


def test_what_is_not_known_keeps_its_name():
    assert name_of("sphereface") == "sphereface"
    assert name_of("a\x1b[2J") == "a?[2J"


def test_known_arms_look_as_ever_whatever_is_beside_them():
    assert looks_of([*ARMS, "sphereface"]) == {
        **{arm: known.look for arm, known in ARMS.items()},
        **looks_of(["sphereface"]),
    }


@given(st.lists(st.text(), unique=True, max_size=25))
def test_no_two_arms_that_are_shown_together_have_a_colour_in_common(arms):
    looks = looks_of([*ARMS, *arms])
    assert len({look.colour for look in looks.values()}) == len(looks)
    assert looks == looks_of([*ARMS, *arms, *arms])  # the same again, and an arm that comes twice is one


def test_looks_of_unknown_arms_go_by_name():
    names = [f"loss{number}" for number in range(40)]
    alone = {name: looks_of([name])[name] for name in names}
    assert set(alone.values()) == set(_FURTHER)
    first, second = next((a, b) for a, b in itertools.combinations(names, 2) if alone[a] == alone[b])
    together = looks_of([first, second])
    assert together[first] == alone[first]
    assert together[second] in set(_FURTHER) - {alone[second]}


# Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.0.
EYES = {
    "normal": np.eye(3),
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def cielab(colour, eyes):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(EYES[eyes]) @ linear, 0, 1)
    x, y, z = np.cbrt(np.maximum(np.array(TO_XYZ) @ seen / [0.9505, 1.0, 1.089], 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
def test_losses_are_told_apart_by_all_eyes(eyes):
    colours = [known.look.colour for known in ARMS.values() if known.group != "control"]
    colours += [look.colour for look in _FURTHER]
    for first, second in itertools.combinations(colours, 2):
        assert np.linalg.norm(cielab(first, eyes) - cielab(second, eyes)) > 15, (first, second)
    assert all(cielab(colour, eyes)[0] < 75 for colour in colours)  # far enough from the white of the page
