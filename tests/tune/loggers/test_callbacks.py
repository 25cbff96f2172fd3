"""What the mirrors write, read back with other people's readers, and that a broken mirror ends no search."""

import math
import os
import pickle
import socket
import sqlite3
import struct
import sys
from importlib.util import find_spec

import pytest
from ray import tune as ray_tune
from tensorboardX.proto.event_pb2 import Event, SessionLog

from trainables.config import TrialConfig
from trainables.errors import UserError
from tune.loggers.callbacks import logger_callbacks, without_password
from tune.loggers.tensorboard import TENSORBOARD_FOLDER
from tune.records import write_json

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed (extra mlflow)")


class Trial:
    """A trial as far as a mirror looks at it; of one trial id there may be several, one after each interruption."""

    def __init__(self, number=0, loss="adaloss"):
        self.trial_id = f"ray-{number}"  # Ray's own
        loss_args = {"scale": 8.0, "margin_rad": 0.1, "difficulty": "error"} if loss == "adaloss" else {}
        trial = TrialConfig(loss, "ArcFaceCNN", 3, loss_args, learning_rate=0.2, weight_decay=1e-3, seed=7)
        self.config = {
            "study": loss,
            "number": number,
            "trial_id": f"{loss}-{number:04d}",
            "trial": trial.to_dict(),
            "checkpoint": None,
            "threads": 1,
        }


def result_of(epoch, **changes):
    """What Ray hands to a callback: the epoch's fields and its own."""
    fields = {
        "epoch": epoch,
        "val_accuracy": 0.5 + epoch / 10,
        "val_loss": 1 / epoch,
        "train_loss": 2 / epoch,
        "margin_rad": 0.01 * epoch,
        "margin_per_class_rad": [0.1, 0.2],
        "seconds": 1.5,
    }
    ray = {"time_total_s": 3.0, "training_iteration": 1, "pid": 17, "done": False, "timestamp": 1, "config": {"a": 1}}
    return fields | ray | changes


MIRRORED = {"val_accuracy", "val_loss", "train_loss", "margin_rad", "seconds"}
DRAWN = {
    "loss": "adaloss",
    "learning_rate": 0.2,
    "head_learning_rate_multiplier": 1.0,
    "weight_decay": 1e-3,
    "label_smoothing": 0.0,
    "scale": 8.0,
    "margin_rad": 0.1,
    "difficulty": "error",
    "seed": 7,
}


def run_trial(callback, trial, epochs=(1, 2, 3), end="on_trial_complete", **changes):
    """Call what Ray calls in the course of a trial; without an end, the trial is interrupted."""
    callback.on_trial_start(1, [trial], trial)
    for epoch in epochs:
        callback.on_trial_result(1, [trial], trial, result_of(epoch, **changes))
    if end:
        getattr(callback, end)(1, [trial], trial)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "digits-1"
    folder.mkdir()
    write_json(folder / "run.json", {"invocations": [{"time": 1.5}, {"time": 2.5}]})
    return folder


def test_without_options_there_are_no_mirrors(folder):
    assert logger_callbacks(folder, tensorboard=False, mlflow=None, experiment="digits") == []


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def events_in(folder):
    """All events of a folder's files, in the order in which TensorBoard reads them."""
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return events


def scalars_in(folder):
    """Values by name and step as TensorBoard shows them: a restart discards what came after its step."""
    values = {}
    for event in events_in(folder):
        if event.session_log.status == SessionLog.START:
            values = {key: value for key, value in values.items() if key[1] < event.step}
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                values[value.tag, event.step] = value.simple_value
    return values


def plugins_in(folder):
    return {value.metadata.plugin_data.plugin_name for event in events_in(folder) for value in event.summary.value}


@pytest.fixture
def tensorboard(folder):
    (callback,) = logger_callbacks(folder, tensorboard=True, mlflow=None, experiment="digits")
    return callback


def test_epochs_are_scalars_with_the_names_of_the_records(folder, tensorboard):
    run_trial(tensorboard, Trial())
    scalars = scalars_in(folder / TENSORBOARD_FOLDER / "adaloss-0000")
    assert set(scalars) == {(name, epoch) for name in MIRRORED for epoch in (1, 2, 3)}
    assert scalars["val_accuracy", 2] == pytest.approx(0.7)
    assert scalars["margin_rad", 3] == pytest.approx(0.03)


def test_every_trial_has_its_folder_and_its_configuration(folder, tensorboard):
    for number, loss in enumerate(("adaloss", "softmax")):
        run_trial(tensorboard, Trial(number, loss))
    folders = sorted((folder / TENSORBOARD_FOLDER).iterdir())
    assert [path.name for path in folders] == ["adaloss-0000", "softmax-0001"]
    assert [path for trial in folders for path in trial.iterdir() if path.is_dir()] == []
    assert all("hparams" in plugins_in(path) for path in folders)
    content = b"".join(path.read_bytes() for path in folders[0].iterdir())
    assert all(name.encode() in content for name in DRAWN)
    assert b"checkpoint" not in content


