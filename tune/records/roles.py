"""What losses and runs of a confirmation are for: what whoever writes records shares with whoever reads them."""

from collections.abc import Sequence

__all__ = [
    "ADAPTIVE",
    "CONTROLS",
    "CONTROLS_OF",
    "GATED",
    "JUDGED_ON_VALIDATION",
    "PERMUTED",
    "RELATIVE",
    "ROLES",
    "controlled_loss",
    "default_reference",
]

ROLES = ("candidate", "winner", "untuned", "control", "robustness")
JUDGED_ON_VALIDATION = frozenset({"candidate", "robustness"})  # the other roles are judged on the test split

ADAPTIVE = "adaloss"  # the loss whose adaptivity the controls test
GATED = "gated"  # the control that the random draws have as well
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", GATED, "yoked_replay", "gate_off")
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
