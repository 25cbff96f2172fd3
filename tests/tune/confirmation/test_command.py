"""The whole confirmation, on the digits, as a user starts it."""

import json
import re
import shutil
import signal
import time

import pytest
import torch

from analysis.loading import load_run
from tests.tune.happenings import let_happen
from trainables.data import load_test_data
from trainables.trained import load_model
from tune import confirm, run_search
from tune.confirmation.arms import CONTROLS
from tune.records import read_json, read_records, write_json
from tune.records.bits import unpack_bits

pytestmark = pytest.mark.cluster

EPOCHS = 2
BUDGET = (
    "--dataset", "digits", "--loss", "arcface", "--loss", "adaloss", "--trials", 1, "--max-epochs", EPOCHS,
    "--grace-epochs", 1, "--batch-size", 64, "--train-size", 70, "--max-concurrent", 1,
    "--precision", "float32",
)  # fmt: skip
ASKED = ("--confirm-seeds", 2, "--controls", "--robustness", 1)
RUNS = {"candidate": 6, "winner": 4, "untuned": 4, "control": 2 * len(CONTROLS), "robustness": 3}


def results_of(folder):
    return read_records(folder / "confirm.jsonl")


def without_time(results):
    """What a run is, less what the clock says; in an order of its own."""
    clocks = {"time", "seconds", "images_per_s"}
    kept = [{k: v for k, v in result.items() if k not in clocks} for result in results]
    for result in kept:
        result["curve"] = [{k: v for k, v in epoch.items() if k not in clocks} for epoch in result["curve"]]
    return sorted(kept, key=lambda result: result["run_id"])


@pytest.fixture(scope="module")
def confirmed(search):
    done = search("confirmed", *BUDGET, *ASKED)
    assert done.returncode == 0, done.stderr
    return search.output / "confirmed", done


def test_every_run_is_there_once(confirmed):
    folder, _ = confirmed
    results = results_of(folder)
    assert len({result["run_id"] for result in results}) == len(results)
    assert {role: sum(r["role"] == role for r in results) for role in RUNS} == RUNS
    for result in results:
        assert result["error"] is None
        assert result["epochs"] == len(result["curve"]) == EPOCHS
        is_tested = result["role"] in {"winner", "untuned", "control"}
        assert (result["test_accuracy"] is not None) == is_tested
        assert (result["val_accuracy"] is None) == is_tested
        assert ("val_accuracy" in result["curve"][0]) == (not is_tested)


def test_what_was_tested_has_a_confusion_and_angles_of_all_test_images(confirmed):
    folder, _ = confirmed
    for result in results_of(folder):
        if result["test_accuracy"] is None:
            assert result["confusion"] is None
            continue
        confusion = result["confusion"]
        assert sum(map(sum, confusion)) == 297
        correct = sum(confusion[label][label] for label in range(10))
        assert correct / 297 == pytest.approx(result["test_accuracy"])
        assert unpack_bits(result["correct_bits"], 297).sum() == correct
        for when in ("before", "after"):
            for of in ("own", "nearest_other"):
                counts = result["angle_histograms"][when][of]
                assert len(counts) == 90
                assert sum(counts) == 297


def test_the_weights_of_the_winners_are_those_that_were_tested(confirmed):
    folder, _ = confirmed
    test = load_test_data("digits", None)
    for loss in ("arcface", "adaloss"):
        predicted = load_model(folder / f"winner_{loss}.pt")(torch.from_numpy(test.images)).argmax(1).numpy()
        (tested,) = (r for r in results_of(folder) if (r["role"], r["arm"], r["pair"]) == ("winner", loss, 0))
        same = (predicted == test.labels) == unpack_bits(tested["correct_bits"], 297)
        assert same.mean() > 0.99  # but for images that rounding decides


