"""What a user does on a launched cluster, what happens to its hosts meanwhile, and what becomes of a search on them.

One cluster goes through all of it, since a launch takes its time: each test leaves it with all its hosts. Nothing is
lost, nothing is done twice.
"""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.hosts import HOME, PROJECT, wait_for
from tests.cluster.launched import (
    assert_complete,
    epochs_of,
    events_of,
    launched,
    lines_of,
    nodes_of,
)
from tests.cluster.strikes import assert_went_on_elsewhere, struck
from tests.tune.told import without_start
from tune.records import read_records

pytestmark = pytest.mark.cluster
REAL_DATA = Path(os.environ.get("ADALOSS_DATA", PROJECT.parent / "shared" / "data"))
TRAIN_SIZE, VALIDATION_SIZE = 500, 5000
IMAGE_BYTES = (TRAIN_SIZE + VALIDATION_SIZE) * 3 * 32 * 32
LOSS = ("softmax",)
TRIALS = 3  # one for each host


def full_length(epochs):
    """Return the options for trials none of which ends early, so that each can be met in the middle.

    Each epoch is saved: a trial need not last until the next checkpoint is due.
    """
    return ("--max-epochs", epochs, "--grace-epochs", epochs, "--no-confirm", "--checkpoint-interval", 0)


SMALL = ("--dataset", "digits", "--model", "ArcFaceCNN", "--train-size", 320, "--loss", *LOSS)
DIGITS = (*SMALL, "--trials", TRIALS, *full_length(20))
SHORT = (*SMALL, "--trials", 1, *full_length(1))


@pytest.fixture(scope="module")
def launched_cluster(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("hosts") / "lab", head=1, left=1, right=1) as cluster:
        cluster.up(wait=False)
        yield cluster


@pytest.fixture
def cluster(launched_cluster):
    """What a test leaves struck is put right, so that one that fails does not take the others with it."""
    yield launched_cluster
    for host in launched_cluster.lab.hosts.values():
        for driver in host.processes("run_search.py", program="python"):
            with contextlib.suppress(psutil.NoSuchProcess):
                driver.kill()
        if host.is_up:
            host.mend()
        else:
            host.start()


def test_a_search_grows_with_its_cluster_does_without_a_host_that_is_cut_off_and_uses_it_again(cluster):
    """It starts when only the head is there; the other hosts join while it runs, and one of them loses its network.

    It is extended when that is back, and another one is preempted, as a cloud does with a spot machine: its programs
    are asked to end, and then it is off.
    """
    left, right = cluster.workers
    output, trial_id, cut_at = struck(
        cluster, "cut", left, left.cut, budget=DIGITS, losses=LOSS, together_with=(cluster.head, right)
    )
    assert "1 at a time" in output
    run = cluster.running("cut")
    assert_complete(run, "digits", LOSS, TRIALS)
    assert nodes_of(run, LOSS) == {host.ip for host in (cluster.head, *cluster.workers)}
    assert_went_on_elsewhere(run, left, trial_id, cut_at)

    left.mend()
    mended_at = time.time()
    cluster.wait_for_hosts(3)
    print(f"{left.name}: a node again {time.time() - mended_at:.1f} s after its cable was back")

    def preempt():
        for process in right.processes("ray"):
            with contextlib.suppress(psutil.NoSuchProcess):  # some end when their parents do
                process.terminate()
        time.sleep(2)
        right.pull_the_plug()

    extension = {"budget": ("--extend", TRIALS), "losses": LOSS, "together_with": (cluster.head, left)}
    _, trial_id, preempted_at = struck(cluster, "cut", right, preempt, **extension)
    assert_complete(run, "digits", LOSS, 2 * TRIALS)
    assert_went_on_elsewhere(run, right, trial_id, preempted_at)
    assert left.ip in {line["node_ip"] for line in lines_of(run, "softmax") if line["time"] > mended_at}


# The command as it is, and then the same function: each program that imports torch and Ray takes its time.
_COMMANDS = """
import json, sys
from tune.console import run_command
from tune.run_search import main
for options in json.loads(sys.argv[1]):
    sys.argv = ["run_search.py", *options]
    try:
        run_command(main)
    except SystemExit as end:
        print("exit", end.code, flush=True)
"""


