"""The search of each loss: its Optuna study, its rungs, its draws."""
