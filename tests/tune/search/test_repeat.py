"""A run from Python, and its run.yaml, with which the command repeats it: the same draws and the same numbers."""

import os
import signal
import threading
import time

import pytest
import yaml

import analysis
from tune import run_search
from tune.api import search
from tune.records import read_json, read_records

pytestmark = pytest.mark.cluster

BUDGET = {
    "dataset": "digits", "loss": ["adaloss", "softmax"], "trials": 2, "max_epochs": 2, "grace_epochs": 1,
    "train_size": 320, "max_concurrent": 1, "confirm_seeds": 2, "candidates": 1, "candidate_seeds": 1, "seed": 3,
}  # fmt: skip
TIMES = ["run", "seconds", "images_per_s", "time"]  # what no two runs share


def of_everything_but_time(runs, name):
    table = getattr(runs, name)
    return table.drop(columns=[column for column in TIMES if column in table])


@pytest.fixture
def first(shared_ray, tmp_path):
    return search(**BUDGET, output=tmp_path, name="first", quiet=True)


def test_a_search_from_python_is_a_run_like_any_other_and_its_file_repeats_it(first, here, tmp_path):
    folder = tmp_path / "first"
    assert first.trials["state"].tolist() == analysis.load(folder).trials["state"].tolist()
    assert first.accuracies.query("role == 'winner'")["seeds"].tolist() == [2, 2]
    assert {path.name for path in folder.iterdir()} >= {"run.json", "run.yaml", "report.html", "study.db"}
    (begun, confirmed) = read_json(folder / "run.json")["invocations"]
    assert begun["command"] == confirmed["command"]
    assert begun["command"].startswith("tune/run_search.py --dataset=digits --loss=adaloss --loss=softmax --trials=2")

    options = yaml.safe_load((folder / "run.yaml").read_text())
    assert (options["model"], options["confirm-seeds"], options["seed"]) == ("DigitsCNN", 2, 3)
    done = here(run_search.main, "--config", folder / "run.yaml", "--output", tmp_path, "--name", "again")
    assert (done.returncode, done.stderr) == (0, "")
    again = analysis.load(tmp_path / "again")
    for name in ("trials", "epochs", "confirmation_runs", "curves", "class_accuracies", "verdict_table"):
        known = of_everything_but_time(first, name)
        assert len(known), name
        assert of_everything_but_time(again, name).equals(known), name
    assert again.correct_images().equals(first.correct_images())
    same, other = ((tmp_path / name / "run.yaml").read_text().split("\n\n", 1)[1] for name in ("first", "again"))
    assert same == other


def test_ctrl_c_leaves_a_run_with_which_one_goes_on(shared_ray, tmp_path):
    folder = tmp_path / "stopped"
    epochs = folder / "adaloss" / "epochs.jsonl"
    before = signal.getsignal(signal.SIGINT)

    def press():
        deadline = time.monotonic() + 300
        while not (epochs.exists() and read_records(epochs)) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    budget = {**BUDGET, "max_epochs": 12, "no_confirm": True, "confirm_seeds": None}
    budget |= {"candidates": None, "candidate_seeds": None, "output": tmp_path, "name": "stopped"}
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; go on with: \S+ -m tune\.cli search --resume"):
        search(**budget, quiet=True)
    presser.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert (analysis.load(folder).trials["state"] == "unfinished").any()

    runs = search(resume=True, output=tmp_path, name="stopped", quiet=True)
    assert runs.trials.groupby("loss")["state"].count().to_dict() == {"adaloss": 2, "softmax": 2}
    assert not (runs.trials["state"] == "unfinished").any()
    assert [invocation["resumed"] for invocation in read_json(folder / "run.json")["invocations"]] == [False, True]
