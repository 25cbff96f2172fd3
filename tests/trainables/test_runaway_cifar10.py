"""Property 7 on real images: AdaLoss under settings with which the ungated rule runs away on CIFAR-10.

The model is a quarter as wide as a search's, and shows it as well: without the gate these settings end 24 and 10 points
behind ArcFace (seed 0), with it between 2.7 behind and 3.1 before (seeds 0 to 3). A third setting, rates of 0.5 with a
target of 0.2, is not held by the gate for every seed: CONTRIBUTING has its numbers among the negative results.
"""

import os
from pathlib import Path

import pytest
import torch

from trainables.augmentation import ResidentImages
from trainables.config import TrialConfig
from trainables.data import load_training_data
from trainables.models import ArcFaceCNN_CIFAR10
from trainables.registry import MODELS, ModelSpec
from trainables.training import Trainer

REAL_DATA = Path(os.environ.get("ADALOSS_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
IMAGES, EPOCHS, WIDTH = 10_000, 6, 16
START = {"scale": 16.0, "margin_rad": 0.2}
RUNAWAYS = {
    "error, rates 0.2 and 0.5, target 0.4": (0.2, 0.5, "error", 0.4),
    "gap, rates 0.3": (0.3, 0.3, "gap", 0.35),
}


@pytest.fixture(scope="module", autouse=True)
def quarter_width():
    with pytest.MonkeyPatch.context() as patch:
        spec = ModelSpec(lambda embedding_dim, _: ArcFaceCNN_CIFAR10(embedding_dim, WIDTH), ((32, 32, 3),), 0.25)
        patch.setitem(MODELS, "narrow", spec)
        yield


@pytest.fixture(scope="module")
def images():
    if not (REAL_DATA / "cifar10").is_dir():
        pytest.skip(f"the real cifar10 is not in {REAL_DATA}; set ADALOSS_DATA to its data folder")
    data = load_training_data("cifar10", REAL_DATA, train_size=IMAGES, validation_size=2_000)
    cpu = torch.device("cpu")
    return [
        ResidentImages(split.images, split.labels, data.spec.mean, data.spec.std, cpu)
        for split in (data.train, data.validation)
    ]


def final(images, loss, loss_args):
    """Train, and judge what came of it; once, since judging every epoch takes a tenth of the time."""
    train, held_out = images
    config = TrialConfig(loss=loss, loss_args=loss_args, model="narrow", max_epochs=EPOCHS, horizontal_flip=True)
    trainer = Trainer(config, train, None, num_classes=10)
    records = [trainer.train_epoch() for _ in range(EPOCHS)]
    return records[-1] | trainer.examine(held_out)


@pytest.fixture(scope="module")
def arcface_accuracy(images):
    return final(images, "arcface", START)["test_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNAWAYS)
def test_runaway_settings_stay_within_5_points_of_arcface(images, arcface_accuracy, name):
    rate_up, rate_down, difficulty, target = RUNAWAYS[name]
    rule = {
        "rate_up_rad_per_epoch": rate_up,
        "rate_down_rad_per_epoch": rate_down,
        "difficulty": difficulty,
        "target_difficulty": target,
    }
    record = final(images, "adaloss", START | rule)
    print(
        f"{name}: {record['test_accuracy']:.4f}, margin {record['margin_rad']:.2f} applied, "
        f"{record['margin_raw_rad']:.2f} raw; ArcFace {arcface_accuracy:.4f}"
    )
    assert record["test_accuracy"] >= arcface_accuracy - 0.05
