"""Seeds of random streams that do not touch each other."""

import numpy as np

__all__ = ["stream_seed"]


def stream_seed(seed: int, *key: int) -> int:
    """Return a 64-bit seed for the random stream `key` of an experiment with `seed`."""
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])
