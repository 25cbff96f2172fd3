import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
import typer

import analysis.compare
import analysis.dashboard
import tune.confirmation
import tune.search
from search_spaces import SEARCH_SPACES
from trainables.config import PRECISIONS
from trainables.data import DATASETS
from trainables.models import MODELS
from tune import run_search
from tune.confirmation import ConfirmOutcome
from tune.console import run_command
from tune.records import write_json
from tune.search import Outcome
from tune.settings import DEFAULT_LOSSES, RUN_FILE, ConfirmSettings, SearchSettings, default_budget

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test works in an empty folder, with its own cache and without the user's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    for name in ("ADALOSS_DATA", "ADALOSS_STORAGE", "ADALOSS_STUDY_STORAGE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with arguments and returns exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run_search.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run_command(run_search.main)
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def error_of(command):
    """Runs the command with bad arguments and returns the one line that it says of them."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def searched(monkeypatch):
    """Takes the place of the search: what it was asked for, and how it shall end."""

    class Search:
        asked: SearchSettings
        resume: bool
        announced: ConfirmSettings | None
        interrupted: str | None = None
        unreachable: str | None = None
        failures: dict[str, str] = {}  # noqa: RUF012
        confirmed: ConfirmSettings | None = None
        confirmation = ConfirmOutcome(None, {}, [])

        def __call__(self, settings, *, resume, console, confirmation, callbacks):
            self.asked, self.resume, self.announced = settings, resume, confirmation
            return Outcome(settings, self.interrupted, self.failures, self.unreachable)

        def confirm(self, settings, asked, *, console, callbacks):
            assert settings is self.asked
            self.confirmed = asked
            return self.confirmation

    search = Search()
    monkeypatch.setattr(tune.search, "run_search", search)
    monkeypatch.setattr(tune.confirmation, "run_confirmation", search.confirm)
    monkeypatch.setattr(analysis.compare, "comparison_text", lambda folders: f"compared {folders[0]}")
    monkeypatch.setattr(analysis.dashboard, "write_report", lambda folders, page: None)
    return search


@pytest.fixture
def no_network(monkeypatch):
    """A torchvision whose downloads fail as they do without a network."""

    def refuse(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)


# --- Good input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_data_set_is_all_that_must_be_said(command, searched, dataset):
    code, out, err = command("--dataset", dataset)
    assert (code, err) == (0, "")
    asked, budget = searched.asked, default_budget(dataset)
    assert out == f"compared {asked.folder}\npage: {asked.folder}/report.html\n"
    assert asked.losses == DEFAULT_LOSSES
    assert (asked.trials, asked.max_epochs, asked.grace_epochs, asked.batch_size) == (
        budget.trials,
        budget.max_epochs,
        budget.grace_epochs,
        budget.batch_size,
    )
    assert asked.output == "results"
    assert asked.name.startswith(f"{dataset}-2")
    assert not searched.resume


@pytest.mark.parametrize(
    ("dataset", "start"),
    [("my images (new)", "my-images-new-2"), ("a/b.c/", "b.c-2"), ("..", ""), ("ü", "run-2"), ("x" * 200, "x" * 80)],
)
def test_a_run_on_a_folder_gets_a_valid_name_whatever_the_folder_is_called(command, searched, dataset, start):
    Path(dataset).mkdir(parents=True, exist_ok=True)
    assert command("--dataset", dataset)[0] == 0
    assert searched.asked.name.startswith(start)


def test_every_option_arrives(command, searched):
    given = {
        "dataset": "cifar10", "data_dir": "d", "losses": ("softmax", "norm_softmax"), "model": "resnet9", "trials": 3,
        "max_epochs": 9, "grace_epochs": 4, "reduction_factor": 2.5, "time_budget_min": 1.5, "train_size": 100,
        "batch_size": 32, "precision": "fp16", "cpus_per_trial": 0.5, "gpus_per_trial": 0.25, "max_concurrent": 7,
        "output": "o", "name": "n", "storage": "s3://b", "address": "local", "seed": 5,
        "study_storage": "postgresql://u@h:5433/db",
    }  # fmt: skip
    arguments = []
    for field, value in given.items():
        option = {"losses": "--loss", "time_budget_min": "--time-budget"}.get(field, "--" + field.replace("_", "-"))
        for one in value if isinstance(value, tuple) else (value,):
            arguments += [option, one]
    assert command(*arguments)[0] == 0
    assert searched.asked == SearchSettings(**given)


def test_the_grace_period_follows_a_short_search(command, searched):
    assert command("--dataset", "digits", "--max-epochs", 1)[0] == 0
    assert (searched.asked.max_epochs, searched.asked.grace_epochs) == (1, 1)


def test_the_data_folder_may_come_from_the_environment(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_DATA", "from/environment")
    command("--dataset", "digits")
    assert searched.asked.data_dir == "from/environment"
    command("--dataset", "digits", "--data-dir", "given")
    assert searched.asked.data_dir == "given"


def test_the_storage_may_be_the_clusters(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_STORAGE", "s3://of-the/cluster")
    command("--dataset", "digits", "--name", "run")
    assert searched.asked.storage == "s3://of-the/cluster"
    command("--dataset", "digits", "--storage", "s3://of/this-run", "--name", "other")
    assert searched.asked.storage == "s3://of/this-run"


# --- A team's database -----------------------------------------------------------------------------------------------

TEAM, WITH_SECRET = "postgresql://u@h/db", "postgres://u:s%40cret@h/db"


def test_the_database_may_come_from_the_environment_and_its_password_goes_no_further(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    code, out, err = command("--dataset", "digits")
    assert (code, err) == (0, "")
    assert searched.asked.study_storage == TEAM
    assert "cret" not in f"{out}{searched.asked}"
    command("--dataset", "digits", "--study-storage", "postgresql://u@other/db", "--name", "other")
    assert searched.asked.study_storage == "postgresql://u@other/db"


@pytest.mark.parametrize("url", [WITH_SECRET, "postgresql://h/db?password=s%40cret"])
def test_a_password_on_the_command_line_is_refused(error_of, url):
    message = error_of("--dataset", "digits", "--study-storage", url)
    assert "--study-storage holds a password" in message
    assert "PGPASSWORD" in message
    assert "cret" not in message


def test_a_run_goes_on_with_its_database(command, searched, monkeypatch):
    command("--dataset", "digits", "--name", "one", "--study-storage", TEAM)
    write_json_run("results/one", searched.asked)
    for variable in (None, WITH_SECRET):
        if variable:
            monkeypatch.setenv("ADALOSS_STUDY_STORAGE", variable)
        assert command("--resume")[0] == 0
        assert searched.asked.study_storage == TEAM
    assert command("--resume", "--study-storage", "postgresql://u@moved/db")[0] == 0
    assert searched.asked.study_storage == "postgresql://u@moved/db"


def test_a_run_with_a_file_of_its_own_goes_on_with_that(command, error_of, searched, existing, monkeypatch):
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    assert command("--resume")[0] == 0
    assert searched.asked == existing
    assert "study.db" in error_of("--resume", "--study-storage", TEAM)


def test_a_database_that_does_not_come_back_ends_the_search_with_the_way_to_go_on(command, searched):
    searched.unreachable = "Connection refused"
    code, out, err = command("--dataset", "digits", "--name", "one", "--study-storage", TEAM)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: the study database {TEAM} did not come back (Connection refused); nothing is lost")
    assert err.endswith("python tune/run_search.py --resume --output results --name one\n")
    assert err.count("\n") == 1
    assert searched.confirmed is None


def test_ctrl_c_counts_more_than_that_the_database_is_away(command, searched):
    searched.unreachable, searched.interrupted = "Connection refused", "SIGINT"
    code, out, err = command("--dataset", "digits", "--study-storage", TEAM)
    assert (code, err) == (130, "")
    assert "go on with: " in out


# --- The confirmation ------------------------------------------------------------------------------------------------


def test_a_search_is_confirmed_unless_told_otherwise(command, searched):
    assert command("--dataset", "digits")[0] == 0
    assert searched.announced == searched.confirmed == ConfirmSettings()
    searched.confirmed = None
    assert command("--dataset", "digits", "--no-confirm", "--name", "other")[0] == 0
    assert searched.announced is None
    assert searched.confirmed is None


def test_the_confirmations_options_arrive(command, searched):
    assert command("--dataset", "digits", "--confirm-seeds", 4, "--controls", "--robustness", 7)[0] == 0
    assert searched.confirmed == ConfirmSettings(seeds=4, controls=True, robustness=7)


def test_an_interrupted_search_is_not_confirmed(command, searched):
    searched.interrupted = "SIGTERM"
    assert command("--dataset", "digits")[0] == 143
    assert searched.confirmed is None


def test_an_interrupted_confirmation_says_how_to_go_on(command, searched):
    searched.confirmation = ConfirmOutcome("SIGINT", {}, [])
    code, out, _ = command("--dataset", "digits", "--name", "one")
    assert code == 130
    assert out.endswith("go on with: python tune/run_search.py --resume --output results --name one\n")


def test_runs_that_broke_and_losses_left_out_are_errors(command, searched):
    searched.confirmation = ConfirmOutcome(None, {"winner-1": "Traceback\nMemoryError: no"}, ["softmax"])
    code, out, err = command("--dataset", "digits", "--name", "one")
    assert code == 1
    assert out.startswith("compared ")
    left_out, broken = err.splitlines()
    assert "no configuration of softmax that works" in left_out
    assert "1 runs of the confirmation broke" in broken
    assert "winner-1: MemoryError: no" in broken
    assert broken.endswith("--resume --output results --name one")


def test_a_run_goes_on_with_the_confirmation_that_it_was_started_with(command, searched):
    command("--dataset", "digits", "--name", "one")
    write_json_run("results/one", searched.asked, confirmation={"seeds": 7, "controls": True, "history": []})
    assert command("--resume")[0] == 0
    assert searched.confirmed == ConfirmSettings(seeds=7, controls=True)
    assert command("--resume", "--confirm-seeds", 9)[0] == 0
    assert searched.confirmed == ConfirmSettings(seeds=9, controls=True)
    searched.confirmed = None
    write_json_run("results/one", searched.asked)
    assert command("--resume")[0] == 0
    assert searched.confirmed is None
    assert command("--resume", "--robustness", 3)[0] == 0
    assert searched.confirmed == ConfirmSettings(robustness=3)


def test_a_page_that_cannot_be_written_hides_no_result(command, searched, monkeypatch):
    def locked(folders, page):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(analysis.dashboard, "write_report", locked)
    code, out, err = command("--dataset", "digits", "--name", "one")
    assert (code, out) == (2, "compared results/one\n")
    assert err == (
        "error: results/one/report.html cannot be written: Permission denied; the results are in results/one\n"
    )


# --- How it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_search_says_how_to_go_on(command, searched, signal, code):
    searched.interrupted = signal
    ended, out, _ = command("--dataset", "digits", "--output", "my results", "--name", "one")
    assert ended == code
    go_on = shlex.split(out.partition("go on with: ")[2])
    assert go_on[:2] == ["python", "tune/run_search.py"]
    write_json_run("my results/one", searched.asked)
    searched.interrupted = None
    assert command(*go_on[2:])[0] == 0
    assert searched.resume


def test_a_loss_of_which_all_trials_failed_is_an_error(command, searched):
    searched.failures = {"softmax": "ValueError: [no] good"}
    code, out, err = command("--dataset", "digits")
    assert code == 1
    assert out.startswith("compared ")
    assert err == "error: every trial of softmax failed; the first: ValueError: [no] good\n"


# --- Bad options -----------------------------------------------------------------------------------------------------


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
        (["--dataset", "digits", "--robustness", "-1"], ["--robustness must be 0 or more"]),
        (["--dataset", "digits", "--loss", "arcface", "--controls"], ["--controls", "adaloss", "arcface"]),
        (["--dataset", "digits", "--no-confirm", "--controls"], ["--no-confirm", "--controls"]),
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


# --- Runs that are there already -------------------------------------------------------------------------------------


def write_json_run(folder, settings: SearchSettings, **rest) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / RUN_FILE, {"settings": settings.to_dict(), **rest})


@pytest.fixture
def existing(command, searched):
    """A run called `one`, of the digits, with settings as the command makes them; it was interrupted."""
    command("--dataset", "digits", "--name", "one", "--seed", "3")
    write_json_run("results/one", searched.asked)
    return searched.asked


def test_a_run_is_not_written_over(error_of):
    Path("results/one").mkdir(parents=True)
    Path("results/one/run.json").write_text("{}")
    message = error_of("--dataset", "digits", "--name", "one")
    assert "results/one exists already" in message
    assert "--resume" in message
    assert "--name" in message
    assert [path.name for path in Path("results/one").iterdir()] == ["run.json"]


def test_resume_goes_on_with_the_newest_run(command, searched, existing):
    write_json_run("results/two", replace(existing, name="two", seed=4))
    os.utime("results/one/run.json", (1e9, 1e9))
    assert command("--resume")[0] == 0
    assert (searched.asked.name, searched.asked.seed, searched.resume) == ("two", 4, True)
    assert command("--resume", "--name", "one")[0] == 0
    assert searched.asked == existing


def test_a_run_that_was_moved_goes_on_where_it_is_now(command, searched, existing):
    Path("results").rename("moved")
    Path("moved/one").rename("moved/other")
    assert command("--resume", "--output", "moved")[0] == 0
    assert searched.asked == replace(existing, output="moved", name="other")


def test_a_clusters_storage_is_no_wish_to_move_a_run_that_is_there(command, searched, existing, monkeypatch):
    monkeypatch.setenv("ADALOSS_STORAGE", "s3://of-the/cluster")
    monkeypatch.setenv("ADALOSS_DATA", "of-the-machine")
    assert command("--resume")[0] == 0
    assert searched.asked == replace(existing, data_dir="of-the-machine")


def test_resume_takes_another_machines_options(command, searched, existing):
    assert command("--resume", "--cpus-per-trial", 2, "--address", "auto", "--data-dir", "d", "--seed", 3)[0] == 0
    assert searched.asked == replace(existing, cpus_per_trial=2.0, address="auto", data_dir="d")


def test_extend_adds_trials(command, searched, existing):
    assert command("--extend", 5)[0] == 0
    assert searched.asked == replace(existing, trials=existing.trials + 5)
    assert searched.resume


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "7"], ["--seed 7 differs from the run's 3"]),
        (["--dataset", "mnist"], ["--dataset mnist differs from the run's digits"]),
        (["--loss", "softmax"], ["--loss softmax differs from the run's arcface, adaloss, softmax"]),
        (["--max-epochs", "3"], ["--max-epochs 3 differs from the run's 20"]),
        (["--trials", "20"], ["--trials 20 differs from the run's 12", "--extend"]),
        (["--extend", "0"], ["--extend must be positive"]),
        (["--cpus-per-trial", "0"], ["--cpus-per-trial must be positive"]),
    ],
)
def test_a_run_does_not_go_on_as_another(error_of, existing, arguments, words):
    before = Path("results/one/run.json").read_bytes()
    message = error_of("--resume", *arguments)
    for word in words:
        assert word in message
    assert Path("results/one/run.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "{}", '{"settings": {"trials": 3}}'])
def test_a_damaged_run_file_is_named(error_of, content):
    Path("results/one").mkdir(parents=True)
    Path("results/one/run.json").write_text(content)
    assert "run.json" in error_of("--resume")


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


# --- Help ------------------------------------------------------------------------------------------------------------


def test_help_lists_every_option_with_its_default(command):
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    app = typer.Typer(add_completion=False)
    app.command()(run_search.main)
    text = " ".join(out.split())
    no_default = {"--dataset", "--resume", "--extend", "--help", "--no-confirm", "--controls"}
    no_default |= {"--tensorboard", "--mlflow"}
    for parameter in typer.main.get_command(app).params:
        option = parameter.opts[0]
        assert f" {option} " in text
        described = re.split(r" --(?=[a-z-]+ )", text.partition(f" {option} ")[2])[0]
        assert "[default: " in described or option in no_default, described
    assert all(len(line) <= 110 for line in out.splitlines())


@pytest.mark.parametrize("names", [DATASETS, SEARCH_SPACES, MODELS, PRECISIONS], ids=["data", "loss", "model", "bits"])
def test_help_knows_all_names(command, names):
    words = re.findall(r"\w+", command("-h")[1])
    assert set(names) <= set(words)


# --- As a program of its own -----------------------------------------------------------------------------------------


def program(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    script = [str(PROJECT / "tune" / "run_search.py")] if code is None else ["-c", code]
    command = [sys.executable, *script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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
