"""Strikes hosts when a trial is in the middle there, neither before nor after, however fast the hosts are."""

import contextlib
import itertools
import time
from glob import glob

import psutil

from tests.cluster.hosts import end, wait_for
from tests.cluster.launched import events_of, lines_of


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
    """Trials that stand still, so that those who are slower to begin find something to do.

    Args:
        nodes: returns the addresses on which an epoch of this search has been seen.
    """

    def __init__(self, nodes):
        self._nodes = nodes
        self._held = {}  # processes by host

    def hold(self, *hosts):
        """Stop the trials on hosts of which an epoch has been seen."""
        seen = self._nodes()
        for host in hosts:
            for process in host.processes("Trainable") if host.ip in seen else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
                    self._held.setdefault(host, set()).add(process)

    def release(self, *hosts):
        """Let the trials on hosts go on."""
        for process in itertools.chain.from_iterable(self._held.pop(host, ()) for host in hosts):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def struck(cluster, name, host, strike, *, budget, losses, together_with=(), finish=True, start=None):
    """Start a search and strike a host when a trial is in the middle there; return output, that trial, and the time.

    Trials on hosts that it is together with wait for that in their own. It is submitted with `ray submit`, or as told.
    """
    run = cluster.running(name)
    before = {loss: len(lines_of(run, loss)) for loss in losses}
    search = (start or cluster.start_search)(*budget, "--name", name)

    def nodes_now():
        return {line["node_ip"] for loss in losses for line in lines_of(run, loss)[before[loss] :]}

    still, middle = Standstill(nodes_now), TrialInTheMiddle(run, host, losses)
    all_hosts = (host, *together_with)
    output = ""

    def all_have_begun():
        still.hold(*all_hosts)
        return {other.ip for other in all_hosts} <= nodes_now()

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