def test_what_cannot_work_is_refused_at_once_in_one_line(cluster):
    cluster.wait_for_hosts(3)
    refused = [
        (("--gpus-per-trial", "1"), "--gpus-per-trial 1: no machine has more than 0"),
        (("--cpus-per-trial", "2"), "--cpus-per-trial 2: no machine has more than 1"),
        (("--output", "elsewhere"), "does not see what this one writes to"),
        (("--storage", "elsewhere"), "does not see what this one writes to"),
    ]
    calls = [[*map(str, SHORT), "--name", "refused", *options] for options, _ in refused]
    lines = cluster.on_head("python", "run_search.py", *calls[0], check=False).split("\n")
    lines += cluster.on_head("python", "-c", _COMMANDS, json.dumps(calls[1:])).split("\n")
    said = [line for line in without_start("\n".join([*lines, ""])).split("\n") if line.strip() and line != "exit 2"]
    assert lines.count("exit 2") == len(calls) - 1
    assert len(said) == len(calls), said
    for line, (_, message) in zip(said, refused, strict=True):
        assert line.startswith("error: ")
        assert message in line
    assert not (cluster.head.home / "elsewhere").exists()
    assert not cluster.running("refused").exists()


def test_who_has_no_token_cannot_join(cluster):
    command = f"{HOME}/adaloss-env/bin/ray start --address={cluster.head.ip}:6379"
    refused = cluster.laptop.run("bash", "-c", f"RAY_AUTH_MODE=disabled {command}", check=False)
    assert len(cluster.nodes(count=4, seconds=15)) == 3, refused


def test_a_search_on_cifar10_that_was_submitted_as_a_job_outlives_the_death_of_a_worker_host(cluster):
    """Launched, submitted and fetched from a laptop by the documented commands; no trial is lost, none is run twice."""
    if not (REAL_DATA / "cifar10").is_dir():
        pytest.skip(f"the real cifar10 is not in {REAL_DATA}; set ADALOSS_DATA to its data folder")
    left, right = cluster.workers
    cluster.wait_for_hosts(3)
    losses, trials = ("arcface", "adaloss"), 2
    budget = ("--dataset", "cifar10", *(word for loss in losses for word in ("--loss", loss)), "--trials", trials)
    budget += ("--train-size", TRAIN_SIZE, "--batch-size", 50, "--model", "ArcFaceCNN_CIFAR10", *full_length(6))
    cluster.ray("rsync-up", f"{REAL_DATA}/cifar10/", "~/data/cifar10/")
    received_before = left.received_bytes()
    with cluster.dashboard():
        struck_by = {"budget": budget, "losses": losses, "start": cluster.start_job}
        output, trial_id, struck_at = struck(cluster, "cifar", right, right.pull_the_plug, **struck_by)
    assert "succeeded" in output
    received = left.received_bytes() - received_before
    print(f"{left.name} received {received / 1e6:.1f} MB; the images are {IMAGE_BYTES / 1e6:.1f} MB")
    assert IMAGE_BYTES < received < 1.5 * IMAGE_BYTES  # once, whatever number of trials ran there
    fetched = cluster.fetch("cifar")
    assert_complete(fetched, "cifar10", losses, trials)
    assert nodes_of(fetched, losses) >= {left.ip, right.ip}
    assert_went_on_elsewhere(fetched, right, trial_id, struck_at)
    assert (fetched / "report.html").is_file()


MINE = """
import torch
import torch.nn.functional as F
from optuna.distributions import FloatDistribution

from search_spaces import SCALE, Parameter, SearchSpace
from trainables.losses import ClassifierLoss


class MineLoss(ClassifierLoss):
    search_space = SearchSpace("mine", own=(SCALE, Parameter("margin", FloatDistribution(0.0, 0.4))))

    def __init__(self, embedding_dim, num_classes, *, scale, margin, label_smoothing=0.0):
        super().__init__(embedding_dim, num_classes, label_smoothing=label_smoothing)
        self.scale, self.margin = scale, margin
        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_dim))

    def logits(self, embeddings):
        return self.scale * F.linear(F.normalize(embeddings.float()), F.normalize(self.weight))

    def forward(self, embeddings, labels):
        margin = self.scale * self.margin * F.one_hot(labels, self.num_classes)
        return F.cross_entropy(self.logits(embeddings) - margin, labels, label_smoothing=self.label_smoothing)
"""


