"""What happens to hosts, and what becomes of a search on them: nothing is lost, nothing is done twice.

One cluster goes through all of it, since a launch takes its time: each test leaves it with all its hosts.
"""

import contextlib
import itertools
import os
import time
from glob import glob
from pathlib import Path

import psutil
import pytest

from tests.cluster.hosts import PROJECT, end, wait_for
from tests.cluster.launched import assert_complete, events_of, launched, lines_of, nodes_of

pytestmark = pytest.mark.cluster
REAL_DATA = Path(os.environ.get("ADALOSS_DATA", PROJECT.parent / "shared" / "data"))
TRAIN_SIZE, VALIDATION_SIZE = 500, 5000
IMAGE_BYTES = (TRAIN_SIZE + VALIDATION_SIZE) * 3 * 32 * 32
LOSS = ("softmax",)
TRIALS = 5


def full_length(epochs):
    """Return the options for trials none of which ends early, so that each can be met in the middle."""
    return ("--max-epochs", epochs, "--grace-epochs", epochs, "--no-confirm")


DIGITS = ("--dataset", "digits", "--loss", *LOSS, "--trials", TRIALS, "--train-size", 320, *full_length(50))


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


def stored_of(run):
    """Return the trials that have a checkpoint; Ray may delete an older one meanwhile."""
    paths = glob("checkpoints/*/*/*/checkpoint.json", root_dir=run)  # noqa: PTH207  Path.glob raises if a folder goes
    return {path.split("/")[2] for path in paths}


def at_work(run, losses):
    """Return the newest line of each trial that is under way, by its id."""
    newest = {line["trial_id"]: line for loss in losses for line in lines_of(run, loss)}
    events = [event for loss in losses for event in events_of(run, loss)]
    ended = {event["trial_id"] for event in events if event["event"] in ("finished", "stopped")}
    return {trial_id: line for trial_id, line in newest.items() if trial_id not in ended}


class TrialInTheMiddle:
    """Looks for a trial that is at work on a host, and that Ray can go on with from a checkpoint.

    That a checkpoint is stored is not enough: the driver hears of it a moment later. When it asks for another epoch, it
    has.
    """

    def __init__(self, run, host, losses):
        self._run, self._host, self._losses = run, host, losses
        self._epoch_when_stored = {}  # by trial: the newest when its first checkpoint was seen
        self.trial_id = None

    def is_found(self):
        stored = stored_of(self._run)
        for trial_id, line in at_work(self._run, self._losses).items():
            if trial_id in stored:
                since = self._epoch_when_stored.setdefault(trial_id, line["epoch"])
                if line["epoch"] > since and line["node_ip"] == self._host.ip:
                    self.trial_id = trial_id
        return self.trial_id is not None


class Standstill:
    """Trials that stand still, so that those who are slower to begin find something to do."""

    def __init__(self, run, losses):
        self._run, self._losses = run, losses
        self._held = {}  # processes by host

    def hold(self, *hosts):
        """Stop the trials on hosts of which an epoch has been seen."""
        for host in hosts:
            for process in host.processes("Trainable") if host.ip in nodes_of(self._run, self._losses) else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
                    self._held.setdefault(host, set()).add(process)

    def release(self, *hosts):
        """Let the trials on hosts go on."""
        for process in itertools.chain.from_iterable(self._held.pop(host, ()) for host in hosts):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def struck(cluster, name, host, strike, *, budget=DIGITS, losses=LOSS, together_with=(), finish=True):
    """Start a search and strike a host when a trial is in the middle there; return output, that trial, and the time.

    Trials on hosts that it is together with wait for that in their own.
    """
    search = cluster.start_search(*budget, "--name", name)
    run = cluster.running(name)
    still, middle = Standstill(run, losses), TrialInTheMiddle(run, host, losses)
    all_hosts = (host, *together_with)
    output = ""

    def all_have_begun():
        still.hold(*all_hosts)
        return {other.ip for other in all_hosts} <= nodes_of(run, losses)

    def is_met():
        still.hold(*together_with)
        return middle.is_found()

    def wait(condition, what):
        wait_for(lambda: condition() or search.poll() is not None, f"{what} on {host.name}", 600)
        assert search.poll() is None, f"it ended before: {search.communicate()[0]}"

    try:
        if together_with:
            wait(all_have_begun, "an epoch on the other hosts and")
            still.release(host)
        wait(is_met, "a trial in the middle")
        struck_at = time.time()
        strike()
        still.release(*together_with)
        if finish:
            output, _ = search.communicate(timeout=1200)
            assert search.returncode == 0, output
    finally:
        still.release(*all_hosts)
        end(search)
    return output, middle.trial_id, struck_at


