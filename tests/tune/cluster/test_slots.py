import pytest

from trainables.errors import UserError
from trainables.registry import MODELS
from tune.cluster import slots as module
from tune.cluster.nodes import Machines
from tune.cluster.slots import Capacity, Slots, plan_slots

SMALL, LARGE = "ArcFaceCNN", "resnet9"  # by default an eighth and a half of a GPU


def resources(size: tuple[float, float]) -> dict[str, float]:
    cpus, gpus = size
    return {"CPU": float(cpus), "memory": 1e9} | ({"GPU": float(gpus)} if gpus else {})


@pytest.fixture
def machines(monkeypatch):
    """Makes a cluster of machines, each given as (CPUs, GPUs)."""

    def make(*sizes: tuple[float, float], to_come: tuple[tuple[float, float], ...] = (), unseen: bool = False) -> None:
        found = Machines([resources(size) for size in sizes], [resources(size) for size in to_come], unseen)
        monkeypatch.setattr(module, "machines", lambda: found)

    return make


def test_the_shares_of_a_gpu_are_what_these_tests_take_them_for():
    assert (MODELS[SMALL].gpus_per_trial, MODELS[LARGE].gpus_per_trial) == (0.125, 0.5)


@pytest.mark.parametrize(
    ("sizes", "model", "cpus", "gpus", "most", "slots"),
    [
        # Without GPUs every core is busy.
        ([(2, 0)], SMALL, None, None, None, Slots(1, 0, 2, 1)),
        ([(8, 0)], LARGE, None, None, None, Slots(1, 0, 8, 1)),
        ([(8, 0)], SMALL, 3, None, None, Slots(3, 0, 2, 1)),
        ([(2, 0)], SMALL, 0.5, None, None, Slots(0.5, 0, 4, 1)),
        ([(7, 0)], SMALL, 0.28, None, None, Slots(0.28, 0, 25, 1)),  # whatever 7 / 0.28 is in floating point
        ([(4, 0), (2, 0)], SMALL, None, None, None, Slots(1, 0, 6, 2)),
        ([(3, 0), (3, 0)], SMALL, 2, None, None, Slots(2, 0, 2, 2)),  # no trial spans two machines
        # A GPU is shared by as many small trials as it holds, and so are its machine's cores.
        ([(8, 1)], SMALL, None, None, None, Slots(1, 0.125, 8, 1)),
        ([(8, 1)], LARGE, None, None, None, Slots(4, 0.5, 2, 1)),
        ([(64, 1)], LARGE, None, None, None, Slots(4, 0.5, 2, 1)),  # more cores than four do a trial no good
        ([(4, 1)], SMALL, None, None, None, Slots(1, 0.125, 4, 1)),  # as many as there are cores
        ([(16, 2)], LARGE, None, None, None, Slots(4, 0.5, 4, 1)),
        # Some machines have GPUs: trials go there, with a share of those machines' cores.
        ([(32, 0), (4, 1)], LARGE, None, None, None, Slots(2, 0.5, 2, 2)),
        # What was asked for.
        ([(8, 1)], SMALL, None, 0, None, Slots(1, 0, 8, 1)),
        ([(8, 1)], SMALL, None, 0.25, None, Slots(2, 0.25, 4, 1)),
        ([(16, 2)], SMALL, 1, 0.4, None, Slots(1, 0.4, 4, 1)),  # two on each GPU: what is left of both makes no fifth
        ([(16, 4)], SMALL, 1, 2, None, Slots(1, 2, 2, 1)),
        ([(16, 3)], SMALL, 1, 2, None, Slots(1, 2, 1, 1)),
        ([(4, 1)], SMALL, 2, 0.1, None, Slots(2, 0.1, 2, 1)),
        # At most so many at a time.
        ([(8, 0)], SMALL, None, None, 3, Slots(1, 0, 3, 1)),
        ([(2, 0)], SMALL, None, None, 5, Slots(1, 0, 2, 1)),
    ],
)
def test_trials_share_the_hardware(machines, sizes, model, cpus, gpus, most, slots):
    machines(*sizes)
    assert plan_slots(model, cpus, gpus, most) == slots


@pytest.mark.parametrize(
    ("up", "to_come", "most", "slots"),
    [
        # From no worker at all: the head has no core for trials.
        ([(0, 0)], [(8, 1), (8, 1)], None, Slots(1, 0.125, 16, 1)),
        ([(0, 0)], [(8, 1), (8, 1)], 3, Slots(1, 0.125, 3, 1)),
        ([(0, 0), (8, 1)], [(8, 1)], None, Slots(1, 0.125, 16, 2)),
        ([(2, 0)], [(2, 0)], None, Slots(1, 0, 4, 1)),
    ],
)
def test_machines_count_that_the_autoscaler_may_still_add(machines, up, to_come, most, slots):
    machines(*up, to_come=tuple(to_come))
    assert plan_slots(SMALL, None, None, most) == slots


