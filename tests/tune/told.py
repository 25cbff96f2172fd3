"""What a command says, apart from what it says of its start."""

import re
from types import SimpleNamespace

_STEP = re.compile(r"^\d+:\d\d:\d\d start: .*\n", re.MULTILINE)


def without_start(out):
    """Return an output without the lines that tell what is done until the first trials run."""
    return _STEP.sub("", out)


def steps_in(out):
    """Return what these lines say."""
    return [line.partition(" start: ")[2].rstrip() for line in _STEP.findall(out)]


def no_findings(folders):
    """Take the place of `load_findings`: a run that is confirmed, and of which nothing is known."""
    run = SimpleNamespace(info={}, folder=folders[0], losses=("softmax",))
    return [SimpleNamespace(run=run, accuracies=("some",), main_verdicts=())]