def assert_went_on_elsewhere(run, host, trial_id, struck_at):
    """Assert that a trial went on from its checkpoint, on another host, and that its events say so."""
    loss, _ = trial_id.split("-")
    events = [e for e in events_of(run, loss) if e["trial_id"] == trial_id]
    assert [e["event"] for e in events] == ["started", "resumed", "finished"]
    resumed = events[1]
    print(f"{host.name}: {trial_id} was told to go on {resumed['time'] - struck_at:.1f} s later: {resumed['error']}")
    lines = [line for line in lines_of(run, loss) if line["trial_id"] == trial_id]
    later = [line for line in lines if line["time"] > resumed["time"]]
    assert later[0]["epoch"] > 1
    assert host.ip not in {line["node_ip"] for line in later}


def test_a_search_grows_with_its_cluster_does_without_a_host_that_is_cut_off_and_uses_it_again(cluster):
    """It starts when only the head is there; the other hosts join while it runs, and one of them loses its network."""
    left, right = cluster.workers
    output, trial_id, cut_at = struck(cluster, "cut", left, left.cut, together_with=(cluster.head, right))
    assert "1 at a time" in output
    run = cluster.running("cut")
    assert_complete(run, "digits", LOSS, TRIALS)
    assert nodes_of(run, LOSS) == {host.ip for host in (cluster.head, *cluster.workers)}
    assert_went_on_elsewhere(run, left, trial_id, cut_at)

    left.mend()
    mended_at = time.time()
    cluster.wait_for_hosts(3)
    print(f"{left.name}: a node again {time.time() - mended_at:.1f} s after its cable was back")
    cluster.search("--extend", 3, "--name", "cut")
    assert_complete(run, "digits", LOSS, TRIALS + 3)
    assert left.ip in {line["node_ip"] for line in lines_of(run, "softmax") if line["time"] > mended_at}


def test_a_worker_that_is_preempted_gives_its_trials_back(cluster):
    """As a cloud does with a spot machine: its programs are asked to end, and then it is off."""
    left, _ = cluster.workers
    cluster.wait_for_hosts(3)

    def preempt():
        for process in left.processes("ray"):
            with contextlib.suppress(psutil.NoSuchProcess):  # some end when their parents do
                process.terminate()
        time.sleep(2)
        left.pull_the_plug()

    _, trial_id, preempted_at = struck(cluster, "preempted", left, preempt)
    run = cluster.running("preempted")
    assert_complete(run, "digits", LOSS, TRIALS)
    assert_went_on_elsewhere(run, left, trial_id, preempted_at)


def test_a_search_on_cifar10_outlives_the_death_of_a_worker_host(cluster):
    """Launched, submitted and fetched from a laptop by the documented commands; no trial is lost, none is run twice."""
    if not (REAL_DATA / "cifar10").is_dir():
        pytest.skip(f"the real cifar10 is not in {REAL_DATA}; set ADALOSS_DATA to its data folder")
    left, right = cluster.workers
    cluster.wait_for_hosts(3)
    losses, trials = ("arcface", "adaloss"), 2
    budget = ("--dataset", "cifar10", *(word for loss in losses for word in ("--loss", loss)), "--trials", trials)
    budget += ("--train-size", TRAIN_SIZE, "--batch-size", 50, *full_length(4))
    cluster.ray("rsync-up", f"{REAL_DATA}/cifar10/", "~/data/cifar10/")
    received_before = left.received_bytes()
    _, trial_id, struck_at = struck(cluster, "cifar", right, right.pull_the_plug, budget=budget, losses=losses)
    received = left.received_bytes() - received_before
    print(f"{left.name} received {received / 1e6:.1f} MB; the images are {IMAGE_BYTES / 1e6:.1f} MB")
    assert IMAGE_BYTES < received < 1.5 * IMAGE_BYTES  # once, whatever number of trials ran there
    fetched = cluster.fetch("cifar")
    assert_complete(fetched, "cifar10", losses, trials)
    assert nodes_of(fetched, losses) >= {left.ip, right.ip}
    assert_went_on_elsewhere(fetched, right, trial_id, struck_at)
    assert (fetched / "report.html").is_file()


def test_a_search_whose_head_dies_goes_on_under_another(cluster):
    left, right = cluster.workers
    cluster.wait_for_hosts(3)
    struck(cluster, "headless", right, cluster.head.pull_the_plug, finish=False)
    run = cluster.running("headless")
    before = lines_of(run, "softmax")

    cluster.head, cluster.workers = right, [left]
    cluster.up()
    cluster.search("--resume", "--name", "headless")
    fetched = cluster.fetch("headless")
    assert_complete(fetched, "digits", LOSS, TRIALS)
    assert lines_of(fetched, "softmax")[: len(before)] == before
    resumed = [e for e in events_of(fetched, "softmax") if e["event"] == "resumed"]
    assert resumed
    assert any(e["epoch"] > 0 for e in resumed)  # from a checkpoint, which only the shared file system had