def test_a_replay_applies_the_margins_of_the_other_seed(confirmed):
    folder, _ = confirmed
    results = {result["run_id"]: result for result in results_of(folder)}
    epochs = read_records(folder / "confirm" / "epochs.jsonl")
    replays = [result for result in results.values() if result["arm"] == "yoked_replay"]
    assert {replay["config"]["loss_args"]["replay_of"] for replay in replays} == {
        run_id for run_id, result in results.items() if result["role"] == "winner" and result["arm"] == "adaloss"
    }
    for replay in replays:
        partner = replay["config"]["loss_args"]["replay_of"]
        assert results[partner]["pair"] != replay["pair"]
        steps = [m for e in epochs if e["run_id"] == partner for m in e["margin_steps_rad"]]
        assert len(steps) == EPOCHS * ((70 + 250) // 64)
        # What a schedule reports of an epoch is the margin of the step after it.
        after = [epoch["margin_rad"] for epoch in replay["curve"]]
        assert after == pytest.approx([steps[5], steps[9]], abs=1e-7)


def test_the_output_ends_with_the_verdict_the_page_and_what_can_be_done_next(confirmed):
    folder, done = confirmed
    assert done.stderr == ""
    assert "AdaLoss - ArcFace" in done.stdout
    assert "2 paired seeds can never show a difference" in done.stdout
    places = done.stdout.partition("\npage: ")[2].splitlines()
    assert places[0] == str(folder / "report.html")
    assert "winner_adaloss.pt" in places[1]
    assert "next:" in places
    assert (folder / "report.html").stat().st_size < 8e6
    assert not (folder / "confirm" / "checkpoints").exists()
    assert not (folder / "checkpoints").exists()


def test_the_records_load_as_tables(confirmed):
    folder, _ = confirmed
    run = load_run(folder)
    assert len(run.accuracies("winner", "adaloss")) == 2
    assert run.confirmation["controls"] is True


def test_resume_of_a_finished_run_changes_nothing(here, search, confirmed):
    folder, done = confirmed
    before = (folder / "confirm.jsonl").read_bytes()
    again = here(run_search.main, "--resume", "--output", search.output, "--name", "confirmed")
    assert again.returncode == 0, again.stderr
    assert (folder / "confirm.jsonl").read_bytes() == before
    verdict = done.stdout[done.stdout.index("AdaLoss - ArcFace") :].splitlines()[0]
    assert verdict in again.stdout


def test_a_finished_run_takes_a_further_loss_on_the_seeds_of_the_others(search, confirmed, here):
    folder = shutil.copytree(confirmed[0], search.output / "further")
    before = (folder / "confirm.jsonl").read_bytes()
    trials = {loss: (folder / loss / "trials.jsonl").read_bytes() for loss in ("arcface", "adaloss")}
    place = ("--resume", "--output", search.output, "--name", "further")
    done = here(run_search.main, *place, "--add-loss", "softmax")
    assert (done.returncode, done.stderr) == (0, "")
    assert "AdaLoss - softmax" in done.stdout, done.stdout
    assert "Note: softmax was added on " in " ".join(done.stdout.split())
    assert (folder / "confirm.jsonl").read_bytes().startswith(before)
    assert {loss: (folder / loss / "trials.jsonl").read_bytes() for loss in trials} == trials
    run = load_run(folder)
    assert run.reference == "arcface"
    seeds = {loss: run.seed_runs_of("winner", loss)["seed"].tolist() for loss in ("arcface", "softmax")}
    assert seeds["arcface"] == seeds["softmax"]
    assert len(run.trials[run.trials["loss"] == "softmax"]) == 1
    assert list(read_json(folder / "run.json")["added_losses"]) == ["softmax"]
    again = here(run_search.main, *place)  # from now on it is one of them
    assert (again.returncode, again.stderr) == (0, "")
    assert "AdaLoss - softmax" in again.stdout


def before_it_was_confirmed(folder, copy):
    """Copy a confirmed run as its search left it."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("confirm*", "winner_*", "report.html"))
    run = read_json(copy / "run.json")
    del run["confirmation"]
    run["invocations"] = [invocation for invocation in run["invocations"] if invocation["part"] == "search"]
    write_json(copy / "run.json", run)
    return copy


def test_one_that_is_killed_and_then_told_to_stop_ends_as_an_undisturbed_one(search, confirmed, here, monkeypatch):
    """No seed twice, the same numbers, the same table. `test_kills.py` has a kill at any write, without training."""
    undisturbed, _ = confirmed
    folder = before_it_was_confirmed(undisturbed, search.output / "killed")
    process = search.start_program("confirm.py", folder, *ASKED)
    deadline = time.monotonic() + 600
    in_first_stage = RUNS["candidate"] + RUNS["robustness"]
    while len(_complete_lines(folder / "confirm.jsonl")) <= in_first_stage:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert in_first_stage < len(results_of(folder)) < sum(RUNS.values())

    go_on = ("--resume", "--output", search.output, "--name", "killed")
    with monkeypatch.context() as patch:
        let_happen(patch, {1: lambda: signal.raise_signal(signal.SIGTERM)}, of="control")
        stopped = here(run_search.main, *go_on)
    assert (stopped.returncode, stopped.stderr) == (143, "")
    assert re.search(r"go on with: \S+ tune/run_search\.py --resume", stopped.stdout)
    assert len(results_of(folder)) < sum(RUNS.values())

    done = here(confirm.main, folder)
    assert done.returncode == 0, done.stderr
    results = results_of(folder)
    assert len({result["run_id"] for result in results}) == len(results)
    assert without_time(results) == without_time(results_of(undisturbed))
    for loss in ("arcface", "adaloss"):
        assert read_json(folder / f"winner_{loss}.json") == read_json(undisturbed / f"winner_{loss}.json")
    assert load_run(folder).accuracies("winner", "adaloss").to_dict() == (
        load_run(undisturbed).accuracies("winner", "adaloss").to_dict()
    )


def _complete_lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