def test_what_no_machine_to_come_has_is_refused_too(machines):
    machines((0, 0), to_come=((8, 1),))
    with pytest.raises(UserError, match="--gpus-per-trial 2: no machine has more than 1"):
        plan_slots(SMALL, None, 2, None)


def test_an_autoscaler_that_cannot_be_seen_is_told_how_much_to_add(machines):
    machines((0, 0), unseen=True)
    assert plan_slots(SMALL, 4, 1, 6) == Slots(4, 1, 6, 1)
    with pytest.raises(UserError, match="say with --max-concurrent how many trials"):
        plan_slots(SMALL, 4, 1, None)
    machines((8, 1), unseen=True)
    assert plan_slots(SMALL, 4, 0.5, None) == Slots(4, 0.5, 2, 1)


def test_capacity_follows_the_machines(machines, monkeypatch):
    clock = iter(range(0, 1000, 10))  # seconds, each later than the last by more than a count stays good for
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    machines((2, 0))
    capacity = Capacity(plan_slots(SMALL, None, None, 5))
    assert capacity() == 2
    machines((2, 0), (2, 0))
    assert capacity() == 4
    machines((2, 0), (2, 0), (2, 0))
    assert capacity() == 5  # what was asked for at most
    machines((2, 0))
    assert capacity() == 2
    machines()
    assert capacity() == 1  # something must wait, or nothing would be added


def test_machines_are_not_counted_at_every_step(machines, monkeypatch):
    machines((2, 0))
    capacity = Capacity(plan_slots(SMALL, None, None, None))
    monkeypatch.setattr(module, "machines", lambda: pytest.fail("counted"))
    assert [capacity() for _ in range(100)] == [2] * 100


@pytest.mark.parametrize(
    ("sizes", "cpus", "gpus", "message"),
    [
        ([(8, 0)], None, 1, "--gpus-per-trial 1: no machine has more than 0; ask for less, or 0 to train on CPUs"),
        ([(8, 1), (8, 1)], None, 2, "--gpus-per-trial 2: no machine has more than 1; "),
        ([(2, 0), (4, 0)], 5, None, "--cpus-per-trial 5: no machine has more than 4; ask for less"),
        ([(8, 0), (2, 1)], 4, 1, "--cpus-per-trial 4: no machine with 1 GPU has more than 2; ask for less"),
        ([], None, None, "--cpus-per-trial 1: no machine has more than 0"),
    ],
)
def test_what_no_machine_has_is_refused_rather_than_waited_for(machines, sizes, cpus, gpus, message):
    machines(*sizes)
    with pytest.raises(UserError) as error:
        plan_slots(SMALL, cpus, gpus, None)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (1.9, 1), (4, 4)])
def test_a_trial_gets_whole_threads_and_at_least_one(cpus, threads):
    assert Slots(cpus, 0, 1, 1).threads == threads


@pytest.mark.parametrize(
    ("slots", "fewer"),
    [
        (Slots(1, 0.125, 8, 1), Slots(1, 0.25, 4, 1)),
        (Slots(2, 1 / 3, 6, 1), Slots(2, 2 / 3, 3, 1)),
        (Slots(4, 0.6, 2, 2), Slots(4, 1, 1, 2)),
        (Slots(1, 0, 5, 1), Slots(1, 0, 2, 1)),
        (Slots(1, 0.25, 4, 1, "GPU", 7), Slots(1, 0.5, 2, 1, "GPU", 7)),
        # Each has its memory to itself already.
        (Slots(4, 1, 2, 1), None),
        (Slots(8, 2, 1, 1), None),
        (Slots(1, 0.125, 1, 1), None),
        (Slots(1, 0, 1, 1), None),
    ],
)
def test_half_as_many_trials_share_the_memory(slots, fewer):
    assert slots.halved() == fewer


@pytest.mark.parametrize("slots", [Slots(1, 0.125, 8, 1), Slots(1, 1 / 3, 3, 1), Slots(1, 0, 7, 1)])
def test_halving_ends_with_a_trial_that_shares_nothing(slots):
    for _ in range(4):
        slots = slots.halved() or slots
    assert slots.halved() is None
    assert slots.gpus_per_trial in {0, 1} or slots.concurrent == 1


def test_machines_that_are_given_take_the_place_of_the_clusters(monkeypatch):
    """A plan knows the machine on which it would start Ray, and no cluster."""
    monkeypatch.setattr(module, "machines", lambda: pytest.fail("asked Ray"))
    assert plan_slots(SMALL, 2, None, None, Machines([resources((8, 0))])) == Slots(2, 0, 4, 1)
    with pytest.raises(UserError, match="--cpus-per-trial 9"):
        plan_slots(SMALL, 9, None, None, Machines([resources((8, 0))]))
