"""What a user runs, and everything that knows of Ray."""
