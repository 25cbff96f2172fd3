"""A search on a launched cluster, one of whose hosts dies in the middle."""

import os
from pathlib import Path

import pytest

from tests.cluster.hosts import PROJECT, end, wait_for
from tests.cluster.launched import assert_complete, events_of, launched, nodes_of, restarts

pytestmark = pytest.mark.cluster
REAL_DATA = Path(os.environ.get("ADALOSS_DATA", PROJECT.parent / "shared" / "data"))
LOSSES = ("arcface", "adaloss", "softmax")
TRAIN_SIZE, VALIDATION_SIZE = 500, 5000
IMAGE_BYTES = (TRAIN_SIZE + VALIDATION_SIZE) * 3 * 32 * 32


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # The head has no cores for trials: the search is the workers' alone.
    with launched(tmp_path_factory.mktemp("hosts") / "lab", head=0, left=2, right=2) as cluster:
        cluster.up()
        yield cluster


def test_a_search_on_cifar10_outlives_the_death_of_a_worker_host(cluster):
    """Launched, submitted and fetched from a laptop by the documented commands; no trial is lost, none is run twice."""
    if not (REAL_DATA / "cifar10").is_dir():
        pytest.skip(f"the real cifar10 is not in {REAL_DATA}; set ADALOSS_DATA to its data folder")
    left, right = cluster.workers
    trials, epochs = 3, 3
    cluster.ray("rsync-up", f"{REAL_DATA}/cifar10/", "~/data/cifar10/")
    received_before = left.received_bytes()
    search = cluster.start_search(
        *("--dataset", "cifar10", "--name", "cifar", "--no-confirm", "--train-size", TRAIN_SIZE, "--batch-size", 50),
        *("--trials", trials, "--max-epochs", epochs, "--grace-epochs", 1),
    )
    run = cluster.running("cifar")
    wait_for(lambda: (run / "study.db").exists(), "the search starts", 600)
    try:
        wait_for(
            lambda: {left.ip, right.ip} <= nodes_of(run, LOSSES) and list(run.glob("checkpoints/**/checkpoint.json")),
            "both workers train, and a checkpoint is there",
            600,
        )
        right.pull_the_plug()
        output, _ = search.communicate(timeout=900)
    finally:
        end(search)
    assert search.returncode == 0, output
    received = left.received_bytes() - received_before
    print(f"{left.name} received {received / 1e6:.1f} MB; the images are {IMAGE_BYTES / 1e6:.1f} MB")
    assert IMAGE_BYTES < received < 1.5 * IMAGE_BYTES  # once, whatever number of trials ran there
    fetched = cluster.fetch("cifar")
    assert_complete(fetched, "cifar10", LOSSES, trials)
    lost = restarts(fetched, LOSSES)
    assert lost
    errors = [e["error"] for loss in LOSSES for e in events_of(fetched, loss) if e["event"] == "resumed"]
    assert all(right.ip in error or "died" in error for error in errors)
    assert (fetched / "report.html").is_file()
