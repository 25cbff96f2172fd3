"""A search's study.db in optuna-dashboard's own server: everything that its pages ask for comes back."""

import csv
import io
import math

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import SEARCH_SPACES
from tune.records import LossRecords
from tune.search.loss_study import LossStudy, SearchPlan

optuna_dashboard = pytest.importorskip("optuna_dashboard")
Client = pytest.importorskip("werkzeug.test").Client  # comes with Dash

MAX_EPOCHS = 9
LOSSES = ("adaloss", "softmax")
STATES = {"complete": "Complete", "pruned": "Pruned", "fail": "Fail", "running": "Running", "waiting": "Waiting"}
PLOTS = ("contour", "slice", "parallel_coordinate", "rank", "edf", "timeline")


def accuracy_of(config, epoch):
    """Made up: better near a learning rate of 0.1, growing with the epochs."""
    return (1 - abs(math.log10(config["learning_rate"]) + 1) / 3) * epoch / (epoch + 1)


def result(epoch, accuracy):
    return {"epoch": epoch, "val_accuracy": accuracy, "train_loss": 1.0, "seconds": 1.0}


def search(folder, loss, storage):
    """A search as a live reader meets it: trials of every state, the last one waiting after an interruption."""
    study = LossStudy(
        f"digits-{loss}",
        SEARCH_SPACES[loss],
        storage,
        LossRecords(folder / loss),
        SearchPlan(trials=16, max_epochs=MAX_EPOCHS, grace_epochs=1, reduction_factor=3, seed=0),
    )
    for _ in range(12):
        suggestion, epoch = study.ask(), 0
        goes_on = True
        while goes_on:
            epoch += 1
            goes_on = study.on_epoch(suggestion.number, result(epoch, accuracy_of(suggestion.config, epoch)))
        if study.is_running(suggestion.number):
            study.on_checkpoint(suggestion.number)
    diverged, interrupted = study.ask(), study.ask()
    study.on_epoch(diverged.number, result(1, math.nan))
    study.on_epoch(interrupted.number, result(1, 0.5))
    study.requeue_running()
    study.ask()  # takes up the interrupted one
    study.ask()
    study.requeue_running()
    running = study.ask()
    study.on_epoch(running.number, result(1, 0.99))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    url = f"sqlite:///{folder}/study.db"
    for loss in LOSSES:
        search(folder, loss, optuna.storages.RDBStorage(url))
    return url


@pytest.fixture(scope="module")
def client(url):
    return Client(optuna_dashboard.wsgi(url))


@pytest.fixture(scope="module")
def ids(client):
    """Ids of the studies by name, as the first page lists them."""
    response = client.get("/api/studies")
    assert response.status_code == 200, response.text
    return {study["study_name"]: study["study_id"] for study in response.json["study_summaries"]}


def details(client, ids, loss):
    response = client.get(f"/api/studies/{ids[f'digits-{loss}']}")
    assert response.status_code == 200, response.text
    return response.json


def test_the_studies_are_listed(ids):
    assert sorted(ids) == ["digits-adaloss", "digits-softmax"]


def test_every_state_that_a_search_leaves_is_among_what_is_tested(url):
    states = {trial.state for trial in optuna.load_study(study_name="digits-adaloss", storage=url).trials}
    assert states == set(TrialState)


@pytest.mark.parametrize("loss", LOSSES)
def test_trials_come_with_states_parameters_and_intermediate_values(client, ids, url, loss):
    shown = {trial["number"]: trial for trial in details(client, ids, loss)["trials"]}
    trials = optuna.load_study(study_name=f"digits-{loss}", storage=url).trials
    assert set(shown) == {trial.number for trial in trials}
    for trial in trials:
        row = shown[trial.number]
        assert row["state"] == STATES[trial.state.name.lower()]
        assert {value["step"]: value["value"] for value in row["intermediate_values"]} == trial.intermediate_values
        assert {param["name"] for param in row["params"]} == set(trial.params)
        attributes = {attribute["key"] for attribute in row["user_attrs"]}
        assert "trial_id" in attributes
        assert ("error" in attributes) == (trial.state == TrialState.FAIL)


def test_conditional_parameters_are_known_as_such(client, ids):
    study = details(client, ids, "adaloss")
    union = {space["name"] for space in study["union_search_space"]}
    common = {space["name"] for space in study["intersection_search_space"]}
    assert union == {parameter.name for parameter in SEARCH_SPACES["adaloss"].parameters}
    assert union - common == {"target_error", "target_gap"}


@pytest.mark.parametrize("loss", LOSSES)
def test_importances_come(client, ids, loss):
    response = client.get(f"/api/studies/{ids[f'digits-{loss}']}/param_importances")
    assert response.status_code == 200, response.text
    (importances,) = response.json["param_importances"]
    shares = {entry["name"]: entry["importance"] for entry in importances}
    assert set(shares) >= {"learning_rate", "head_learning_rate_multiplier", "weight_decay", "label_smoothing"}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot_comes(client, ids, plot):
    response = client.get(f"/api/studies/{ids['digits-adaloss']}/plot/{plot}")
    assert response.status_code == 200, response.text
    assert response.json["data"]


def test_the_table_comes_as_csv(client, ids, url):
    response = client.get(f"/csv/{ids['digits-adaloss']}")
    assert response.status_code == 200, response.text
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == len(optuna.load_study(study_name="digits-adaloss", storage=url).trials)


def test_a_teams_database_opens_by_the_url_that_the_readme_gives(url, postgres, monkeypatch):
    """With the password from the environment, and a name that has the run before the data set."""
    database = postgres.new_database()
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    team = postgres.url(database).replace("://", "+psycopg://")
    optuna.copy_study(
        from_study_name="digits-softmax", from_storage=url, to_storage=team, to_study_name="run-1a/digits-softmax"
    )
    client = Client(optuna_dashboard.wsgi(team))
    (study,) = client.get("/api/studies").json["study_summaries"]
    assert study["study_name"] == "run-1a/digits-softmax"
    trials = client.get(f"/api/studies/{study['study_id']}").json["trials"]
    assert len(trials) == len(optuna.load_study(study_name="digits-softmax", storage=url).trials)
    assert client.get(f"/dashboard/studies/{study['study_id']}").status_code == 200