@pytest.mark.parametrize("again", ["same process", "another"])
def test_an_epoch_trained_again_after_a_resume_replaces_the_earlier_one(folder, tensorboard, again):
    first = Trial()
    run_trial(tensorboard, first, epochs=(1, 2, 3), end=None)
    if again == "another":
        (tensorboard,) = logger_callbacks(folder, tensorboard=True, mlflow=None, experiment="digits")
    second = first if again == "same process" else Trial()
    run_trial(tensorboard, second, epochs=(2, 3), val_accuracy=0.25)
    scalars = scalars_in(folder / TENSORBOARD_FOLDER / "adaloss-0000")
    assert [scalars["val_accuracy", epoch] for epoch in (1, 2, 3)] == pytest.approx([0.6, 0.25, 0.25])


def test_numbers_that_are_none_and_broken_trials_leave_nothing_behind(folder, tensorboard):
    run_trial(tensorboard, Trial(0), epochs=(1,), val_accuracy=math.nan, train_loss=math.inf)
    scalars = scalars_in(folder / TENSORBOARD_FOLDER / "adaloss-0000")
    assert set(scalars) == {(name, 1) for name in MIRRORED - {"val_accuracy", "train_loss"}}
    run_trial(tensorboard, Trial(1), epochs=(), end="on_trial_error")
    assert not (folder / TENSORBOARD_FOLDER / "adaloss-0001").exists()


def test_a_mirror_that_breaks_is_reported_once_and_switched_off(folder, tensorboard, capsys):
    (folder / TENSORBOARD_FOLDER).write_text("a file where the folder would be")
    run_trial(tensorboard, Trial(0))
    run_trial(tensorboard, Trial(1))
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("warning: --tensorboard is switched off, the run goes on without it: ")


def test_ray_pickles_nothing_of_a_mirror(tensorboard):
    assert pickle.loads(pickle.dumps(tensorboard)).__dict__ == {}


# --- In Ray ----------------------------------------------------------------------------------------------------------


class Broken(ray_tune.logger.LoggerCallback):
    def log_trial_result(self, iteration, trial, result):
        raise RuntimeError("disk full")


@pytest.mark.cluster
def test_in_a_ray_run_the_mirror_is_fed_and_a_broken_one_ends_nothing(shared_ray, folder, tmp_path, capsys):
    from tune.loggers.callbacks import GuardedLogger

    class Epochs(ray_tune.Trainable):
        def setup(self, config):
            self.epoch = 0

        def step(self):
            self.epoch += 1
            return {"epoch": self.epoch, "val_accuracy": self.epoch / 10, "train_loss": 0.5, "done": self.epoch == 3}

        def save_checkpoint(self, checkpoint_dir):
            """Ray saves at a trial's end."""

    mirrors = logger_callbacks(folder, tensorboard=True, mlflow=None, experiment="digits")
    results = ray_tune.Tuner(
        Epochs,
        param_space=Trial().config,
        run_config=ray_tune.RunConfig(
            storage_path=str(tmp_path / "ray"), callbacks=[GuardedLogger("--broken", Broken()), *mirrors], verbose=0
        ),
    ).fit()
    assert results.num_errors == 0
    scalars = scalars_in(folder / TENSORBOARD_FOLDER / "adaloss-0000")
    assert set(scalars) == {(name, epoch) for name in ("val_accuracy", "train_loss") for epoch in (1, 2, 3)}
    assert capsys.readouterr().err.count("warning: --broken is switched off") == 1


# --- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def mlflow_mirror(folder, uri):
    return lambda: logger_callbacks(folder, tensorboard=False, mlflow=uri, experiment="digits")[0]


