"""Ray's MLflow callback with our names. Apart, because importing it imports MLflow, which takes seconds."""

import logging
import math
import time
from pathlib import Path
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial

from tune.loggers.values import drawn_of, metrics_of
from tune.records import read_json
from tune.records.schema import RUN_FILE

__all__ = ["MLflowLogger"]

RUN_TAG, TRIAL_TAG, RESUMED_TAG = "adaloss.run", "adaloss.trial_id", "adaloss.resumed"


class MLflowLogger(MLflowLoggerCallback):
    """One MLflow run a trial, named by its id, with epochs as steps.

    A trial that goes on after an interruption goes on in its MLflow run too, found by its tags, and is then tagged as
    resumed: MLflow keeps both values of an epoch that was trained twice. Until then such a run is RUNNING in MLflow.

    Args:
        uri: of the tracking server or database.
        experiment: name of the experiment.
        folder: of the run; its name and the time of its first start, in ``run.json``, are its identity in MLflow.
    """

    def __init__(self, uri: str, experiment: str, folder: Path) -> None:
        super().__init__(tracking_uri=uri, experiment_name=experiment)
        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it reports on the tables that it makes
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self._folder = folder
        self._identity = ""
        self._failed: set[Trial] = set()

    def log_trial_start(self, trial: Trial) -> None:
        """Open the trial's run, or find it."""
        if trial in self._trial_runs:
            return  # Ray runs it again after its worker was lost
        client, trial_id = self.mlflow_util._get_client(), trial.config["trial_id"]
        tags = {RUN_TAG: self._run_identity(), TRIAL_TAG: trial_id}
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        found = client.search_runs([self.mlflow_util.experiment_id], filter_string=wanted, max_results=1)
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
            client.set_tag(run_id, RESUMED_TAG, "true")
        else:
            run_id = self.mlflow_util.start_run(tags=tags, run_name=trial_id).info.run_id
            param = self.mlflow_util._mlflow.entities.Param
            client.log_batch(run_id, params=[param(name, str(value)) for name, value in drawn_of(trial).items()])
        self._trial_runs[trial] = run_id

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Log an epoch in one request; Ray's own makes two for every number."""
        now_ms = int(time.time() * 1000)
        metric = self.mlflow_util._mlflow.entities.Metric
        metrics = [metric(name, value, now_ms, result["epoch"]) for name, value in metrics_of(result).items()]
        self.mlflow_util._get_client().log_batch(self._trial_runs[trial], metrics=metrics)
        if result.get("error") or not math.isfinite(result["train_loss"]):
            self._failed.add(trial)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the trial's run: FINISHED, or FAILED where it broke or its loss was not finite."""
        status = "FAILED" if failed or trial in self._failed else "FINISHED"
        self.mlflow_util._get_client().set_terminated(self._trial_runs.pop(trial), status=status)

    def _run_identity(self) -> str:
        if not self._identity:
            started = read_json(self._folder / RUN_FILE)["invocations"][0]["time"]
            self._identity = f"{self._folder.resolve().name} {started:.3f}"
        return self._identity
