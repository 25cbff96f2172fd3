"""The storage against a real server, with a proxy between them that cuts connections where it hurts most."""

import inspect
import pickle
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search_spaces import SEARCH_SPACES
from tests.postgres import Proxy
from tune.records import LossRecords
from tune.search.loss_study import LossStudy, SearchPlan
from tune.storage.retry import Retrying, StudyUnreachable
from tune.storage.retrying_storage import REQUEST_KEY, RetryingStorage
from tune.storage.url import VARIABLE, login

MAX_EPOCHS = 9
MAXIMIZE = [StudyDirection.MAXIMIZE]


@pytest.fixture(scope="module")
def database(postgres):
    return postgres.new_database()


@pytest.fixture
def proxy(postgres):
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def opened(postgres, database, proxy, monkeypatch):
    """Opens the tests' database, or another one, through the proxy, with so much retrying."""
    storages = []

    def open_(give_up_after_s=60.0, database=database):
        monkeypatch.setenv(VARIABLE, postgres.url(database, password=True, port=proxy.port))
        found = login(postgres.url(database, port=proxy.port))
        outages = []
        retrying = Retrying(found.reason, lambda: False, lambda reason: None, outages.append, give_up_after_s)
        storage = RetryingStorage(found, retrying)
        storage.outages, storage.database = outages, database
        storages.append(storage)
        return storage

    yield open_
    for storage in storages:
        storage.remove_session()
        storage.engine.dispose()


def run_search(storage, folder):
    """A small search with made-up accuracies, interrupted once; return what is left of it."""

    def opened_study():
        return LossStudy(
            "digits-adaloss",
            SEARCH_SPACES["adaloss"],
            storage,
            LossRecords(folder / "adaloss"),
            SearchPlan(trials=7, max_epochs=MAX_EPOCHS, grace_epochs=1, reduction_factor=3, seed=0),
        )

    study = opened_study()
    study.ask()
    study.requeue_running()
    study = opened_study()
    while (suggestion := study.ask()) is not None:
        number, epoch, goes_on = suggestion.number, 0, True
        while goes_on:
            epoch += 1
            accuracy = float("nan") if number == 3 else (1 - suggestion.config["learning_rate"] / 9) * epoch / 10
            goes_on = study.on_epoch(number, {"epoch": epoch, "val_accuracy": accuracy, "seconds": 1.0})
        if study.is_running(number):
            study.on_checkpoint(number)
    trials = optuna.load_study(study_name="digits-adaloss", storage=storage).trials
    for trial in trials:
        trial.system_attrs.pop(REQUEST_KEY, None)
    events = [(event["trial_id"], event["event"]) for event in LossRecords(folder / "adaloss").read_events()]
    kept = [(t.number, t.state, t.value, t.params, t.intermediate_values, t.user_attrs, t.system_attrs) for t in trials]
    return kept, events


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    kept, events = run_search(RDBStorage(f"sqlite:///{folder}/study.db"), folder)
    assert {state for _, state, *_ in kept} == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    return kept, events


# --- Nothing lost, nothing twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer_lost", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("every", [4, pytest.param(5, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)])
def test_cut_connections_change_nothing_in_the_end(opened, proxy, postgres, tmp_path, undisturbed, every, answer_lost):
    """Commits of every kind are among those that are cut."""
    storage = opened(database=postgres.new_database())
    proxy.cut_every(every, answer_lost=answer_lost)
    assert run_search(storage, tmp_path) == undisturbed
    assert proxy.cuts > 12
    assert postgres.execute("SELECT count(*), count(DISTINCT number) FROM trials", storage.database) == [(7, 7)]
    assert postgres.execute("SELECT count(*) FROM studies", storage.database) == [(1,)]


def test_an_outage_is_waited_for_and_told(opened, proxy):
    storage = opened()
    study_id = storage.create_new_study(MAXIMIZE, uuid.uuid4().hex)
    proxy.go_away()
    threading.Timer(1.5, proxy.come_back).start()
    trial_id = storage.create_new_trial(study_id)
    (outage,) = storage.outages
    assert outage.recovered
    assert outage.seconds >= 1
    assert storage.get_trial(trial_id).number == 0
    assert storage.get_n_trials(study_id) == 1


def test_a_server_that_stops_and_starts_is_waited_for(opened, postgres):
    storage = opened()
    study_id = storage.create_new_study(MAXIMIZE, uuid.uuid4().hex)
    postgres.stop()

    def start():
        time.sleep(1)
        postgres.start()

    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start)
        storage.create_new_trial(study_id)
        started.result()
    assert len(storage.outages) == 1
    assert storage.get_n_trials(study_id) == 1


# --- Every method ----------------------------------------------------------------------------------------------------

