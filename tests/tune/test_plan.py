"""What a dry run says, beside sums by hand; and that it leaves nothing behind."""

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from rich.console import Console

from tests.tune.test_settings import GOOD
from trainables import cost
from trainables.cost import TrialCost
from trainables.data import load_training_data
from trainables.errors import UserError
from tune import plan as module
from tune import run_search
from tune.cluster.gpu_share import NoAnswerError
from tune.cluster.nodes import Machines, this_machine
from tune.cluster.slots import Slots
from tune.confirmation.stages import plan_of
from tune.plan import RunPlan, plan_run
from tune.search.rungs import Rungs
from tune.settings import ConfirmSettings

COST = TrialCost(step_s=0.1, batch_size=64, judged_s=0.002, checkpoint_bytes=1_000_000, record_bytes=400)
ASKED = ConfirmSettings(seeds=6, candidates=2, candidate_seeds=1)
STEPS, TESTED_STEPS = 1250 // 64, 1500 // 64


@pytest.fixture(scope="module")
def data():
    return load_training_data("digits", None)


@pytest.fixture
def planned(data):
    """A plan of two losses, one of which takes twice as long: twelve trials by at most twenty epochs, two at a time."""

    def make(asked=ASKED, slots=Slots(1.0, 0.0, 2, 1), **changes):  # noqa: B008  frozen
        settings = replace(GOOD, **changes)
        confirmation = None if asked is None else plan_of(settings, asked)
        return RunPlan(settings, data, slots, confirmation, {"arcface": COST, "adaloss": replace(COST, step_s=0.2)})

    return make


def line_of(plan, subject):
    (line,) = [line for line in plan.lines() if line.startswith(f"{subject}:")]
    return line


def test_a_search_takes_its_expected_epochs_shared_by_the_slots(planned):
    epochs = Rungs(3, 20, 3.0).epochs_to_go({}, 12)
    judged = 250 * 0.002
    one, other = STEPS * 0.1 + judged, STEPS * 0.2 + judged
    assert planned().search_s == pytest.approx(epochs * (one + other) / 2)
    assert planned(slots=Slots(1.0, 0.0, 100, 1)).search_s == pytest.approx(epochs * (one + other) / 24)
    assert planned(time_budget_min=0.5).search_s == 60.0


def test_a_confirmation_takes_its_stages_one_after_the_other(planned):
    candidates = 2 * 20 * (STEPS * 0.3 + 2 * 250 * 0.002) / 2  # two of each loss, two runs at a time
    finals = 6 * (20 * TESTED_STEPS * 0.3 + 2 * 2 * 297 * 0.002) / 2
    assert planned().confirmation_s == pytest.approx(candidates + finals)
    assert planned(asked=None).confirmation_s == 0
    wide = planned(slots=Slots(1.0, 0.0, 100, 1))  # four runs, then twelve
    assert wide.confirmation_s == pytest.approx(candidates * 2 / 4 + finals * 2 / 12)


def test_controls_count_as_the_mean_of_the_losses(planned):
    without, with_controls = planned(), planned(asked=replace(ASKED, controls=True))
    untuned_and_controls = (2 + 6) * 6 * (20 * TESTED_STEPS * 0.15 + 2 * 297 * 0.002) / 2
    assert with_controls.confirmation_s - without.confirmation_s == pytest.approx(untuned_and_controls)


def test_the_lines_name_all_of_it(planned):
    plan = planned(asked=replace(ASKED, controls=True, robustness=3))
    assert "1,250 training and 250 validation images; ArcFaceCNN, 64 images a step" in line_of(plan, "data")
    expected = round(Rungs(3, 20, 3.0).epochs_to_go({}, 12))
    assert line_of(plan, "search").endswith(
        "arcface, adaloss: 12 trials each, at most 20 epochs; at most 240 epochs a loss, about "
        f"{expected} with the rungs after 3, 9"
    )
    runs = 4 + 9 + 12 + 12 + 36
    assert line_of(plan, "confirmation").endswith(
        f"4 candidates, 9 random draws, 12 finals, 12 untuned, 36 controls; 20 epochs each, {runs * 20:,} in all"
    )
    assert line_of(plan, "slots").endswith("2 trials at a time, each with 1 CPU, 1 thread")
    image = 28 * 28
    assert f"{(2 * 1500 + 297) * image / 1e6:.3g} MB of images" in line_of(plan, "memory")
    assert "at most 6 MB of checkpoints at a time, 1 MB each" in line_of(plan, "disk")
    assert re.search(r"about \d+ min of training \(search \d+ min, confirmation \d+ min\)", line_of(plan, "time"))
    assert "none" in line_of(planned(asked=None), "confirmation")
    assert "at most 3 min for all losses" in line_of(planned(time_budget_min=1.5), "search")
    assert "rungs" not in line_of(planned(grace_epochs=20), "search")


