"""Softmax cross-entropy over a linear layer: the baseline without angles."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.losses.base import ClassifierLoss


class SoftmaxLoss(ClassifierLoss):
    """Plain softmax cross-entropy.

    L = -log softmax(W x + b)_y

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(embedding_dim, num_classes, label_smoothing=label_smoothing)
        bound = 1.0 / math.sqrt(embedding_dim)  # as nn.Linear draws both
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim).uniform_(-bound, bound))  # (C, D)
        self.bias = nn.Parameter(torch.empty(num_classes).uniform_(-bound, bound))  # (C,)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of (B, D) embeddings and (B,) labels."""
        self._check_batch(embeddings, labels)
        logits = self.logits(embeddings)  # (B, C)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return W x + b, (B, C)."""
        self._check_embeddings(embeddings)
        dtype = self._compute_dtype(embeddings)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            return F.linear(embeddings.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
