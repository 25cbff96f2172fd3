"""`tune.api.search`: the command as a function, with its options, its texts and its records."""

import errno
import inspect
import subprocess
import sys
import threading
import typing

import numpy as np
import pytest

import tune.run
from tests.test_project import PROJECT
from tests.tune.run_search.conftest import TEAM, WITH_SECRET
from tune import run_search
from tune.api import DiskFullError, IncompleteRunError, UserError, search
from tune.confirmation.run import ConfirmOutcome
from tune.invocation import command_line
from tune.settings import ConfirmSettings, SearchSettings

WANTED = {"dataset": "digits", "name": "one"}


@pytest.fixture(autouse=True)
def loaded(monkeypatch, searched):
    """In the place of what reads the run: the stubbed search leaves none. No test here begins a real one."""
    import analysis.runs

    monkeypatch.setattr(analysis.runs, "load", lambda folder: f"loaded {folder}")


# --- Options ---------------------------------------------------------------------------------------------------------


def test_the_keywords_are_the_options_of_the_command_with_their_defaults():
    own = dict(inspect.signature(search).parameters)
    assert own.pop("quiet").default is False
    command = dict(inspect.signature(run_search.main).parameters)
    del command["context"]
    assert {name: parameter.default for name, parameter in own.items()} == {
        name: parameter.default for name, parameter in command.items()
    }
    hints = typing.get_type_hints(run_search.main)
    assert all(parameter.annotation == hints[name] for name, parameter in own.items())
    assert {parameter.kind for parameter in own.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert len(own) > 35


def test_every_option_arrives_as_from_the_command_line(searched, called):
    given = {
        "dataset": "cifar10", "data_dir": PROJECT, "loss": ["softmax", "norm_softmax"], "model": "resnet9",
        "trials": np.int64(3), "max_epochs": 9, "grace_epochs": 4, "reduction_factor": np.float32(2.5),
        "time_budget": 1.5, "train_size": 100, "batch_size": 32, "precision": "fp16", "cpus_per_trial": 1,
        "gpus_per_trial": 0.25, "max_concurrent": 7, "output": "o", "name": "n", "storage": "s3://b",
        "address": "local", "seed": 5, "study_storage": TEAM, "reference": "norm_softmax",
        "checkpoint_interval": 0.0, "niceness": 3,
        "confirm_seeds": 4, "candidates": 2, "candidate_seeds": 1, "robustness": 7, "controls": False,
        "no_confirm": False, "resume": False, "tensorboard": None, "extend": None,
    }  # fmt: skip
    assert search(**given) == "loaded o/n"
    from_keywords = (searched.asked, searched.confirmed, searched.resume)
    words = []
    for name, value in given.items():
        if not isinstance(value, bool) and value is not None:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name.replace('_', '-')}", one]
    assert called(run_search.main, *words)[0] == 0
    assert (searched.asked, searched.confirmed, searched.resume) == from_keywords
    assert from_keywords[0] == SearchSettings(
        dataset="cifar10", data_dir=str(PROJECT), losses=("softmax", "norm_softmax"), model="resnet9", trials=3,
        max_epochs=9, grace_epochs=4, reduction_factor=2.5, time_budget_min=1.5, train_size=100, batch_size=32,
        precision="fp16", cpus_per_trial=1.0, gpus_per_trial=0.25, max_concurrent=7, output="o", name="n",
        storage="s3://b", address="local", seed=5, study_storage=TEAM, reference="norm_softmax",
        checkpoint_interval_s=0.0, niceness=3,
    )  # fmt: skip
    assert from_keywords[1] == ConfirmSettings(4, candidates=2, candidate_seeds=1, controls=False, robustness=7)


def test_switches_are_true_or_false(searched):
    search(**WANTED, no_confirm=True)
    assert searched.confirmed is None
    search(**{**WANTED, "name": "two"}, controls=True)
    assert searched.confirmed.controls


def test_one_loss_needs_no_list_and_a_value_may_begin_with_a_dash(searched):
    search(**WANTED, loss="softmax", data_dir="--data")
    assert (searched.asked.losses, searched.asked.data_dir) == (("softmax",), "--data")


def test_a_file_of_options_and_the_environment_count_less(searched, empty_folder, monkeypatch):
    (empty_folder / "run.yaml").write_text("dataset: digits\ntrials: 5\nmax-epochs: 4\n")
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    search(config=empty_folder / "run.yaml", trials=6, name="one")
    assert (searched.asked.trials, searched.asked.max_epochs, searched.asked.study_storage) == (6, 4, TEAM)


def test_the_record_has_the_command_that_does_the_same(searched, monkeypatch):
    seen = []
    genuine = tune.run.search_and_confirm

    def noting(*arguments, **options):
        seen.append(list(sys.argv))
        return genuine(*arguments, **options)

    monkeypatch.setattr(tune.run, "search_and_confirm", noting)
    before = list(sys.argv)
    search(**WANTED, loss=["softmax", "arcface"], no_confirm=True)
    words = ["--dataset=digits", "--name=one", "--loss=softmax", "--loss=arcface", "--no-confirm"]
    assert (seen, sys.argv) == ([["tune/run_search.py", *words]], before)


# --- What is said ----------------------------------------------------------------------------------------------------


