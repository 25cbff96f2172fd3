"""The studies that tests look at are read as what Optuna itself would have written."""

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from tests.analysis.example_study import write_study

DISTRIBUTIONS = {"rate": FloatDistribution(1e-3, 1.0, log=True), "smoothing": CategoricalDistribution((0.0, 0.1))}
FIELDS = ("number", "_trial_id", "state", "params", "distributions", "user_attrs", "intermediate_values", "values")
TRIALS = [
    create_trial(
        state=state,
        value=0.5 + number / 10 if state == TrialState.COMPLETE else None,
        params={"rate": 0.01 * (number + 1), "smoothing": 0.1 * (number % 2)},
        distributions=DISTRIBUTIONS,
        intermediate_values={1: 0.1 * number, 2: 0.2},
        user_attrs={"trial_id": f"arcface-{number:04d}", "more": {"a": [1, None]}},
    )
    for number, state in enumerate((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE))
]


def test_it_is_read_as_what_optuna_writes(tmp_path):
    for name in ("one", "two"):  # a second study goes on where the first ended
        write_study(tmp_path / "ours.db", name, TRIALS)
        storage = f"sqlite:///{tmp_path}/theirs.db"
        optuna.create_study(storage=storage, study_name=name, direction="maximize").add_trials(TRIALS)
    for name in ("one", "two"):
        ours, theirs = (
            optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/{whose}.db")
            for whose in ("ours", "theirs")
        )
        assert ours.direction == theirs.direction
        for mine, other in zip(ours.trials, theirs.trials, strict=True):
            for field in FIELDS:
                assert getattr(mine, field) == getattr(other, field), field
        assert ours.best_trial.number == theirs.best_trial.number == 3
