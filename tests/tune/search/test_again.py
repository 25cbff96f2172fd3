"""A trial that is run again, by the real command: the same numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.loading import load_run
from analysis.trials import command_of, trial_rows

PROJECT = Path(__file__).parents[3]
QUICK = ["--dataset", "digits", "--model", "DigitsCNN", "--max-concurrent", "1", "--cpus-per-trial", "1"]


@pytest.mark.cluster
def test_a_trial_that_is_run_again_has_the_same_epochs(tmp_path):
    def run(*words):
        command = [sys.executable, str(PROJECT / "tune" / "run_search.py"), *words, "--address", "local"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=900)

    budget = ["--loss", "adaloss", "--trials", "2", "--max-epochs", "3", "--precision", "float32", "--no-confirm"]
    run(*QUICK, *budget, "--name", "first")
    folder = tmp_path / "results" / "first"
    first = load_run(folder)
    row = trial_rows(first)[1]
    command, _ = command_of(first, row)
    run(*command.split()[2:])
    again = load_run(tmp_path / "results" / f"first-{row.trial_id}")
    assert again.trials["config"].tolist() == [first.trials["config"][1]]
    assert again.trials["state"].tolist() == ["finished"]
    measured = ["epoch", "val_accuracy", "val_loss", "train_loss", "margin_rad"]
    earlier = first.epochs.loc[first.epochs["trial_id"] == row.trial_id, measured].reset_index(drop=True)
    assert again.epochs[measured].iloc[: len(earlier)].equals(earlier)
    assert len(again.epochs) == 3
