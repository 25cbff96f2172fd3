"""The commands as a person at a terminal uses them: what is seen, and the printed commands, pasted into a shell."""

import os
import re
import shlex
import signal
import sys

import pexpect
import pytest

from analysis.loading import load_run
from tests.test_project import PROJECT
from tests.tune.conftest import is_a_users

COLUMNS = 76
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
TINY = "--dataset digits --loss arcface --loss softmax --trials 1 --max-epochs 12 --candidates 1 --candidate-seeds 1"


@pytest.fixture
def shell(tmp_path):
    """Runs a line in a shell at a terminal, in a folder with an awkward name where `adaloss` is installed."""
    place, programs = tmp_path / "it's mine", tmp_path / "bin"
    place.mkdir()
    programs.mkdir()
    program = programs / "adaloss"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PROJECT)!r})\nfrom tune.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if is_a_users(name)}
    environment |= {"PATH": f"{programs}{os.pathsep}{environment['PATH']}", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    environment.pop("COLUMNS", None)
    started = []

    def run(line):
        words = ["-c", f"exec {line}"]  # in place of the shell, which Ctrl-C would end as well
        options = {"cwd": str(place), "env": environment, "dimensions": (40, COLUMNS), "encoding": "utf-8"}
        # Tests that are run in the background ignore Ctrl-C, and what they start would, too.
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        started.append(pexpect.spawn("/bin/sh", words, timeout=400, **options))
        return started[-1]

    yield run
    for process in started:
        process.close(force=True)


def ended(process):
    """Wait for a program's end; return its exit code and what it wrote since it was last looked at, as plain text."""
    process.expect(pexpect.EOF)
    process.close()
    return process.exitstatus, CONTROL.sub("", process.before)


def test_the_first_seconds_are_told_and_wrong_data_still_is_one_line(shell):
    process = shell(f"{sys.executable} {PROJECT}/tune/run_search.py --dataset digits --model ArcFaceCNN_CIFAR10")
    process.expect("start: loading Ray for results/digits-")
    process.expect("start: reading digits")
    code, out = ended(process)
    assert code == 2
    assert out.rstrip().splitlines()[-1] == (
        "error: --model ArcFaceCNN_CIFAR10 does not take the 28x28x1 images of digits"
    )


def printed_after(out, words):
    """The line that follows words, or is below them, as a person would copy it."""
    return next(line.strip() for line in out.partition(words)[2].splitlines() if line.strip())


@pytest.mark.slow
def test_what_a_search_prints_to_go_on_with_can_be_pasted(shell, tmp_path):
    """`adaloss` from a folder with a quote in its name, runs in one with a space; interrupted, resumed, looked at."""
    process = shell(f"adaloss search {TINY} --confirm-seeds 2 --output 'my runs' --name one")
    process.expect("start: starting Ray on this machine")
    process.expect("waiting for the first epoch")
    process.expect(r"#0 e\d")
    process.sendintr()
    code, out = ended(process)
    assert code == 130
    go_on = printed_after(out, "go on with: ")
    assert shlex.split(go_on) == ["adaloss", "search", "--resume", "--output", "my runs", "--name", "one"]

    code, out = ended(shell(go_on))
    assert code == 0, out
    ending = out[out.index("Verdict on digits") :]
    lines = ending.splitlines()
    commands = [line for line in lines if line.startswith("    adaloss ")]
    assert max(len(line) for line in lines if line not in commands and "runs/one" not in line) <= COLUMNS
    assert ending.index("ArcFace - softmax") < ending.index("page: my runs/one/report.html") < ending.index("next:")
    assert "weights: my runs/one/winner_arcface.pt, my runs/one/winner_softmax.pt" in ending
    assert 2 <= len(commands) <= 3

    code, out = ended(shell(printed_after(ending, "see every table and test behind this:")))
    assert code == 0
    assert "Test accuracy" in out
    process = shell(printed_after(ending, "see it as a live page:"))
    process.expect(r"live page: http://127\.0\.0\.1:\d+/|port 8050")  # which another program may have
    if "live page" in process.after:
        process.sendintr()
        assert ended(process)[0] in {0, 130}
    more = [line.strip() for line in commands if "confirm" in line]
    if more:  # the seeds decide whether more of them are advised; the command is the same in form
        assert re.fullmatch(r"adaloss confirm 'my runs/one' --confirm-seeds \d+", more[0])
    code, out = ended(shell("adaloss confirm 'my runs/one' --confirm-seeds 3"))
    assert code == 0
    assert "n 3" in out.partition("Verdict on digits")[2]
    assert load_run(tmp_path / "it's mine" / "my runs" / "one").arms("winner")
