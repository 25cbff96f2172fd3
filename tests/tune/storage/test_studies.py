import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
import pytest
from rich.console import Console

from tests.postgres import Proxy
from tests.tune.test_settings import GOOD, error_of
from tune.interruption import Interruption
from tune.records import LossRecords, read_json, write_json
from tune.records.schema import RUN_FILE
from tune.storage import studies as study_storage
from tune.storage.retry import StudyUnreachable
from tune.storage.studies import STUDY_FILE, TeamDatabase, open_study_file, study_names

URL = "postgresql://u@h/db"
LOSSES = list(GOOD.losses)


@pytest.fixture
def settings(tmp_path):
    return replace(GOOD, output=str(tmp_path))


@pytest.fixture
def proxy(postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def opened(settings, postgres, proxy):
    """Opens a team's database, by default an empty one, for a run that has a file."""
    (settings.folder).mkdir()
    write_json(settings.folder / RUN_FILE, {"invocations": [{}, {}]})
    databases = []

    def open_(name=None):
        url = postgres.url(name or postgres.new_database(), port=proxy.port)
        console = Console(file=io.StringIO(), width=80)
        databases.append(TeamDatabase(replace(settings, study_storage=url), Interruption(), console))
        databases[-1].said = console.file.getvalue
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


# --- Names -----------------------------------------------------------------------------------------------------------


def test_in_its_own_file_a_study_is_called_by_data_set_and_loss(settings):
    assert study_names(settings, "digits", resume=False) == {"arcface": "digits-arcface", "adaloss": "digits-adaloss"}


def test_in_a_database_no_two_runs_have_a_name_in_common_even_if_they_are_called_the_same(settings):
    shared = replace(settings, study_storage=URL)
    names = study_names(shared, "digits", resume=False)
    marks = set()
    for loss, name in names.items():
        run, _, study = name.partition("/")
        assert study == f"digits-{loss}"
        assert run.startswith("digits-1-")
        marks.add(run.removeprefix("digits-1-"))
    assert len(marks) == 1
    assert not set(names.values()) & set(study_names(shared, "digits", resume=False).values())


def test_a_run_that_goes_on_keeps_its_names(settings):
    settings.folder.mkdir()
    recorded = {loss: f"a-1/digits-{loss}" for loss in LOSSES}
    write_json(settings.folder / RUN_FILE, {"studies": recorded})
    moved = replace(settings, study_storage=URL)
    assert study_names(moved, "digits", resume=True) == recorded


def test_a_loss_that_comes_later_is_named_as_the_others_are(settings):
    settings.folder.mkdir()
    further = replace(settings, losses=(*settings.losses, "softmax"))
    for storage, before in ((None, ""), (URL, "a-1/")):
        recorded = {loss: f"{before}digits-{loss}" for loss in LOSSES}
        write_json(settings.folder / RUN_FILE, {"studies": recorded})
        expected = {**recorded, "softmax": f"{before}digits-softmax"}
        assert study_names(replace(further, study_storage=storage), "digits", resume=True) == expected


def test_a_run_from_before_names_were_recorded_goes_on_too(settings):
    settings.folder.mkdir()
    write_json(settings.folder / RUN_FILE, {})
    assert study_names(settings, "digits", resume=True) == study_names(settings, "digits", resume=False)


# --- The file --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_not_begun_anew(settings):
    settings.folder.mkdir()
    open_study_file(settings).engine.dispose()
    assert (settings.folder / STUDY_FILE).is_file()
    (settings.folder / STUDY_FILE).unlink()
    LossRecords(settings.folder / "arcface").event("arcface-0000", "started")
    assert "study.db is missing" in error_of(open_study_file, settings)


# --- The database ----------------------------------------------------------------------------------------------------


def test_searches_that_begin_together_make_the_tables_together(settings, postgres, proxy):
    count = 6
    for _ in range(3):
        url, barrier = postgres.url(postgres.new_database(), port=proxy.port), threading.Barrier(count)

        def begin(number, url=url, barrier=barrier):
            barrier.wait()
            database = TeamDatabase(replace(settings, study_storage=url), Interruption(), Console(quiet=True))
            study = optuna.create_study(study_name=str(number), storage=database.storage)
            study.ask()
            database.close()

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(begin, range(count)))


def test_a_name_that_another_run_has_is_refused(opened):
    database, names = opened(), {loss: f"run-1/digits-{loss}" for loss in LOSSES}
    database.check_studies(names, resume=False)
    database.storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], names["adaloss"])
    with pytest.raises(study_storage.UserError) as caught:
        database.check_studies(names, resume=False)
    assert "run-1/digits-adaloss of another run" in str(caught.value)
    assert "--name" in str(caught.value)


def test_a_run_whose_studies_are_elsewhere_does_not_begin_anew(opened, settings):
    database, names = opened(), {loss: f"run-1/digits-{loss}" for loss in LOSSES}
    database.check_studies(names, resume=True)  # killed before its first trial
    LossRecords(settings.folder / "arcface").event("arcface-0000", "started")
    with pytest.raises(study_storage.UserError) as caught:
        database.check_studies(names, resume=True)
    assert f"{database.url} has no study run-1/digits-arcface" in str(caught.value)
    assert "--study-storage" in str(caught.value)
    database.storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], names["arcface"])
    database.check_studies(names, resume=True)


def test_before_the_search_begins_nothing_is_waited_for(opened, proxy):
    database = opened()
    proxy.go_away()
    with pytest.raises(study_storage.UserError) as caught:
        database.check_studies({"arcface": "a"}, resume=False)
    assert str(caught.value).startswith(f"--study-storage {database.url}: ")
    assert database.said() == ""


def test_an_outage_is_told_and_noted_with_the_invocation_under_way(opened, proxy, settings):
    database = opened()
    database.start_retrying()
    proxy.go_away()
    threading.Timer(1.0, proxy.come_back).start()
    assert database.storage.get_all_studies() == []
    began, ended = database.said().splitlines()
    assert began.startswith(f"the study database {database.url} does not answer (")
    assert began.endswith("); trying again for 10 minutes")
    assert ended.startswith("the study database answers again after ")
    first, second = read_json(settings.folder / RUN_FILE)["invocations"]
    assert first == {}
    (outage,) = second["study_storage_outages"]
    assert outage["recovered"]
    assert outage["reason"] in began


def test_one_that_does_not_end_is_noted_too(opened, proxy, settings, monkeypatch):
    monkeypatch.setattr(study_storage, "GIVE_UP_AFTER_S", 0.5)
    database = opened()
    database.start_retrying()
    proxy.go_away()
    with pytest.raises(StudyUnreachable):
        database.storage.get_all_studies()
    (outage,) = read_json(settings.folder / RUN_FILE)["invocations"][1]["study_storage_outages"]
    assert not outage["recovered"]
    assert "answers again" not in database.said()


def test_tables_of_another_version_are_refused_with_what_to_do(opened, postgres):
    name = postgres.new_database()
    opened(name).close()
    postgres.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'", name)
    with pytest.raises(study_storage.UserError, match="optuna storage upgrade"):
        opened(name)