def runs_in(uri):
    """All runs of the experiment, by name, and a client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("digits")
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name), client


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


@needs_mlflow
def test_a_trial_is_a_run_with_its_drawn_values_and_its_epochs(mlflow_mirror, uri):
    callback = mlflow_mirror()
    run_trial(callback, Trial(0))
    run_trial(callback, Trial(1, "softmax"))
    (run, other), client = runs_in(uri)
    assert (run.info.run_name, other.info.run_name) == ("adaloss-0000", "softmax-0001")
    assert run.data.params == {name: str(value) for name, value in DRAWN.items()}
    assert set(run.data.metrics) == MIRRORED
    assert history(client, run, "val_accuracy") == [(1, 0.6), (2, 0.7), (3, 0.8)]
    assert run.info.status == "FINISHED"


@needs_mlflow
def test_an_interrupted_trial_goes_on_in_its_run_and_is_marked(mlflow_mirror, uri):
    run_trial(mlflow_mirror(), Trial(), epochs=(1, 2), end=None)
    (run,), _ = runs_in(uri)
    assert run.info.status == "RUNNING"
    assert "adaloss.resumed" not in run.data.tags
    run_trial(mlflow_mirror(), Trial(), epochs=(2, 3))
    (run,), client = runs_in(uri)
    assert run.info.status == "FINISHED"
    assert run.data.tags["adaloss.resumed"] == "true"
    assert [step for step, _ in history(client, run, "val_accuracy")] == [1, 2, 2, 3]


@needs_mlflow
def test_the_same_trial_id_of_another_run_is_another_run(mlflow_mirror, folder, uri):
    run_trial(mlflow_mirror(), Trial())
    write_json(folder / "run.json", {"invocations": [{"time": 99.5}]})  # a new run in a folder of the same name
    run_trial(mlflow_mirror(), Trial())
    runs, _ = runs_in(uri)
    assert len(runs) == 2


@needs_mlflow
@pytest.mark.parametrize(
    ("end", "changes"),
    [
        ("on_trial_error", {}),
        ("on_trial_complete", {"error": "Traceback ..."}),
        ("on_trial_complete", {"train_loss": math.nan}),
    ],
)
def test_a_trial_that_broke_is_a_failed_run(mlflow_mirror, uri, end, changes):
    run_trial(mlflow_mirror(), Trial(), epochs=(1,), end=end, **changes)
    (run,), _ = runs_in(uri)
    assert run.info.status == "FAILED"
    assert all(math.isfinite(value) for value in run.data.metrics.values())


@needs_mlflow
def test_a_worker_lost_on_the_way_opens_no_second_run(mlflow_mirror, uri):
    callback, trial = mlflow_mirror(), Trial()
    run_trial(callback, trial, epochs=(1, 2), end=None)
    run_trial(callback, trial, epochs=(2, 3))
    runs, _ = runs_in(uri)
    assert [run.info.status for run in runs] == ["FINISHED"]


@needs_mlflow
def test_a_tracking_database_that_breaks_later_switches_the_mirror_off(mlflow_mirror, uri, capsys):
    callback = mlflow_mirror()
    run_trial(callback, Trial(0))
    database = sqlite3.connect(uri.removeprefix("sqlite:///"))
    database.executescript("DROP TABLE metrics; DROP TABLE runs;")
    run_trial(callback, Trial(1))
    run_trial(callback, Trial(2))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(errors) == 1
    assert errors[0].startswith("warning: --mlflow is switched off")


def test_without_mlflow_the_error_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"^--mlflow needs MLflow: pip install 'adaloss-search\[mlflow\]'$"):
        logger_callbacks(folder, tensorboard=False, mlflow="sqlite:///x.db", experiment="digits")


def test_an_empty_uri_is_refused(folder):
    with pytest.raises(UserError, match="--mlflow needs a tracking URI"):
        logger_callbacks(folder, tensorboard=False, mlflow=" ", experiment="digits")


@pytest.fixture
def silent_port():
    """A port at which somebody listens who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_database_server_that_is_not_there_is_said_at_once(folder, closed_port):
    uri = f"postgresql://me:hush-hush@127.0.0.1:{closed_port}/mlflow"
    with pytest.raises(UserError, match=r"^--mlflow postgresql://\*\*\*@127") as error:
        logger_callbacks(folder, tensorboard=False, mlflow=uri, experiment="digits")
    assert "hush" not in str(error.value)


@needs_mlflow
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_tracking_server_that_does_not_answer_is_said_without_the_password(
    folder, kind, closed_port, silent_port, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what a user has set counts
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = closed_port if kind == "closed" else silent_port
    with pytest.raises(UserError, match=rf"^--mlflow http://\*\*\*@127\.0\.0\.1:{port} cannot be used: ") as error:
        logger_callbacks(folder, tensorboard=False, mlflow=f"http://me:p%40ss@127.0.0.1:{port}", experiment="digits")
    assert "p%40ss" not in str(error.value)
    assert "p@ss" not in str(error.value)
    assert "\n" not in str(error.value)


@needs_mlflow
@pytest.mark.parametrize("uri", ["nonsense://host", "sqlite:////dev/null/mlflow.db", "http://["])
def test_a_uri_that_cannot_be_is_one_line(folder, uri):
    with pytest.raises(UserError, match=r"^--mlflow ") as error:
        logger_callbacks(folder, tensorboard=False, mlflow=uri, experiment="digits")
    assert "\n" not in str(error.value)


@needs_mlflow
def test_the_uri_is_not_left_to_child_processes_nor_to_ray(mlflow_mirror, uri, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    callback = mlflow_mirror()
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert uri.encode() not in pickle.dumps(callback)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://host:5000", "http://host:5000"),
        ("http://me:secret@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://me:p@ss/w@host/db", "postgresql+psycopg2://***@host/db"),
        ("mysql://host/db?user=me&password=secret&ssl=1", "mysql://host/db?user=me&password=***&ssl=1"),
        ("run.py --mlflow http://me:secret@host --seed 1", "run.py --mlflow http://***@host --seed 1"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri, shown):
    assert without_password(uri) == shown
