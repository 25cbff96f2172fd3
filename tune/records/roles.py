"""What the runs of a confirmation are for: names that whoever writes records shares with whoever reads them."""

__all__ = ["ADAPTIVE", "CONTROLS", "GATED", "JUDGED_ON_VALIDATION", "ROLES"]

ROLES = ("candidate", "winner", "untuned", "control", "robustness")
JUDGED_ON_VALIDATION = frozenset({"candidate", "robustness"})  # the other roles are judged on the test split

ADAPTIVE = "adaloss"  # the loss whose adaptivity the controls test
GATED = "gated"  # the control that the random draws have as well
CONTROLS = ("mean_margin", "final_margin", "linear_ramp", GATED, "yoked_replay", "gate_off")