def test_it_says_what_the_command_says_unless_it_is_to_be_quiet(searched, capsys, called):
    said = called(run_search.main, "--dataset", "digits", "--name", "one")
    assert search(**WANTED) == "loaded results/one"
    assert (0, *capsys.readouterr()) == said
    assert said[1].startswith("0:00:00 start: loading Ray for results/one\ncompared results/one\n")
    assert "\npage: results/one/report.html\n" in said[1]
    search(**WANTED, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_prints_the_plan(searched, capsys, monkeypatch):
    import tune.plan

    class Planned:
        def lines(self):
            return ["data: [some]"]

    monkeypatch.setattr(tune.plan, "plan_run", lambda settings, confirmation, console: Planned())
    assert search(**WANTED, dry_run=True) is None
    assert capsys.readouterr() == ("data: [some]\n", "")


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--dataset is missing"),
        ({"dataset": "cifra10"}, "did you mean cifar10"),
        ({"dataset": "digits", "loss": ["adalos"]}, "unknown loss 'adalos'"),
        ({"dataset": "digits", "trials": 0}, "--trials must be positive, got 0"),
        ({"dataset": "digits", "no_confirm": True, "controls": True}, "--no-confirm leaves out what --controls asks"),
        ({"resume": True}, "there is no run in results"),
        ({"resume": True, "name": "nosuch"}, "there is no run in results/nosuch"),
        ({"config": "nosuch.yaml"}, "--config: nosuch.yaml cannot be read"),
    ],
)
def test_what_cannot_be_is_the_commands_line_as_an_error(options, words, called):
    with pytest.raises(UserError) as error:
        search(**options)
    assert words in str(error.value)
    arguments = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        values = value if isinstance(value, list) else [value]
        arguments += [option] if value is True else [part for one in values for part in (option, one)]
    assert called(run_search.main, *arguments) == (2, "", f"error: {error.value}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trails": 3}, "unknown option 'trails' (did you mean trials?)"),
        ({"context": 3}, "unknown option 'context'"),
        ({"trials": "many"}, "--trials must be a whole number, got 'many'"),
        ({"trials": 1.5}, "--trials must be a whole number, got 1.5"),
        ({"trials": True}, "--trials must be a whole number, got True"),
        ({"reduction_factor": "3"}, "--reduction-factor must be a number, got '3'"),
        ({"controls": 1}, "--controls must be True or False, got 1"),
        ({"dataset": 3}, "--dataset must be a text, got 3"),
        ({"loss": [["softmax"]]}, "--loss must be a text"),
        ({"loss": {"softmax"}}, "--loss must be a text, got {'softmax'}"),
        ({"model": object}, "--model must be a text"),
    ],
)
def test_a_keyword_of_another_name_or_type_is_said(options, message):
    with pytest.raises(UserError) as error:
        search(**{"dataset": "digits", **options})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("part", ["search", "confirmation"])
def test_an_interruption_shows_what_there_is_and_says_how_to_go_on(searched, capsys, signal, part):
    if part == "search":
        searched.interrupted = signal
    else:
        searched.confirmation = ConfirmOutcome(signal, {}, [])
    with pytest.raises(KeyboardInterrupt) as error:
        search(**WANTED, output="my results")
    go_on = command_line("search", "--resume", "--output", "my results", "--name", "one")
    assert "-m tune.cli search --resume --output 'my results'" in go_on  # whatever the working directory
    assert str(error.value) == f"interrupted; go on with: {go_on}"
    assert capsys.readouterr().out.endswith("\ncompared my results/one\n")


def test_it_goes_on_with_a_run(searched, existing):
    assert search(resume=True, name="one", cpus_per_trial=2) == "loaded results/one"
    assert searched.resume
    assert searched.asked.cpus_per_trial == 2.0
    assert search(extend=3) == "loaded results/one"
    assert searched.asked.trials == existing.trials + 3


def test_what_a_run_does_not_have_in_the_end_is_an_error_that_knows_its_folder(searched, capsys):
    searched.failures = {"softmax": "ValueError: [no]"}
    searched.confirmation = ConfirmOutcome(None, {"winner-1": "Traceback\nMemoryError: no"}, ["softmax"])
    with pytest.raises(IncompleteRunError) as error:
        search(**WANTED)
    failed, left_out, broken = str(error.value).splitlines()
    assert failed == "every trial of softmax failed; the first: ValueError: [no]"
    assert "no configuration of softmax that works" in left_out
    assert "winner-1: MemoryError: no" in broken
    assert error.value.folder == "results/one"
    assert capsys.readouterr().out.splitlines()[1] == "compared results/one"


def test_a_database_that_does_not_come_back(searched):
    searched.unreachable = "Connection refused"
    with pytest.raises(IncompleteRunError, match=r"did not come back \(Connection refused\); nothing is lost"):
        search(**WANTED, study_storage=TEAM)


def test_a_full_disk_is_the_commands_error(monkeypatch, existing):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tune.run, "search_and_confirm", full)
    with pytest.raises(DiskFullError, match=r"go on with: .*run_search\.py --resume --output results"):
        search(resume=True, name="one")
    with pytest.raises(DiskFullError, match=r"go on with: .*run_search\.py --dataset=digits --name=two$"):
        search(dataset="digits", name="two")


def test_another_thread_hears_no_ctrl_c(searched):
    errors = []

    def call():
        try:
            search(**WANTED)
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert errors == ["search must be called from the main thread, which hears Ctrl-C"]


def test_wrong_input_and_help_load_nothing_heavy():
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(PROJECT)!r})
        from tune.api import search
        from trainables.errors import UserError
        help(search)
        try:
            search(dataset="digits", trials=0)
        except UserError as error:
            print(error, {{"ray", "torch", "pandas", "plotly", "yaml"}} & set(sys.modules), file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stderr == "--trials must be positive, got 0 set()\n"
    assert "train_size: int | None = None" in done.stdout
