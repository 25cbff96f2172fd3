"""The usual recipe with Ray Tune: a function as trainable, an actor a trial, ASHA, OptunaSearch."""

import json
import sys
import warnings
from typing import Any

from benchmarks.peers.recipe import SPACE, Task, Told, train


def search(task: Task, lines: str) -> None:
    """Search, as many trials at a time as there are cores.

    Args:
        task: of the search.
        lines: file to which each epoch's accuracy goes.
    """
    import ray
    import torch
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, Any], data: Any) -> None:
        torch.set_num_threads(1)
        told = Told(lines)

        def report(accuracy: float) -> None:
            told(accuracy)
            tune.report({"val_accuracy": accuracy})

        train(task, data, config, report, workers=0, seed=task.seed)

    ray.init(address="local", num_cpus=task.cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    algorithm = OptunaSearch(
        space={parameter.name: parameter.distribution for parameter in SPACE.parameters},
        metric="val_accuracy",
        mode="max",
        points_to_evaluate=SPACE.first_points,
        seed=task.seed,
    )
    tune.Tuner(
        tune.with_resources(tune.with_parameters(objective, data=task.load()), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=task.trials,
            search_alg=ConcurrencyLimiter(algorithm, max_concurrent=task.cores),
            scheduler=ASHAScheduler(
                max_t=task.epochs, grace_period=task.grace_epochs, reduction_factor=task.reduction_factor
            ),
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=f"{lines}-ray"),
    ).fit()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    search(Task(**json.loads(sys.argv[1])), sys.argv[2])
