"""The command of a search without the search itself: what it asks for, says and returns."""

from functools import partial
from pathlib import Path

import pytest
import torchvision

import analysis.compare
import analysis.dashboard
import analysis.findings
import tune.run
from tests.tune.told import no_findings, without_start
from tune import run_search
from tune.confirmation.run import ConfirmOutcome
from tune.records import write_json
from tune.records.schema import RUN_FILE
from tune.run import RunOutcome
from tune.search.run import SearchOutcome
from tune.settings import ConfirmSettings, SearchSettings

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
        assert (code, without_start(out)) == (2, "")
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
        interrupted: str | None = None
        unreachable: str | None = None
        failures: dict[str, str] = {}  # noqa: RUF012
        confirmed: ConfirmSettings | None = None
        confirmation = ConfirmOutcome(None, {}, [])

        def __call__(self, settings, confirmation, *, resume, console, callbacks, opening):
            self.asked, self.resume, self.confirmed = settings, resume, confirmation
            ended = SearchOutcome(self.interrupted, self.failures, self.unreachable)
            is_over = self.interrupted or self.unreachable or confirmation is None
            return RunOutcome(ended, None if is_over else self.confirmation)

    search = Search()
    monkeypatch.setattr(tune.run, "search_and_confirm", search)
    monkeypatch.setattr(analysis.findings, "load_findings", no_findings)
    monkeypatch.setattr(analysis.compare, "summary_text", lambda found, width: f"compared {found[0].run.folder}")
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
