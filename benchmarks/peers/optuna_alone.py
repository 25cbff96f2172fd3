"""The usual recipe with Optuna: one process, one trial after the other on all cores, MedianPruner."""

import json
import sys
import warnings

import optuna
import torch

from benchmarks.peers.recipe import SPACE, Task, Told, train


def search(task: Task, lines: str) -> None:
    """Search, one trial at a time.

    Args:
        task: of the search.
        lines: file to which each epoch's accuracy goes.
    """
    torch.set_num_threads(task.cores)
    data, told = task.load(), Told(lines)

    def objective(trial: optuna.Trial) -> float:
        drawn = {parameter.name: parameter.suggest(trial) for parameter in SPACE.parameters}
        accuracies: list[float] = []

        def report(accuracy: float) -> None:
            told(accuracy)
            accuracies.append(accuracy)
            trial.report(accuracy, len(accuracies))
            if trial.should_prune():
                raise optuna.TrialPruned

        train(task, data, drawn, report, workers=task.cores, seed=task.seed)
        return accuracies[-1]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=task.seed),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=task.grace_epochs),
    )
    for point in SPACE.first_points:
        study.enqueue_trial(point)
    study.optimize(objective, n_trials=task.trials)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    search(Task(**json.loads(sys.argv[1])), sys.argv[2])
