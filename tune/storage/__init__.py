"""Where a run's studies and checkpoints lie: its own folder, a team's PostgreSQL, a shared file system."""