# What Optuna and the studies call, private methods that Optuna's cache calls among them; on a study with a trial that
# runs and a later one that is finished.
SPACE = FloatDistribution(0, 1)
CALLS = {
    "create_new_study": lambda s, study, trial: s.create_new_study(MAXIMIZE, uuid.uuid4().hex) > study,
    "set_study_user_attr": lambda s, study, trial: s.set_study_user_attr(study, "key", 1),
    "set_study_system_attr": lambda s, study, trial: s.set_study_system_attr(study, "key", 1),
    "get_study_id_from_name": lambda s, study, trial: s.get_study_id_from_name(s.get_study_name_from_id(study)),
    "get_study_name_from_id": lambda s, study, trial: s.get_study_name_from_id(study),
    "get_study_directions": lambda s, study, trial: s.get_study_directions(study),
    "get_study_user_attrs": lambda s, study, trial: s.get_study_user_attrs(study),
    "get_study_system_attrs": lambda s, study, trial: s.get_study_system_attrs(study),
    "get_all_studies": lambda s, study, trial: [found._study_id for found in s.get_all_studies()],
    "create_new_trial": lambda s, study, trial: s.create_new_trial(study) > trial,
    "_create_new_trial": lambda s, study, trial: s._create_new_trial(study, None).state,
    "set_trial_param": lambda s, study, trial: s.set_trial_param(trial, "x", 0.5, SPACE),
    "_set_trial_param": lambda s, study, trial: s._set_trial_param(trial, "y", 0.5, SPACE, None),
    "get_trial_id_from_study_id_trial_number": lambda s, study, trial: s.get_trial_id_from_study_id_trial_number(
        study, 0
    ),
    "get_trial_number_from_id": lambda s, study, trial: s.get_trial_number_from_id(trial),
    "get_trial_param": lambda s, study, trial: s.get_trial_param(trial, "z"),
    "set_trial_intermediate_value": lambda s, study, trial: s.set_trial_intermediate_value(trial, 1, 0.5),
    "set_trial_user_attr": lambda s, study, trial: s.set_trial_user_attr(trial, "key", 1),
    "set_trial_system_attr": lambda s, study, trial: s.set_trial_system_attr(trial, "key", 1),
    "get_trial": lambda s, study, trial: s.get_trial(trial),
    "get_all_trials": lambda s, study, trial: s.get_all_trials(study),
    "_get_trials": lambda s, study, trial: s._get_trials(study, None, set(), -1),
    "get_n_trials": lambda s, study, trial: s.get_n_trials(study),
    "get_best_trial": lambda s, study, trial: s.get_best_trial(study),
    "_get_best_trial_id": lambda s, study, trial: s._get_best_trial_id(study, StudyDirection.MAXIMIZE),
    "get_trial_params": lambda s, study, trial: s.get_trial_params(trial),
    "get_trial_user_attrs": lambda s, study, trial: s.get_trial_user_attrs(trial),
    "get_trial_system_attrs": lambda s, study, trial: s.get_trial_system_attrs(trial),
    "set_trial_state_values": lambda s, study, trial: s.set_trial_state_values(trial, TrialState.PRUNED, [0.5]),
}
# A search deletes nothing, and the others ask no database.
OTHERS = {"delete_study", "remove_session", "check_trial_is_updatable"}


def test_every_method_of_a_storage_is_among_what_is_tested():
    methods = {name for name, _ in inspect.getmembers(BaseStorage, inspect.isfunction) if not name.startswith("_")}
    assert methods == {name for name in CALLS if not name.startswith("_")} | OTHERS


def example(storage):
    """Make a study with a trial that runs and one that is finished; return the ids of the study and the first."""
    study = storage.create_new_study(MAXIMIZE, uuid.uuid4().hex)
    running, finished = (storage.create_new_trial(study) for _ in range(2))
    storage.set_trial_param(running, "z", 0.25, SPACE)
    storage.set_trial_state_values(finished, TrialState.COMPLETE, [0.25])
    return study, running


def test_every_method_answers_when_its_connection_was_lost(opened, proxy, postgres):
    storage = opened()
    plain = RDBStorage(postgres.url(storage.database, password=True).replace("://", "+psycopg://"))
    reads = {name for name in CALLS if "get" in name}
    for name, call in CALLS.items():
        ids = example(storage)
        proxy.go_away()
        proxy.come_back()
        answer = call(storage, *ids)
        if name in reads:
            assert answer == call(plain, *ids), name
    plain.engine.dispose()


def test_every_method_gives_up_when_patience_ends(opened, proxy):
    storage = opened(give_up_after_s=0.0)
    ids = example(storage)
    proxy.go_away()
    for call in CALLS.values():
        with pytest.raises(StudyUnreachable):
            call(storage, *ids)


# --- What else is told apart -----------------------------------------------------------------------------------------


def test_a_study_that_is_there_is_no_new_one(opened):
    storage, name = opened(), uuid.uuid4().hex
    storage.create_new_study(MAXIMIZE, name)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        storage.create_new_study(MAXIMIZE, name)


def test_a_trial_that_is_finished_is_not_finished_again(opened):
    storage = opened()
    trial_id = storage.create_new_trial(storage.create_new_study(MAXIMIZE, uuid.uuid4().hex))
    assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])


def test_a_trial_that_runs_cannot_be_taken(opened):
    storage = opened()
    trial_id = storage.create_new_trial(storage.create_new_study(MAXIMIZE, uuid.uuid4().hex))
    assert not storage.set_trial_state_values(trial_id, TrialState.RUNNING)


def test_a_storage_is_not_pickled(opened):
    with pytest.raises(TypeError, match="password"):
        pickle.dumps(opened())


def test_a_server_lets_no_dead_connection_hold_a_lock(opened):
    with opened().engine.connect() as connection:
        limits = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        ]
    assert limits == ["30s", "10s", "1min"]
