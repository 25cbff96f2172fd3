"""A run whose studies lie in a team's database: the page reads them there, or says why it does not."""

import shutil
import socket
from pathlib import Path

import optuna
import pytest

from analysis import study_database
from analysis.findings import load_findings
from analysis.live import runs as live
from analysis.loading import load_run
from analysis.plots import PAGES
from analysis.plots.studies import StudyError, read_trials
from tests.postgres import Proxy
from tune.records import RecordError, read_json, write_json
from tune.storage.url import VARIABLE

PAGE = next(page for page in PAGES if page.key == "parameters")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    for name in (VARIABLE, "PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    study_database._read.cache_clear()
    study_database._failures.clear()
    yield
    study_database._read.cache_clear()
    study_database._failures.clear()


@pytest.fixture
def proxy(postgres):
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def database(postgres, example_run):
    """A database with the studies of the example, under other names than in its file."""
    name = postgres.new_database()
    storage = optuna.storages.RDBStorage(postgres.url(name, password=True).replace("://", "+psycopg://"))
    file = f"sqlite:///{example_run(seeds=0, study=True)}/study.db"
    for study in optuna.get_all_study_names(file):
        optuna.copy_study(from_study_name=study, from_storage=file, to_storage=storage, to_study_name=f"team-1/{study}")
    storage.remove_session()
    storage.engine.dispose()
    return name


@pytest.fixture
def folder(example_run, database, postgres, proxy, tmp_path):
    """The example, as if it had kept its studies in the database behind the proxy."""
    folder = shutil.copytree(example_run(seeds=0, study=True), tmp_path / "run")
    (folder / "study.db").unlink()
    point_to(folder, postgres.url(database, port=proxy.port))
    return folder


def point_to(folder: Path, url: object) -> None:
    run = read_json(folder / "run.json")
    run["settings"]["study_storage"] = url
    run["studies"] = {loss: f"team-1/cifar10-{loss}" for loss in run["settings"]["losses"]}
    write_json(folder / "run.json", run)


def as_it_is(trials):
    return [(t.number, t.state, t.values, t.params, t.intermediate_values) for t in trials.trials]


def note_of(folder: Path) -> str:
    sheet = PAGE.build(load_findings([folder]))
    assert not sheet.pictures
    (note,) = sheet.notes
    return note


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_trials_are_those_that_a_file_would_have(folder, example_run, postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    there, here = read_trials(load_run(folder)), read_trials(load_run(example_run(seeds=0, study=True)))
    assert list(there) == list(here) == load_run(folder).losses
    for loss in here:
        assert as_it_is(there[loss]) == as_it_is(here[loss])
    assert PAGE.build(load_findings([folder])).pictures


def test_the_password_may_be_in_the_variable_or_in_a_file(folder, postgres, proxy, database, tmp_path, monkeypatch):
    assert "no password supplied" in note_of(folder)
    study_database._failures.clear()
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, postgres.url(database, password=True, port=proxy.port))
        assert read_trials(load_run(folder))
    study_database._read.cache_clear()
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"127.0.0.1:{proxy.port}:*:*:{postgres.escaped_password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert read_trials(load_run(folder))


def test_it_is_read_again_only_when_another_trial_has_ended(folder, postgres, proxy, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    run = load_run(folder)
    first = read_trials(run)["arcface"]
    proxy.go_away()
    assert read_trials(run)["arcface"] is first
    run.trials.loc[run.trials.index[0], "state"] = "unfinished"
    with pytest.raises(StudyError):
        read_trials(run)


def test_reading_leaves_the_database_as_it_was(folder, postgres, database, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    tables = ("studies", "trials", "trial_values", "study_user_attributes", "version_info", "alembic_version")
    before = [postgres.execute(f"SELECT * FROM {table} ORDER BY 1", database) for table in tables]
    read_trials(load_run(folder))
    assert [postgres.execute(f"SELECT * FROM {table} ORDER BY 1", database) for table in tables] == before


# --- What can be wrong -----------------------------------------------------------------------------------------------


def test_a_database_that_does_not_answer_is_said_and_the_rest_is_shown(folder, postgres, proxy, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setattr(study_database, "RETRY_S", 0.0)
    proxy.go_away()
    note = note_of(folder)
    assert note.startswith("Hyperparameters on cifar10: postgresql://adaloss@127.0.0.1:")
    assert "cannot be read" in note
    assert postgres.password not in note
    others = {page.key: page.build(load_findings([folder])) for page in PAGES if page.key in {"curves", "search"}}
    assert all(sheet.pictures for sheet in others.values())
    proxy.come_back()
    assert PAGE.build(load_findings([folder])).pictures


def test_one_that_did_not_answer_is_left_alone_for_a_while(folder, postgres, proxy, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    proxy.go_away()
    note = note_of(folder)
    proxy.come_back()
    assert note_of(folder) == note


def test_the_live_page_looks_again_although_no_record_changes(folder, postgres, proxy, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setattr(study_database, "RETRY_S", 0.0)
    runs = live.Runs([folder], interval_s=0)
    proxy.go_away()
    first = runs.look(PAGE)
    assert [block.key for block in first.blocks] == ["parameters-notes"]
    assert not first.problems
    proxy.come_back()
    second = runs.look(PAGE)
    assert (second.version, second.blocks) == (first.version, first.blocks)
    monkeypatch.setattr(live.time, "monotonic", lambda: 1e9)
    later = runs.look(PAGE)
    assert later.version != first.version
    assert any("picture" in block.key for block in later.blocks)


def test_a_server_that_says_nothing_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "x")
    monkeypatch.setattr(study_database, "_CONNECT_TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(folder, f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db")
        assert "timeout" in note_of(folder)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://h/d", "PostgreSQL"),
        ("nonsense", "must be of the form"),
        ("postgresql://u@127.0.0.1:1/<script>alert(1)</script>", "Connection refused"),
    ],
)
def test_an_address_that_cannot_be_is_said(folder, url, words):
    point_to(folder, url)
    assert words in note_of(folder)


def test_a_study_that_is_not_there_is_named(folder, postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    run = read_json(folder / "run.json")
    write_json(folder / "run.json", {**run, "studies": {**run["studies"], "arcface": "other"}})
    assert "has no study other" in note_of(folder)


@pytest.mark.parametrize("studies", [None, [], {"arcface": 1}, {}])
def test_a_run_file_that_names_no_studies_is_said(folder, studies):
    write_json(folder / "run.json", {**read_json(folder / "run.json"), "studies": studies})
    assert "run.json does not name the studies" in note_of(folder)


def test_an_address_that_is_no_text_makes_a_damaged_file(folder):
    point_to(folder, 5)
    with pytest.raises(RecordError, match="study_storage"):
        load_run(folder)


def test_tables_of_another_version_are_said(folder, postgres, database, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    ((version,),) = postgres.execute("SELECT version_num FROM alembic_version", database)
    postgres.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'", database)
    try:
        assert "another version of Optuna" in note_of(folder)
    finally:
        postgres.execute(f"UPDATE alembic_version SET version_num = '{version}'", database)


# --- A run's file that somebody else wrote ---------------------------------------------------------------------------


def test_a_server_that_only_the_file_names_gets_no_password_in_clear_text(
    folder, postgres, database, proxy, monkeypatch
):
    postgres.ask_for_clear_text("naive")
    postgres.execute("CREATE ROLE naive LOGIN PASSWORD 'x'")
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO naive", database)
    url = f"postgresql://naive@127.0.0.1:{proxy.port}/{database}"
    point_to(folder, url)
    monkeypatch.setenv("PGPASSWORD", "x")
    note = note_of(folder)
    assert "cleartext" in note
    assert VARIABLE in note
    monkeypatch.setenv(VARIABLE, url.replace("@", ":x@"))
    study_database._failures.clear()
    assert read_trials(load_run(folder))
