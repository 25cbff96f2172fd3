"""Where Optuna studies lie: the run's own file, or a team's PostgreSQL."""
