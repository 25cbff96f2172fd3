"""What each loss may spend on a data set, unless a search is told otherwise."""

from dataclasses import dataclass

__all__ = ["Budget", "default_budget"]


@dataclass(frozen=True)
class Budget:
    """What each loss may spend on a data set unless told otherwise."""

    trials: int
    max_epochs: int
    grace_epochs: int
    batch_size: int = 256
    model: str = ""  # a name in MODELS, or "" for the first that takes the images


_BUDGETS = {
    "digits": Budget(trials=12, max_epochs=20, grace_epochs=3, batch_size=64, model="DigitsCNN"),
    # Widths that get most out of a search's time, see benchmarks/README.md; the other data sets are not measured.
    "mnist": Budget(trials=24, max_epochs=10, grace_epochs=2, model="ArcFaceCNN_w24"),
    "fashion_mnist": Budget(trials=24, max_epochs=16, grace_epochs=2),
    "cifar10": Budget(trials=32, max_epochs=16, grace_epochs=2, model="ArcFaceCNN_CIFAR10_w24"),
    "cifar100": Budget(trials=32, max_epochs=24, grace_epochs=3),
}


def default_budget(dataset: str) -> Budget:
    """Return the default budget per loss of a data set; a folder of images has one for a middling set."""
    return _BUDGETS.get(dataset, Budget(trials=24, max_epochs=16, grace_epochs=2, batch_size=128))
