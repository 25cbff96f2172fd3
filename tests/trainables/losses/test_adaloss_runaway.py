"""Property 7: settings under which the ungated rule runs away train as well as ArcFace once competence gates them.

The digits are learnt within an epoch, so half of the training labels are noise here: training stays hard, the margin
grows, and makes it harder still.
"""

import functools
import statistics

import pytest
import torch
from sklearn.datasets import load_digits

from trainables.losses import AdaLoss, AdaLossTrapezoid, ArcFaceLoss

SEEDS = range(5)
BATCH_SIZE = 32
TRAINING_SAMPLES = 1200
STEPS_PER_EPOCH = TRAINING_SAMPLES // BATCH_SIZE
SHARED = {"embedding_dim": 8, "num_classes": 10, "scale": 16.0, "margin_rad": 0.2}


@functools.cache
def digits():
    bunch = load_digits()
    images, labels = torch.tensor(bunch.data, dtype=torch.float32) / 16.0, torch.tensor(bunch.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def accuracy_after_training(make_loss, label_noise, seed):
    images, labels = digits()
    held_out_images, held_out_labels = images[TRAINING_SAMPLES:], labels[TRAINING_SAMPLES:]
    images, labels = images[:TRAINING_SAMPLES], labels[:TRAINING_SAMPLES].clone()
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.rand(len(labels), generator=generator) < label_noise
    labels[noisy] = torch.randint(10, (int(noisy.sum()),), generator=generator)

    torch.manual_seed(seed)
    body = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64), torch.nn.ReLU(), torch.nn.Linear(64, SHARED["embedding_dim"])
    )
    loss = make_loss()
    optimizer = torch.optim.SGD([*body.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)
    for _ in range(6):
        order = torch.randperm(len(labels), generator=generator)
        for rows in order[: STEPS_PER_EPOCH * BATCH_SIZE].split(BATCH_SIZE):
            optimizer.zero_grad()
            loss(body(images[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        predictions = loss.logits(body.eval()(held_out_images)).argmax(dim=1)
    return (predictions == held_out_labels).float().mean().item()


@functools.cache
def arcface_accuracies(label_noise):
    return [accuracy_after_training(lambda: ArcFaceLoss(**SHARED), label_noise, seed) for seed in SEEDS]


def adaloss_accuracies(label_noise, **rule):
    """Seed by seed, as they are asked for."""

    def make_loss():
        return AdaLoss(**SHARED, steps_per_epoch=STEPS_PER_EPOCH, **rule)

    return (accuracy_after_training(make_loss, label_noise, seed) for seed in SEEDS)


@pytest.mark.parametrize(
    ("rate_up", "rate_down", "target", "difficulty", "label_noise"),
    [(0.2, 0.5, 0.4, "error", 0.5), (0.5, 0.5, 0.2, "error", 0.4), (0.3, 0.3, 0.35, "gap", 0.5)],
)
def test_7_the_competence_gate_stops_the_runaway(rate_up, rate_down, target, difficulty, label_noise):
    rule = {
        "rate_up_rad_per_epoch": rate_up,
        "rate_down_rad_per_epoch": rate_down,
        "target_difficulty": target,
        "difficulty": difficulty,
    }
    arcface = statistics.median(arcface_accuracies(label_noise))
    assert arcface > 0.8
    assert min(adaloss_accuracies(label_noise, **rule)) >= arcface - 0.05
    # What the gate prevents: without it some seed collapses, so this test can fail.
    assert any(accuracy < 0.5 for accuracy in adaloss_accuracies(label_noise, competence_gate=False, **rule))


@pytest.mark.parametrize("label_noise", [0.4, 0.5])
def test_7_a_trapezoid_does_not_run_away(label_noise):
    def make_loss():
        rule = {"plateau_from": 0.1, "plateau_until": 0.5, "zero_from": 0.9}
        return AdaLossTrapezoid(**SHARED, steps_per_epoch=STEPS_PER_EPOCH, **rule)

    arcface = statistics.median(arcface_accuracies(label_noise))
    assert min(accuracy_after_training(make_loss, label_noise, seed) for seed in SEEDS) >= arcface - 0.05
