import errno
import re
import shlex

import pytest

import analysis.dashboard
import tune.run
from tests.tune.run_search.conftest import TEAM, write_json_run
from tests.tune.told import without_start
from tune.confirmation.run import ConfirmOutcome


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_search_says_how_to_go_on(command, searched, signal, code):
    searched.interrupted = signal
    ended, out, _ = command("--dataset", "digits", "--output", "my results", "--name", "one")
    assert ended == code
    go_on = shlex.split(out.partition("go on with: ")[2])
    assert go_on[1] == "run_search.py"
    write_json_run("my results/one", searched.asked)
    searched.interrupted = None
    assert command(*go_on[2:])[0] == 0
    assert searched.resume


def test_a_loss_of_which_all_trials_failed_is_an_error(command, searched):
    searched.failures = {"softmax": "ValueError: [no] good"}
    code, out, _ = command("--dataset", "digits")
    assert code == 1
    assert without_start(out).startswith("compared ")


def test_a_database_that_does_not_come_back_ends_the_search_with_the_way_to_go_on(command, searched):
    searched.unreachable = "Connection refused"
    code, out, err = command("--dataset", "digits", "--name", "one", "--study-storage", TEAM)
    assert (code, without_start(out)) == (1, "")
    assert err.startswith(f"error: the study database {TEAM} did not come back (Connection refused); nothing is lost")
    assert err.endswith(" run_search.py --resume --output results --name one\n")
    assert err.count("\n") == 1


def test_ctrl_c_counts_more_than_that_the_database_is_away(command, searched):
    searched.unreachable, searched.interrupted = "Connection refused", "SIGINT"
    code, out, err = command("--dataset", "digits", "--study-storage", TEAM)
    assert (code, err) == (130, "")
    assert "go on with: " in out


# --- The confirmation ------------------------------------------------------------------------------------------------


def test_an_interrupted_confirmation_says_how_to_go_on(command, searched):
    searched.confirmation = ConfirmOutcome("SIGINT", {}, [])
    code, out, _ = command("--dataset", "digits", "--name", "one")
    assert code == 130
    assert re.search(r"go on with: \S+ run_search\.py --resume --output results --name one\n$", out)


def test_runs_that_broke_and_losses_left_out_are_errors(command, searched):
    searched.confirmation = ConfirmOutcome(None, {"winner-1": "Traceback\nMemoryError: no"}, ["softmax"])
    code, out, err = command("--dataset", "digits", "--name", "one")
    assert code == 1
    assert without_start(out).startswith("compared ")
    left_out, broken = err.splitlines()
    assert "no configuration of softmax that works" in left_out
    assert "1 runs of the confirmation broke" in broken
    assert "winner-1: MemoryError: no" in broken
    assert broken.endswith("--resume --output results --name one")


def test_a_disk_that_is_full_in_the_confirmation_is_said_with_the_searchs_command(command, existing, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tune.run, "search_and_confirm", full)
    code, _, err = command("--resume", "--name", "one", "--confirm-seeds", 2)
    assert code == 1
    assert err.count("\n") == 1
    assert "is full; " in err or "is full (" in err
    assert err.endswith(" run_search.py --resume --output results --name one\n")


def test_a_page_that_cannot_be_written_hides_no_result(command, searched, monkeypatch):
    def locked(folders, page):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(analysis.dashboard, "write_report", locked)
    code, out, err = command("--dataset", "digits", "--name", "one")
    assert (code, without_start(out)) == (2, "compared results/one\n")
    assert err == (
        "error: results/one/report.html cannot be written: Permission denied; the results are in results/one\n"
    )
