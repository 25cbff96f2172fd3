"""Arms, which are losses and controls: what each is called, how it is drawn, and what is compared with what.

A loss that is not known here is one like any other: it has its own name, a look of its own, and is held against the
reference and against the losses without a margin.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tune.records.roles import ADAPTIVE, CONTROLS_OF, GATED, PERMUTED

__all__ = [
    "ARMS",
    "BASELINES",
    "Arm",
    "Group",
    "Kind",
    "Look",
    "Pair",
    "compared",
    "compared_draws",
    "compared_speeds",
    "group_of",
    "looks_of",
    "name_of",
]


@dataclass(frozen=True)
class Look:
    """How an arm is drawn.

    Args:
        colour: "#rrggbb", told apart from the others by the colour-blind.
        dash: of lines.
        symbol: of points.
    """

    colour: str
    dash: str = "solid"
    symbol: str = "circle"


Group = Literal["baseline", "peer", "ours", "control"]


@dataclass(frozen=True)
class Arm:
    """A loss or a control.

    Args:
        name: for people.
        look: in pictures.
        group: what it is here: a baseline has no margin and is what every margin has to beat.
    """

    name: str
    look: Look
    group: Group


# Five are Okabe and Ito's, "Color Universal Design", 2008; the other losses differ from them and from each other by 15
# or more in CIELAB, to normal and to red- or green-blind eyes. Controls are shades of what they are made of.
ARMS = {
    "adaloss": Arm("AdaLoss", Look("#D55E00"), "ours"),
    "adaloss_per_class": Arm("AdaLoss per class", Look("#E69F00", symbol="triangle-down"), "ours"),
    "adaloss_quantile": Arm("quantile AdaLoss", Look("#DD1133", symbol="triangle-left"), "ours"),
    "adaloss_relative": Arm("relative AdaLoss", Look("#FF00DD", symbol="triangle-right"), "ours"),
    "adaloss_trapezoid": Arm("trapezoid AdaLoss", Look("#552222", symbol="hexagon"), "ours"),
    "arcface": Arm("ArcFace", Look("#0072B2", symbol="square"), "peer"),
    "cosface": Arm("CosFace", Look("#0099FF", symbol="triangle-ne"), "peer"),
    "adacos": Arm("AdaCos", Look("#337733", symbol="triangle-nw"), "peer"),
    "curricularface": Arm("CurricularFace", Look("#1111AA", symbol="triangle-se"), "peer"),
    "elasticface": Arm("ElasticFace-Arc", Look("#4400DD", symbol="cross"), "peer"),
    "elasticface_cos": Arm("ElasticFace-Cos", Look("#EE88DD", symbol="x"), "peer"),
    "kappaface": Arm("KappaFace", Look("#992288", symbol="octagon"), "peer"),
    "mr2": Arm("MR2", Look("#8833DD", symbol="star"), "peer"),
    "softmax": Arm("softmax", Look("#009E73", symbol="diamond"), "baseline"),
    "norm_softmax": Arm("normalised softmax", Look("#CC79A7", symbol="triangle-up"), "baseline"),
    "mean_margin": Arm("mean-margin ArcFace", Look("#4A94C8", "dash", "square-open"), "control"),
    "final_margin": Arm("final-margin ArcFace", Look("#2C5E86", "dot", "diamond-open"), "control"),
    "linear_ramp": Arm("linear-ramp ArcFace", Look("#7DA7CC", "dashdot", "triangle-up-open"), "control"),
    GATED: Arm("gated ArcFace", Look("#56B4E9", "longdash", "circle-open"), "control"),
    "yoked_replay": Arm("yoked-replay ArcFace", Look("#5B7C99", "longdashdot", "triangle-down-open"), "control"),
    "gate_off": Arm("ungated AdaLoss", Look("#8F3F00", "dash", "cross-open"), "control"),
    PERMUTED: Arm("permuted relative AdaLoss", Look("#B3669F", "dash", "triangle-right-open"), "control"),
}
BASELINES = tuple(arm for arm, known in ARMS.items() if known.group == "baseline")

# These differ as much, from the losses above and from each other.
_FURTHER = (
    Look("#553300", symbol="pentagon"),
    Look("#44BB66", symbol="hexagram"),
    Look("#882255", symbol="hourglass"),
    Look("#332288", symbol="bowtie"),
    Look("#550055", symbol="star-square"),
)


def name_of(arm: str) -> str:
    """Return the name of an arm; one that is not known keeps its own, without what no terminal should get."""
    return ARMS[arm].name if arm in ARMS else "".join(c if c.isprintable() else "?" for c in arm)


def group_of(arm: str) -> Group:
    """Return the group of an arm; a loss that is not known is a peer."""
    return ARMS[arm].group if arm in ARMS else "peer"


def looks_of(arms: Iterable[str]) -> dict[str, Look]:
    """Return how arms are drawn that are shown together: no two of them alike.

    One that is not known gets a look by its name, so that it mostly has the same in every report; where two names ask
    for the same one, the later takes the next that is free.
    """
    looks: dict[str, Look] = {}
    free: list[int] = []
    rounds = -1  # how often all further looks have been given away
    for arm in dict.fromkeys(arms):
        if arm in ARMS:
            looks[arm] = ARMS[arm].look
            continue
        if not free:
            free, rounds = list(range(len(_FURTHER))), rounds + 1
        asked = zlib.crc32(arm.encode(errors="backslashreplace"))
        place = min(free, key=lambda place: (place - asked) % len(_FURTHER))
        free.remove(place)
        look = _FURTHER[place]
        looks[arm] = replace(look, colour=_paler(look.colour, rounds)) if rounds else look
    return looks


def _paler(colour: str, steps: int) -> str:
    """Return a colour with less and less of it in white."""
    share = 0.6**steps
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02X}" for part in parts)


# --- What is compared with what --------------------------------------------------------------------------------------

Kind = Literal["primary", "baseline", "control"]


@dataclass(frozen=True)
class Pair:
    """Two arms that are compared.

    Args:
        kind: primary (a loss against the reference), baseline (a margin against none), control (a loss against a
            variant of itself).
        first: the arm that may be better.
        second: what it is held against.
    """

    kind: Kind
    first: str
    second: str


def compared(losses: Sequence[str], reference: str, controls: Sequence[str] = ()) -> list[Pair]:
    """Return all comparisons of a confirmation, the primary ones first, no two of the same arms.

    - primary: every loss with a margin against the reference. Where no loss has one, every loss against it.
    - baseline: every loss with a margin, the reference too, against each loss without one.
    - control: a loss that has controls, as AdaLoss, against each of them.

    Args:
        losses: that are there.
        reference: what the others are held against; it need not be there.
        controls: that are there.
    """
    with_margin = [loss for loss in _in_order(losses, reference) if loss not in BASELINES]
    baselines = [loss for loss in BASELINES if loss in losses]
    pairs: list[Pair] = []
    if reference in losses:
        pairs += [Pair("primary", loss, reference) for loss in with_margin or baselines if loss != reference]
    pairs += [Pair("baseline", loss, other) for other in baselines if other != reference for loss in with_margin]
    for loss, known in CONTROLS_OF.items():
        if loss in losses:
            pairs += [Pair("control", loss, control) for control in known if control in controls]
    return pairs


def _in_order(losses: Sequence[str], reference: str) -> list[str]:
    """Return the known losses, then the others as they were asked for, the reference last."""
    known = [arm for arm in ARMS if arm in losses]
    return sorted(dict.fromkeys([*known, *losses]), key=lambda loss: loss == reference)


def compared_speeds(losses: Sequence[str], reference: str) -> list[Pair]:
    """Return whose speed of learning is compared: the losses and the reference, and the losses and each baseline.

    That of the reference and a baseline is no news where other losses are there.
    """
    pairs = compared(losses, reference)
    return [pair for pair in pairs if pair.first != reference] or pairs


def compared_draws(arms: Sequence[str], reference: str) -> list[Pair]:
    """Return whose random draws are compared: the losses', and those of the gated ArcFace, the one control with any."""
    pairs = compared([arm for arm in arms if arm != GATED], reference)
    gated = [Pair("control", ADAPTIVE, GATED), Pair("control", GATED, "arcface")]
    return [
        *(pair for pair in pairs if pair.kind == "primary"),
        *(pair for pair in gated if {pair.first, pair.second} <= set(arms)),
        *(pair for pair in pairs if pair.kind == "baseline"),
    ]
