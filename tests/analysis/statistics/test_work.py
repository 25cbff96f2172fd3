"""The arithmetic of a run, against torch's own count and against sums by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from analysis.loading import load_run
from analysis.statistics.work import OPERATIONS, pflop
from trainables.losses import LOSSES
from trainables.registry import MODELS

IMAGES = 4
ARGUMENTS = {
    "softmax": {},
    "arcface": {"scale": 8.0, "margin_rad": 0.1},
    "adaloss": {
        **{"scale": 8.0, "margin_rad": 0.1, "rate_up_rad_per_epoch": 0.1, "rate_down_rad_per_epoch": 0.1},
        **{"target_difficulty": 0.1, "steps_per_epoch": 10},
    },
}


@pytest.mark.parametrize("loss", ARGUMENTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operations_of_each_model_are_those_that_torch_counts(name, loss):
    spec = MODELS[name]
    ((height, width, channels),) = spec.image_shapes
    model = spec.build(spec.embedding_dim, channels)
    head = LOSSES[loss](embedding_dim=spec.embedding_dim, num_classes=10, **ARGUMENTS[loss])
    images, labels = torch.zeros(IMAGES, channels, height, width), torch.arange(IMAGES)
    with FlopCounterMode(display=False) as training:
        head(model(images), labels).backward()
    model.eval()
    with FlopCounterMode(display=False) as judging, torch.no_grad():
        head.logits(model(images))
    counted = (training.get_total_flops() / IMAGES, judging.get_total_flops() / IMAGES)
    assert counted == OPERATIONS[name]


@pytest.fixture
def run(new_run):
    """Of 1,000 training, 200 validation and 100 test images, in batches of 128: 896 and 1,152 are trained on."""
    run = new_run("run", ("arcface", "adaloss"))
    run.rewrite(
        settings={**run.info["settings"], "model": "DigitsCNN", "batch_size": 128},
        dataset={**run.info["dataset"], "train_images": 1_000, "validation_images": 200, "test_images": 100},
    )
    run.trial("arcface", 0, [0.5, 0.6, 0.7])
    run.trial("arcface", 1, [0.5], "stopped")
    run.trial("adaloss", 0, [0.5, 0.6])
    return run


def test_every_epoch_counts_with_the_images_that_it_trains_on_and_judges(run):
    for role, arm in (("candidate", "arcface"), ("winner", "arcface"), ("control", "gated"), ("robustness", "gated")):
        run.seed_run(role, arm, 0)  # of three epochs
    train, judge = OPERATIONS["DigitsCNN"]
    searched = 896 * train + 200 * judge
    tested = 3 * 1_152 * train + 100 * judge
    assert pflop(load_run(run.folder)) == pytest.approx(
        {
            "arcface": (4 * searched + 3 * searched + tested) / 1e15,
            "adaloss": 2 * searched / 1e15,
            "controls": (tested + 3 * searched) / 1e15,
        }
    )


def test_a_model_or_a_number_of_images_that_is_not_known_has_no_work(run):
    assert pflop(load_run(run.folder))
    run.rewrite(settings={**run.info["settings"], "model": "of_my_own"})
    assert pflop(load_run(run.folder)) == {}
    run.rewrite(settings={**run.info["settings"], "model": "DigitsCNN"}, dataset={**run.info["dataset"]})
    run.info["dataset"].pop("validation_images")
    run.rewrite()
    assert pflop(load_run(run.folder)) == {}
