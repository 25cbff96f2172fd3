"""Pickles of somebody else's, wherever a program might look for one in a run's folder."""

import pickle
from pathlib import Path


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return Path.touch, (self._mark,)


def plant(folder, mark):
    """Put pickles wherever a program might look for one: weights, what Ray leaves, caches."""
    content = pickle.dumps(Hostile(mark))
    checkpoint = folder / "checkpoints" / "part-001" / "arcface-0000" / "checkpoint_000000"
    later = folder / "checkpoints" / "part-002"
    for place in (checkpoint, later, folder / "confirm" / "checkpoints" / "candidates-002"):
        place.mkdir(parents=True, exist_ok=True)
    for path in (
        *(folder / f"best_{loss}.pt" for loss in ("arcface", "adaloss")),
        *(folder / name for name in ("tuner.pkl", "trainable.pkl", "run.pkl", "cache.npy", "data.h5")),
        *(checkpoint / name for name in ("state.pt", "weights.pt", ".is_checkpoint", "dict_checkpoint.pkl")),
        *(later / name for name in ("tuner.pkl", "searcher-state-1.pkl", "search_gen_state-1.json", "trainable.pkl")),
        folder / "confirm" / "checkpoints" / "candidates-002" / "tuner.pkl",
    ):
        path.write_bytes(content)