def test_losses_in_files_of_the_users_are_tuned_killed_resumed_and_confirmed_on_all_hosts(cluster):
    """The files are on one host alone, outside the project; the others are given their text."""
    left, right = cluster.workers
    cluster.wait_for_hosts(3)
    texts = {loss: MINE.replace('"mine"', f'"{loss}"') for loss in ("plain", "mine")}
    for loss, text in texts.items():
        (cluster.head.home / f"{loss}.py").write_text(text)
    own = [word for loss in texts for word in ("--loss", f"{HOME}/{loss}.py:MineLoss")]
    length = [option for option in full_length(20) if option != "--no-confirm"]
    budget = ("--dataset", "digits", "--model", "ArcFaceCNN", "--train-size", 320, *own, "--trials", TRIALS, *length)
    budget += ("--candidates", 1, "--candidate-seeds", 2, "--confirm-seeds", 2)
    losses, run = tuple(texts), cluster.running("own")

    def kill():
        (driver,) = cluster.head.processes("run_search.py", program="python")
        driver.kill()

    struck(cluster, "own", right, kill, budget=budget, losses=losses, together_with=(cluster.head, left), finish=False)
    assert not (run / "confirm.jsonl").exists()
    assert nodes_of(run, losses) == {host.ip for host in (cluster.head, left, right)}

    refused = cluster.search("--resume", "--name", "own", check=False)
    assert f"add --loss {HOME}/plain.py:MineLoss" in refused
    (cluster.head.home / "mine.py").write_text(MINE.replace("0.4", "0.5"))
    refused = cluster.search("--resume", "--name", "own", *own, check=False)
    assert "the code of mine is not what the run was started with" in refused
    (cluster.head.home / "mine.py").write_text(MINE)
    output = cluster.search("--resume", "--name", "own", *own)
    assert "mine - plain = " in output
    assert_complete(run, "digits", losses, TRIALS)
    confirmed = read_records(run / "confirm.jsonl")
    assert {(line["arm"], line["pair"]) for line in confirmed if line["role"] == "winner"} == {
        (loss, pair) for loss in losses for pair in range(2)
    }
    assert {loss: (run / f"loss_{loss}.py").read_text() for loss in losses} == texts


def test_a_search_that_was_told_to_stop_goes_on_and_when_its_head_dies_under_another(cluster):
    left, right = cluster.workers
    cluster.wait_for_hosts(3)
    search = cluster.start_search(*DIGITS, "--name", "stopped")
    run = cluster.running("stopped")
    wait_for(lambda: run.exists() and len(epochs_of(run, "softmax")) >= 5, "it trains", 600)
    (driver,) = cluster.head.processes("run_search.py", program="python")
    driver.send_signal(signal.SIGTERM)
    output, _ = search.communicate(timeout=600)
    assert search.returncode != 0
    assert "3 at a time with 1 CPU each" in output
    assert "go on with: " in output
    assert "interrupted" in {event["event"] for event in events_of(run, "softmax")}

    going_on = {"budget": ("--resume",), "losses": LOSS, "together_with": (cluster.head, left), "finish": False}
    struck(cluster, "stopped", right, cluster.head.pull_the_plug, **going_on)
    before = lines_of(run, "softmax")
    resumed_before = sum(event["event"] == "resumed" for event in events_of(run, "softmax"))

    cluster.head, cluster.workers = right, [left]
    cluster.up()
    assert "page: results/stopped/report.html" in cluster.search("--resume", "--name", "stopped")
    fetched = cluster.fetch("stopped")
    assert_complete(fetched, "digits", LOSS, TRIALS)
    assert lines_of(fetched, "softmax")[: len(before)] == before
    resumed = [e for e in events_of(fetched, "softmax") if e["event"] == "resumed"][resumed_before:]
    assert resumed
    assert any(e["epoch"] > 0 for e in resumed)  # from a checkpoint, which only the shared file system had
    invocations = json.loads((fetched / "run.json").read_text())["invocations"]
    assert [invocation["slots"]["nodes"] for invocation in invocations] == [3, 3, 2]
    assert not (fetched / "checkpoints").exists()
