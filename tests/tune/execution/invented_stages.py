"""Stages without a run: of studies that a test invents."""

import io
from types import SimpleNamespace

from rich.console import Console

from tune.execution.progress import Progress
from tune.execution.stages import Stage, Stages, never
from tune.interruption import Interruption


def stage_of(studies, **changes):
    """Return a stage whose trials have no configuration and no images."""
    console = Console(file=io.StringIO(), force_terminal=False, width=300)
    trial = SimpleNamespace(to_dict=dict)
    given = {"name": "part-001", "studies": studies, "data": None, "to_trial": lambda suggestion: trial}
    return Stage(**{**given, "progress": Progress(studies, "a stage", console), **changes})


def under_way(*stages):
    """Return stages of which the first is under way."""
    found = Stages((stage for stage in stages), Interruption())
    assert found.go_on()
    return found


def alone(study, said=None):
    """Return what Ray's adaptors see of a stage of one study, whatever it can do; lines that are shown go to a list."""
    progress = SimpleNamespace(update=lambda: None, say=[].append if said is None else said.append)
    return SimpleNamespace(study_of=lambda config: study, progress=progress, current=SimpleNamespace(out_of_time=never))


class Workers:
    """In the place of Ray's idle workers: notes whether they are kept."""

    def __init__(self):
        self.are_kept = True

    def keep(self, tune_controller, trial):
        """Keep them."""

    def let_go(self):
        self.are_kept = False
