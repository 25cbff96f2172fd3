"""What losses and runs of a confirmation are for: what whoever writes records shares with whoever reads them."""

from collections.abc import Sequence

__all__ = ["ADAPTIVE", "CONTROLS", "GATED", "JUDGED_ON_VALIDATION", "ROLES", "default_reference"]

ROLES = ("candidate", "winner", "untuned", "control", "robustness")
JUDGED_ON_VALIDATION = frozenset({"candidate", "robustness"})  # the other roles are judged on the test split

ADAPTIVE = "adaloss"  # the loss whose adaptivity the controls test
GATED = "gated"  # the control that the random draws have as well
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", GATED, "yoked_replay", "gate_off")


def default_reference(losses: Sequence[str]) -> str:
    """Return what the losses of a run are held against unless it says otherwise; "" for no losses."""
    if "arcface" in losses and not {ADAPTIVE, "adaloss_per_class"}.isdisjoint(losses):
        return "arcface"
    return losses[0] if losses else ""