def test_records_grow_with_epochs_and_a_teams_database_is_none_of_the_runs(planned):
    few, many = planned(trials=1), planned(trials=100)
    assert many._records() > few._records() > 5e6
    shared = planned(study_storage="postgresql://u@h/db")
    assert shared._records() < planned()._records()


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def dry_run(called, tmp_path, monkeypatch):
    """Runs the command with --dry-run in an empty folder, on steps that are measured as shortly as can be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cost, "MEASURED_S", 0.0)
    return lambda *arguments: called(run_search.main, "--dataset", "digits", "--dry-run", *arguments)


def files_below(*folders):
    return {path for folder in folders for path in Path(folder).rglob("*")}


def test_a_dry_run_says_the_plan_and_leaves_nothing_behind(dry_run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "connect", lambda *_: pytest.fail("Ray was started"))
    was_running = ray.is_initialized()
    code, out, err = dry_run("--trials", 4, "--address", "local", "--gpus-per-trial", 0)
    assert (code, err) == (0, "")
    assert files_below(tmp_path) == set()
    assert ray.is_initialized() == was_running
    subjects = [line.partition(":")[0] for line in out.splitlines()]
    assert subjects == ["data", "search", "confirmation", "slots", "memory", "disk", "time"]
    assert "4 trials each" in out
    assert f" {this_machine().up[0]['CPU']:g} trials at a time" in out
    assert re.search(r"about \d+ (s|min|h) of training", out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cpus-per-trial", 1e6], "--cpus-per-trial 1e+06"),
        (["--precision", "fp16", "--gpus-per-trial", 0], "--precision fp16 needs GPUs"),
        (["--train-size", 10**6], "train size"),
        (["--model", "ArcFaceCNN_CIFAR10"], "does not take"),
        (["--output", "file"], "is a file"),
        (["--name", "there"], "exists already"),
        (["--resume"], "--dry-run plans a new run"),
        (["--extend", 3], "--dry-run plans a new run"),
    ],
)
def test_what_could_not_begin_has_no_plan(dry_run, tmp_path, arguments, words):
    (tmp_path / "file").touch()
    (tmp_path / "results" / "there").mkdir(parents=True)
    (tmp_path / "results" / "there" / "run.json").touch()
    before = files_below(tmp_path)
    code, out, err = dry_run("--address", "local", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err
    assert files_below(tmp_path) == before


# --- Where Ray is needed ---------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of four slots of half a GPU; what is asked of it is noted."""
    happened = []

    @contextlib.contextmanager
    def connect(address, data_bytes):
        happened.append(address)
        yield
        happened.append("left")

    def on_worker(share, function, configs, images, threads, gpus):
        happened.append((share, function, [config["loss"] for config in configs], threads, gpus))
        return [COST, COST]

    monkeypatch.setattr(module, "connect", connect)
    monkeypatch.setattr(module, "slots_for", lambda *_: Slots(2.0, 0.5, 4, 2))
    monkeypatch.setattr(module, "on_worker", on_worker)
    monkeypatch.setattr(ray, "put", lambda value: value)
    return happened


def test_a_cluster_is_asked_for_its_slots_and_measures(cluster):
    console = Console(file=io.StringIO())
    plan = plan_run(replace(GOOD, address="head:6379"), ASKED, console)
    assert cluster == ["head:6379", (0.5, cost.measure_costs, ["arcface", "adaloss"], 2, 0.5), "left"]
    assert "4 trials at a time on 2 machines, each with 2 CPU and 0.5 GPU, 2 threads" in line_of(plan, "slots")
    assert plan.costs == {"arcface": COST, "adaloss": COST}


def test_a_gpu_of_this_machine_needs_ray_to_be_measured_unless_it_is_not_wanted(cluster, monkeypatch):
    monkeypatch.setattr(module, "this_machine", lambda: Machines([{"CPU": 4.0, "GPU": 1.0}]))
    monkeypatch.setattr(module, "measure_costs", lambda *_: [COST, COST])
    console = Console(file=io.StringIO())
    plan_run(replace(GOOD, address="local"), None, console)
    assert cluster[0] == "local"
    cluster.clear()
    plan = plan_run(replace(GOOD, address="local", gpus_per_trial=0), None, console)
    assert (cluster, plan.slots) == ([], Slots(1.0, 0, 4, 1))


def test_a_cluster_that_is_busy_has_a_plan_without_times(cluster, monkeypatch):
    def busy(*_):
        raise NoAnswerError("none was free for 180 s")

    monkeypatch.setattr(module, "on_worker", busy)
    plan = plan_run(replace(GOOD, address="head:6379"), ASKED, Console(file=io.StringIO()))
    for subject in ("disk", "time"):
        assert line_of(plan, subject).endswith("not measured: none was free for 180 s")
    assert "12 finals" in line_of(plan, "confirmation")


def test_no_such_cluster_is_an_error():
    with pytest.raises(UserError, match="no Ray cluster answers there"):
        plan_run(replace(GOOD, address="127.0.0.1:1"), None, Console(file=io.StringIO()))
