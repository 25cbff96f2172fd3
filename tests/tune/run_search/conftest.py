"""The command of a search without the search itself: what it asks for, says and returns."""

from functools import partial
from pathlib import Path

import pytest
import torchvision

import analysis.compare
import analysis.dashboard
import analysis.findings
import tune.confirmation.run
import tune.search.run
from tune import run_search
from tune.confirmation.run import ConfirmOutcome
from tune.records import write_json
from tune.search.run import Outcome
from tune.settings import RUN_FILE, ConfirmSettings, SearchSettings

TEAM, WITH_SECRET = "postgresql://u@h/db", "postgres://u:s%40cret@h/db"  # of a team's database


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test works in an empty folder, with its own cache and without the user's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    for name in ("ADALOSS_DATA", "ADALOSS_STORAGE", "ADALOSS_STUDY_STORAGE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(called):
    """Runs the command with arguments and returns exit code, output and errors."""
    return partial(called, run_search.main)


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
    monkeypatch.setattr(tune.search.run, "run_search", search)
    monkeypatch.setattr(tune.confirmation.run, "run_confirmation", search.confirm)
    monkeypatch.setattr(analysis.findings, "load_findings", lambda folders: folders)
    monkeypatch.setattr(analysis.compare, "comparison_text", lambda folders: f"compared {folders[0]}")
    monkeypatch.setattr(analysis.dashboard, "write_report", lambda folders, page: None)
    return search


@pytest.fixture
def no_network(monkeypatch):
    """A torchvision whose downloads fail as they do without a network."""

    def refuse(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)


def write_json_run(folder, settings: SearchSettings, **rest) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / RUN_FILE, {"settings": settings.to_dict(), **rest})


@pytest.fixture
def existing(command, searched):
    """A run called `one`, of the digits, with settings as the command makes them; it was interrupted."""
    command("--dataset", "digits", "--name", "one", "--seed", "3")
    write_json_run("results/one", searched.asked)
    return searched.asked
