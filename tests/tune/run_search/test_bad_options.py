import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tune.run_search.conftest import WITH_SECRET
from trainables.data import DATASETS

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--dataset is missing", *DATASETS]),
        (["--dataset"], ["--dataset"]),
        (["--dataset", "digits", "--epochs", "3"], ["--epochs"]),
        (["--dataset", "digits", "more"], ["more"]),
        (["--dataset", "cifra10"], ["unknown data set 'cifra10'", "did you mean cifar10?", *DATASETS]),
        (["--dataset", "no such thing"], ["unknown data set 'no such thing'", *DATASETS]),
        (["--dataset", ""], ["unknown data set ''"]),
        (["--dataset", "./nosuch"], ["no folder ./nosuch"]),
        (["--dataset", "digits", "--loss", "adalos"], ["unknown loss 'adalos'", "did you mean adaloss?"]),
        (["--dataset", "digits", "--loss", "softmax", "--loss", "softmax"], ["--loss", "once"]),
        (["--dataset", "digits", "--reference", "norm_softmax"], ["--reference 'norm_softmax'", "none of the losses"]),
        (["--dataset", "digits", "--loss", "softmax", "--reference", "arcface"], ["--reference 'arcface'", "softmax"]),
        (["--dataset", "digits", "--model", "resnet"], ["unknown model 'resnet'", "did you mean resnet9?"]),
        (["--dataset", "digits", "--model", "ArcFaceCNN_CIFAR10"], ["--model ArcFaceCNN_CIFAR10", "28x28x1", "digits"]),
        (["--dataset", "digits", "--trials", "0"], ["--trials must be positive"]),
        (["--dataset", "digits", "--trials", "many"], ["--trials", "integer"]),
        (["--dataset", "digits", "--trials", "1.5"], ["--trials", "integer"]),
        (["--dataset", "digits", "--max-epochs", "0"], ["--max-epochs must be positive"]),
        (["--dataset", "digits", "--grace-epochs", "0"], ["--grace-epochs must be positive"]),
        (["--dataset", "digits", "--grace-epochs", "9", "--max-epochs", "3"], ["--grace-epochs 9", "--max-epochs 3"]),
        (["--dataset", "digits", "--reduction-factor", "1"], ["--reduction-factor must be at least 1.1"]),
        (["--dataset", "digits", "--time-budget", "-1"], ["--time-budget must be positive"]),
        (["--dataset", "digits", "--train-size", "0"], ["--train-size must be positive"]),
        (["--dataset", "digits", "--train-size", "9999999"], ["train size of 9,999,999", "choose 1 to"]),
        (["--dataset", "digits", "--batch-size", "1"], ["--batch-size must be at least 2"]),
        (["--dataset", "digits", "--precision", "fp8"], ["--precision must be one of auto"]),
        (["--dataset", "digits", "--cpus-per-trial", "0"], ["--cpus-per-trial must be positive"]),
        (["--dataset", "digits", "--gpus-per-trial", "-1"], ["--gpus-per-trial must be 0 or more"]),
        (["--dataset", "digits", "--max-concurrent", "0"], ["--max-concurrent must be positive"]),
        (["--dataset", "digits", "--name", "../x"], ["--name must be", "'../x'"]),
        (["--dataset", "digits", "--name", ""], ["--name must be"]),
        (["--dataset", "digits", "--seed", "-1"], ["--seed must be 0 or more"]),
        (["--dataset", "digits", "--confirm-seeds", "0"], ["--confirm-seeds must be at least 1, got 0"]),
        (["--dataset", "digits", "--candidates", "0"], ["--candidates must be at least 1, got 0"]),
        (["--dataset", "digits", "--candidate-seeds", "0"], ["--candidate-seeds must be at least 1, got 0"]),
        (["--dataset", "digits", "--robustness", "-1"], ["--robustness must be 0 or more"]),
        (["--dataset", "digits", "--loss", "arcface", "--controls"], ["--controls", "adaloss", "arcface"]),
        (["--dataset", "digits", "--no-confirm", "--controls"], ["--no-confirm", "what --controls asks"]),
        (["--dataset", "digits", "--no-confirm", "--candidates", "2"], ["--no-confirm", "what --candidates asks"]),
        (["--dataset", "digits", "--study-storage", "sqlite:///x.db"], ["--study-storage", "PostgreSQL", "sqlite"]),
        (["--dataset", "digits", "--study-storage", "db"], ["--study-storage must be of the form postgresql://"]),
        (["--resume"], ["there is no run in results", "--output"]),
        (["--extend", "3"], ["there is no run in results"]),
        (["--resume", "--name", "nosuch"], ["there is no run in results/nosuch", "--name"]),
        (["--resume", "--name", "../x"], ["--name must be", "'../x'"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_bad_options_are_named_in_one_line_and_nothing_is_written(error_of, empty_folder, arguments, words):
    message = error_of(*arguments)
    for word in words:
        assert word in message
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_file_in_place_of_the_output_folder(error_of, empty_folder, output):
    (empty_folder / "file").touch()
    assert "--output: file is a file" in error_of("--dataset", "digits", "--output", output)


@pytest.mark.parametrize("url", [WITH_SECRET, "postgresql://h/db?password=s%40cret"])
def test_a_password_on_the_command_line_is_refused(error_of, url):
    message = error_of("--dataset", "digits", "--study-storage", url)
    assert "--study-storage holds a password" in message
    assert "PGPASSWORD" in message
    assert "cret" not in message


# --- Data that is missing or broken ----------------------------------------------------------------------------------


def test_missing_data_names_both_ways_and_what_needs_neither(error_of, no_network, empty_folder):
    message = error_of("--dataset", "mnist", "--data-dir", "empty")
    assert "Network is unreachable" in message
    assert "empty/mnist" in message
    assert "train-*.parquet" in message
    assert "digits" in message
    assert not (empty_folder / "results").exists()


def test_broken_data_is_named(error_of, empty_folder):
    path = Path("data/mnist/train-00000-of-00001.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"label": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in error_of("--dataset", "mnist")
    assert not (empty_folder / "results").exists()


# --- As a program of its own -----------------------------------------------------------------------------------------


def program(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    script = [str(PROJECT / "tune" / "run_search.py")] if code is None else ["-c", code]
    command = [sys.executable, *script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_it_starts_in_any_folder():
    done = program("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--dataset" in done.stdout


def test_bad_input_is_one_line_and_exit_code_2(empty_folder):
    done = program("--dataset", "cifra10")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "did you mean cifar10?" in done.stderr
    assert list(empty_folder.iterdir()) == []


def test_bad_options_are_told_before_ray_is_loaded():
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(PROJECT)!r})\n"
        "from tune import run_search\n"
        "from tune.console import run_command\n"
        "try: run_command(run_search.main)\n"
        "finally: print('ray' in sys.modules)"
    )
    done = program("--dataset", "digits", "--trials", "0", code=code)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert "--trials" in done.stderr
