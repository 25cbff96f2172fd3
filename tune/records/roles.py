"""What losses and runs of a confirmation are for: what whoever writes records shares with whoever reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "ADAPTIVE",
    "CONTROLS",
    "CONTROLS_OF",
    "GATED",
    "JUDGED_ON_VALIDATION",
    "NAMED_EACH_TIME",
    "PERMUTED",
    "RELATIVE",
    "ROLES",
    "code_options",
    "controlled_loss",
    "default_reference",
]

ROLES = ("candidate", "winner", "untuned", "control", "robustness")
JUDGED_ON_VALIDATION = frozenset({"candidate", "robustness"})  # the other roles are judged on the test split

ADAPTIVE = "adaloss"  # the loss whose adaptivity the controls test
GATED = "gated"  # the control that the random draws have as well
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", GATED, "yoked_replay", "gate_off")
NAMED_EACH_TIME = frozenset({"file", "package"})  # kinds of code that a user has to name, see trainables/loss_code.py
RELATIVE, PERMUTED = "adaloss_relative", "adaloss_relative_permuted"  # another loss, and its control, a loss too
CONTROLS_OF = {ADAPTIVE: CONTROLS, RELATIVE: (PERMUTED,)}  # by loss


def controlled_loss(control: str) -> str:
    """Return the loss that a control is held against; AdaLoss for one that is not known."""
    return next((loss for loss, controls in CONTROLS_OF.items() if control in controls), ADAPTIVE)


def default_reference(losses: Sequence[str]) -> str:
    """Return what the losses of a run are held against unless it says otherwise; "" for no losses."""
    if "arcface" in losses and any(loss.split("_")[0] == ADAPTIVE for loss in losses):
        return "arcface"
    return losses[0] if losses else ""


def code_options(settings: Mapping[str, Any], losses: Iterable[str] | None = None) -> list[str]:
    """Return the words of a command line that name the code of a run's own losses; what only a record names is not run.

    Args:
        settings: as ``run.json`` has them.
        losses: those whose code is wanted; None for all.
    """
    own = settings.get("own_losses")
    codes = [code for code in (own if isinstance(own, list) else ()) if isinstance(code, dict)]
    wanted = {code.get("name") for code in codes} if losses is None else set(losses)
    return [
        word
        for code in codes
        if code.get("kind") in NAMED_EACH_TIME and code.get("name") in wanted
        for word in ("--loss", str(code.get("reference")))
    ]
