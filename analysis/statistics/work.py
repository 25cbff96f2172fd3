"""How much arithmetic a run took, from its epochs and what an image costs; in PFLOP, 10^15 operations."""

from collections.abc import Mapping
from types import MappingProxyType

from analysis.loading import Run
from tune.records.roles import JUDGED_ON_VALIDATION

__all__ = ["CONTROLS_NAME", "OPERATIONS", "pflop"]

CONTROLS_NAME = "controls"  # as in analysis.statistics.budget: what has no search of its own

# Operations of (training on an image, judging one), with a head of 10 classes, the same for every loss, by torch's flop
# counter, where a multiplication and an addition are two. A test counts them anew.
OPERATIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "DigitsCNN": (1_524_864, 527_104),
        "ArcFaceCNN": (45_147_648, 15_199_744),
        "ArcFaceCNN_w24": (25_734_144, 8_690_944),
        "ArcFaceCNN_CIFAR10": (290_987_520, 98_175_488),
        "ArcFaceCNN_CIFAR10_w24": (42_769_920, 14_699_008),
    }
)


def pflop(run: Run) -> dict[str, float]:
    """Return the PFLOP that each loss took, and the controls, search and confirmation together.

    An epoch trains on all whole batches, and judges the validation images, but for the runs that are tested: these
    train on training and validation images, and judge the test images once. What a margin's feedback takes is left out:
    it is none of the large products. Empty for a model whose operations are not known here, or where a run does not
    say how many images it had.
    """
    images = run.info["dataset"]
    settings = run.info["settings"]
    counts = [images.get(f"{split}_images") for split in ("train", "validation", "test")]
    if settings["model"] not in OPERATIONS or not all(isinstance(count, int) for count in counts):
        return {}
    train, validation, test = counts
    training, judging = OPERATIONS[settings["model"]]
    batch = settings.get("batch_size") or 1
    searched = _whole_batches(train, batch) * training + validation * judging  # an epoch
    tested = _whole_batches(train + validation, batch) * training
    done = dict.fromkeys(run.losses, 0.0)
    for loss, epochs in run.trials.groupby("loss")["epochs"].sum().items():
        done[str(loss)] += int(epochs) * searched
    for role, arm, epochs in run.seed_runs[["role", "arm", "epochs"]].itertuples(index=False):
        name = arm if role != "control" and arm in run.losses else CONTROLS_NAME
        work = epochs * searched if role in JUDGED_ON_VALIDATION else epochs * tested + test * judging
        done[name] = done.get(name, 0.0) + work
    return {name: operations / 1e15 for name, operations in done.items()}


def _whole_batches(images: int, batch: int) -> int:
    batch = min(batch, images)
    return images // batch * batch if batch else 0
