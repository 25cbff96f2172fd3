import shlex
from functools import partial

import pytest

import analysis.compare
import analysis.dashboard
import analysis.findings
import tune.run
from tests.tune.told import no_findings, without_start
from tune import confirm
from tune.confirmation.run import ConfirmOutcome
from tune.records import write_json
from tune.settings import ConfirmSettings, SearchSettings

SETTINGS = SearchSettings(
    dataset="digits", data_dir="old", losses=("arcface", "adaloss"), model="ArcFaceCNN", trials=4, max_epochs=2,
    grace_epochs=1, reduction_factor=3.0, time_budget_min=None, train_size=None, batch_size=64, precision="float32",
    cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None, output="elsewhere", name="old", storage=None,
    address=None, seed=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A run called `one` in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("ADALOSS_DATA", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "one").mkdir()
    write_json(tmp_path / "one" / "run.json", {"settings": SETTINGS.to_dict()})
    return tmp_path / "one"


@pytest.fixture
def command(called):
    """Runs the command with arguments and returns exit code, output and errors."""
    return partial(called, confirm.main)


@pytest.fixture
def confirmed(monkeypatch):
    class Confirmation:
        settings: SearchSettings
        asked: ConfirmSettings | None = None
        outcome = ConfirmOutcome(None, {}, [])

        def __call__(self, settings, asked, *, console, callbacks, opening):
            self.settings, self.asked = settings, asked
            return self.outcome

    confirmation = Confirmation()
    monkeypatch.setattr(tune.run, "confirm_run", confirmation)
    monkeypatch.setattr(analysis.findings, "load_findings", no_findings)
    monkeypatch.setattr(analysis.compare, "summary_text", lambda found, width: f"compared {found[0].run.folder.name}")
    monkeypatch.setattr(analysis.dashboard, "write_report", lambda folders, page: None)
    return confirmation


def test_a_finished_run_is_all_that_must_be_said(command, confirmed, folder):
    code, out, err = command("one")
    assert (code, err) == (0, "")
    assert without_start(out).startswith("compared one\n\npage: one/report.html\nrecords: one\n\nnext:\n")
    assert confirmed.asked == ConfirmSettings()
    assert confirmed.settings.folder == folder
    assert confirmed.settings.data_dir == "old"


def test_every_option_arrives(command, confirmed):
    options = "--confirm-seeds 4 --candidates 5 --candidate-seeds 6 --controls --robustness 7"
    places = "--data-dir new --cpus-per-trial 2 --gpus-per-trial 0 --max-concurrent 1 --address local"
    assert command("one", *options.split(), *places.split())[0] == 0
    assert confirmed.asked == ConfirmSettings(4, 5, 6, controls=True, robustness=7)
    settings = confirmed.settings
    assert (settings.data_dir, settings.cpus_per_trial, settings.gpus_per_trial) == ("new", 2.0, 0.0)
    assert (settings.max_concurrent, settings.address) == (1, "local")


def test_what_an_earlier_confirmation_was_asked_for_stays(command, confirmed, folder):
    recorded = {"seeds": 7, "candidates": 2, "candidate_seeds": 1, "controls": True, "robustness": 3, "history": []}
    write_json(folder / "run.json", {"settings": SETTINGS.to_dict(), "confirmation": recorded})
    assert command("one", "--confirm-seeds", 20)[0] == 0
    assert confirmed.asked == ConfirmSettings(20, 2, 1, controls=True, robustness=3)


def test_an_interrupted_one_says_how_to_go_on(command, confirmed):
    confirmed.outcome = ConfirmOutcome("SIGINT", {}, [])
    code, out, _ = command("one", "--confirm-seeds", 4)
    assert code == 130
    assert shlex.split(out.partition("go on with: ")[2])[1:] == ["confirm.py", "one"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "RUN"),
        (["nosuch"], "there is no run in nosuch"),
        (["one", "--confirm-seeds", "0"], "--confirm-seeds must be at least 1"),
        (["one", "--candidates", "0"], "--candidates must be at least 1"),
        (["one", "--max-concurrent", "0"], "--max-concurrent must be positive"),
        (["one", "--trials", "3"], "--trials"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, folder, arguments, words):
    before = (folder / "run.json").read_bytes()
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert (folder / "run.json").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_search_that_is_not_finished_is_told(command, folder):
    code, out, err = command("one")
    assert (code, without_start(out)) == (2, "")
    assert "not finished" in err
    assert "--resume" in err
