"""Copies of the metrics for those who live in TensorBoard or MLflow. The records stay the truth.

A mirror is Ray's own callback, told what to write, behind a guard: Ray aborts a search whose callback raises, so a
mirror that breaks is reported once and switched off. Lists, such as margins per class, are in the records only.
"""

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from trainables.errors import UserError
from tune.loggers.tensorboard import TENSORBOARD_FOLDER, TensorBoardLogger
from tune.storage.url import hidden_secrets

__all__ = ["GuardedLogger", "logger_callbacks", "without_password"]


# A tracking server that is gone must cost a search seconds: MLflow itself would try for minutes.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a line for every trial, with the password in it
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_CONNECT_TIMEOUT_S = 5.0


def logger_callbacks(folder: Path, *, tensorboard: bool, mlflow: str | None, experiment: str) -> list[Callback]:
    """Return Ray callbacks that copy each epoch's metrics; none where none are asked for.

    Args:
        folder: of the run; event files go to ``tensorboard/<trial id>`` in it, once there are epochs.
        tensorboard: whether to write event files.
        mlflow: tracking URI of MLflow, such as ``sqlite:///mlflow.db`` or ``http://host:5000``, or None.
        experiment: its name in MLflow; made where it does not exist.

    Raises:
        UserError: MLflow is not installed, or nothing answers at the tracking URI.
    """
    callbacks: list[Callback] = []
    if tensorboard:
        callbacks.append(GuardedLogger("--tensorboard", TensorBoardLogger(folder / TENSORBOARD_FOLDER)))
    if mlflow is not None:
        callbacks.append(_mlflow_logger(mlflow, experiment, folder))
    return callbacks


class GuardedLogger(Callback):
    """Guards one of Ray's callbacks: its first error is reported, and the search goes on without it.

    Args:
        option: that asked for it, for the report.
        logger: set up and ready.
        clean: takes secrets out of a message.
    """

    def __init__(self, option: str, logger: LoggerCallback, clean: Callable[[str], str] = str) -> None:
        self._option = option
        self._logger: LoggerCallback | None = logger
        self._clean = clean

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Also called when Ray runs a trial again whose worker was lost."""
        self._tell("log_trial_start", trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Copy an epoch."""
        self._tell("log_trial_result", iteration, trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Also called for a trial that was stopped, or that reported an error."""
        self._tell("log_trial_end", trial, False)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray gave the trial up."""
        self._tell("log_trial_end", trial, True)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles its whole set-up into tuner.pkl, and a tracking URI may hold a password

    def _tell(self, hook: str, *arguments: Any) -> None:
        if self._logger is None:
            return
        try:
            getattr(self._logger, hook)(*arguments)
        except Exception as error:  # noqa: BLE001  whatever broke the mirror must not end the search
            self._logger = None
            reason = self._clean(_first_line(error))
            print(f"warning: {self._option} is switched off, the run goes on without it: {reason}", file=sys.stderr)


def _mlflow_logger(uri: str, experiment: str, folder: Path) -> GuardedLogger:
    if not uri.strip():
        raise UserError("--mlflow needs a tracking URI, such as sqlite:///mlflow.db or http://host:5000")
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    def clean(message: str) -> str:
        return _without(uri, message)

    try:
        _check_database_answers(uri)
        with hidden_secrets():  # MLflow asks a program for the platform's name
            from tune.loggers.mlflow import MLflowLogger

        try:
            logger = MLflowLogger(uri, experiment, folder)
        except ModuleNotFoundError as error:
            if error.name != "mlflow":
                raise
            raise UserError("--mlflow needs MLflow: pip install 'adaloss-search[mlflow]'") from None
        inherited = os.environ.get(_URI_VARIABLE)
        logger.setup()
        if inherited is None:
            os.environ.pop(_URI_VARIABLE, None)  # MLflow sets it for child processes; ours have no use for a password
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  MLflow, its database drivers and requests have an error each
        raise UserError(f"--mlflow {without_password(uri)} cannot be used: {clean(_first_line(error))}") from None
    return GuardedLogger("--mlflow", logger, clean)


def _check_database_answers(uri: str) -> None:
    """Raise OSError where nothing listens; MLflow would try for a minute."""
    parts = urlsplit(uri)
    port = parts.port or _DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname and port and not parts.scheme.startswith("http"):  # these may go through a proxy
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_TIMEOUT_S).close()


def without_password(uri: str) -> str:
    """Return a URI fit for records and logs."""
    uri = re.sub(r"(?<=://)\S*@", "***@", uri)
    return re.sub(r"(?i)(?<=[?&])([^=&\s]*(?:password|token|secret)[^=&\s]*)=[^&\s]*", r"\1=***", uri)


def _without(uri: str, message: str) -> str:
    """Return a message without the secrets of a URI, however the message quotes it."""
    try:
        parts = urlsplit(uri)
        secrets = {parts.password or "", unquote(parts.password or "")}
    except ValueError:
        secrets = set()
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, "***")
    return without_password(message)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
