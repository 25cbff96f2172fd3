"""What a trained model is asked once, on images that took no part in its making: accuracy, confusion, angles."""

import base64
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.losses.margin_softmax import directions

__all__ = [
    "ANGLE_BINS",
    "CONFIDENCE_BINS",
    "angle_between",
    "angles_to_centres",
    "calibration",
    "confusion_matrix",
    "examine",
    "pack_bits",
]

ANGLE_BINS = 90  # of 2 degrees
CONFIDENCE_BINS = 15  # as Guo et al. have


def examine(before: Tensor, after: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Say how well images are classified, and how their embeddings lie before and after training.

    Args:
        before: (N, D), embeddings by the untrained network.
        after: (N, D), embeddings by the trained one.
        logits: (N, C), margin-free, of the trained one.
        labels: (N,), int64 in [0, C).

    Returns:
        ``test_accuracy`` and ``test_loss`` (mean cross-entropy of the logits); ``confusion``, C x C counts, rows true
        and columns predicted; ``class_accuracy``, of each class's images, None where there are none;
        ``ece`` and ``mean_confidence``, see :func:`calibration`; ``correct_bits``, which images were classified
        correctly, by :func:`pack_bits`; ``angle_histograms``, by ``before`` and ``after``, then by ``own`` and
        ``nearest_other``, counts in ANGLE_BINS equal bins over [0, pi] rad. If the loss is not finite, accuracy and
        loss are NaN, and there is nothing else.
    """
    loss = F.cross_entropy(logits, labels)
    if not torch.isfinite(loss):
        return {"test_accuracy": float("nan"), "test_loss": float("nan")}
    predictions = logits.argmax(1)
    correct = predictions == labels
    confusion = confusion_matrix(predictions, labels, logits.shape[1])
    return {
        "test_accuracy": correct.double().mean().item(),
        "test_loss": loss.item(),
        "confusion": confusion,
        "class_accuracy": [row[label] / sum(row) if sum(row) else None for label, row in enumerate(confusion)],
        **calibration(logits, correct),
        "correct_bits": pack_bits(correct),
        "angle_histograms": {"before": _angle_histograms(before, labels), "after": _angle_histograms(after, labels)},
    }


def calibration(logits: Tensor, correct: Tensor) -> dict[str, float]:
    """Compare confidence, the largest softmax probability of the logits, with how often it is right.

    ECE = sum_b n_b / N |share of correct ones in bin b - mean confidence in bin b|,  bins ((b - 1) / 15, b / 15]

    The logits are those of evaluation, without a margin: of a loss with angles s cos(theta), so that the scale s, which
    is tuned for accuracy, has its part in it.

    Args:
        logits: (N, C), finite.
        correct: (N,), whether the largest one is the label's.

    Returns:
        ``ece``, a fraction, and ``mean_confidence``.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, eq. 3.
    """
    confidence = logits.double().softmax(dim=1).amax(dim=1)  # (N,)
    # Where the bin of 1 / 15 begins is rounding's to say, so a confidence on an edge may count in either bin.
    bins = (confidence * CONFIDENCE_BINS).ceil().long().clamp(1, CONFIDENCE_BINS) - 1  # (N,)
    excess = torch.zeros(CONFIDENCE_BINS, dtype=torch.float64, device=logits.device)
    excess.scatter_add_(0, bins, correct.double() - confidence)  # n_b (share - mean confidence)
    return {"ece": excess.abs().sum().item() / len(logits), "mean_confidence": confidence.mean().item()}


def pack_bits(bits: Tensor) -> str:
    """Return (N,) truth values as a text: base64 of bytes, the first bit being the highest of the first byte.

    The last byte is filled up by zeros; :func:`tune.records.bits.unpack_bits` reads it.
    """
    return base64.b64encode(np.packbits(bits.cpu().numpy()).tobytes()).decode()


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> list[list[int]]:
    """Count predictions by true class, (C, C): rows true, columns predicted.

    Args:
        predictions: (N,), int64 in [0, C).
        labels: (N,), likewise.
        num_classes: C.
    """
    counts = torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    matrix: list[list[int]] = counts.view(num_classes, num_classes).tolist()
    return matrix


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle between unit vectors, exact down to angles of 0 and pi.

    theta = 2 atan2(|u - v|, |u + v|)

    Args:
        first: (N, D), unit vectors u; one without a direction, a zero vector, is at a right angle to all others.
        second: (N, D) or (D,), unit vectors v.

    Returns:
        (N,), radians in [0, pi].
    """
    difference: Tensor = torch.linalg.vector_norm(first - second, dim=1)  # (N,), 2 sin(theta / 2)
    total: Tensor = torch.linalg.vector_norm(first + second, dim=1)  # (N,), 2 cos(theta / 2)
    return 2.0 * torch.atan2(difference, total)


def angles_to_centres(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each embedding's angle to the centre of its own class and to the nearest other centre.

    A class's centre is the mean direction of its embeddings here; classes without any are passed over.

    Args:
        embeddings: (N, D), finite.
        labels: (N,), int64.

    Returns:
        (N,) and (N,), float64 radians in [0, pi]; the second is infinite where there is only one class.
    """
    units = directions(embeddings.double())  # (N, D)
    own = torch.empty(len(units), dtype=torch.float64, device=units.device)
    nearest_other = torch.full_like(own, float("inf"))
    for label in sorted(set(labels.tolist())):
        mine = labels == label  # (N,)
        centre = directions(units[mine].mean(dim=0, keepdim=True))  # (1, D)
        angle = angle_between(units, centre)  # (N,)
        own = torch.where(mine, angle, own)
        nearest_other = torch.where(mine, nearest_other, torch.minimum(nearest_other, angle))
    return own, nearest_other


def _angle_histograms(embeddings: Tensor, labels: Tensor) -> dict[str, list[int]]:
    own, nearest_other = angles_to_centres(embeddings, labels)
    return {"own": _histogram(own), "nearest_other": _histogram(nearest_other)}


def _histogram(angles_rad: Tensor) -> list[int]:
    """Count (N,) angles in equal bins over [0, pi], the last of which is closed; what is not finite is not counted."""
    inside = angles_rad[angles_rad.isfinite()]
    bins = (inside * (ANGLE_BINS / torch.pi)).long().clamp(max=ANGLE_BINS - 1)
    counts: list[int] = torch.bincount(bins, minlength=ANGLE_BINS).tolist()
    return counts
