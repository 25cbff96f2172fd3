"""MR2: margins by class in the logits and in the embeddings, from how spread out a class's embeddings are."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.losses.base import is_finite_between, require
from trainables.losses.running import Averages
from trainables.losses.softmax import SoftmaxLoss

_LEAST_SHARE = (
    0.1  # of a class's temperature in the mean one: at 0, as of embeddings that are all zero, logits would break
)


class MR2Loss(Averages, SoftmaxLoss):
    """Softmax cross-entropy at a temperature by class, and a penalty on distances within a class.

    n_c = average of |x|^2 over class c,  s_c = n_c - |average of x over class c|^2                       (1)
    g_c = g n_c^(1/3) / (mean of n^(1/3))                                                                 (2)
    L = mean over samples of -log softmax((W x + b) / g_y)_y
        + lambda log(1 + sum over others x' of class y in the batch of exp((|x - x'|^2 - 2 mean of s) / D)) (3)

    n_c is |mu_c|^2 + s_c, the squared mean and the mean squared deviation: the harder a class, the more spread out are
    its embeddings, and the higher its temperature, with which a logit has to be ahead by more. The mean of g_c is g.

    Of the original these are changed. The exponent is divided by the embedding's length D: with coordinates of unit
    variance it would be in the hundreds, and lambda would say nothing. The authors' code divides it by 10 D, leaves out
    the margin 2 s, and takes norms with p = 5 in (1). Averages are over the samples seen, the batch included, with a
    half-life in epochs, and so do not depend on the batch size; the penalty does, as the original's. A class never seen
    has g. g_c is kept at 0.1 g or more. Neither g_c nor s has a gradient.

    A batch with a value that is not finite changes nothing, and neither does evaluation.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        temperature: g > 0; 1 is that of plain cross-entropy.
        representation_weight: lambda >= 0.
        steps_per_epoch: a step is 1 / steps_per_epoch of an epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: a step is B / samples_per_epoch of an epoch; > 0.
        half_life_epochs: half-life of the averages, > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        Zhu et al., "Reducing Class-Wise Performance Disparity via Margin Regularization", ICLR 2026, arXiv:2602.00205,
        Corollary 1 and the two losses after it.
    """

    running_mean: Tensor  # (C, D), average embedding of a class
    running_square: Tensor  # (C,), average of |x|^2

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        temperature: float,
        representation_weight: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        half_life_epochs: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embedding_dim, num_classes, label_smoothing=label_smoothing)
        require(is_finite_between(temperature, 0.0), "temperature", "finite and > 0", temperature)
        require(
            representation_weight == 0.0 or is_finite_between(representation_weight, 0.0),
            "representation_weight",
            "finite and >= 0",
            representation_weight,
        )
        self._begin_averages(
            per_class=True,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
        )
        self.temperature = temperature
        self.representation_weight = representation_weight
        self.register_buffer("running_mean", torch.zeros(num_classes, embedding_dim, dtype=torch.float32))
        self._add_state("running_square")

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of (B, D) embeddings and (B,) labels."""
        self._check_batch(embeddings, labels)
        logits = self.logits(embeddings)  # (B, C)
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            embeddings = embeddings.to(logits.dtype)
            if self.training:
                self._learn(embeddings.detach(), labels, logits.detach().isfinite().all())
            temperatures = self.temperatures()[labels].to(logits.dtype).unsqueeze(1)  # (B, 1)
            loss = F.cross_entropy(logits / temperatures, labels, label_smoothing=self.label_smoothing)
            return loss + self.representation_weight * self._spread(embeddings, labels)

    def temperatures(self) -> Tensor:
        """Return g_c, (C,)."""
        seen = (self.epochs_seen > 0.0).to(self.running_square.dtype)  # (C,)
        root = self.running_square.clamp_min(0.0) ** (1.0 / 3.0)  # (C,)
        mean = (seen * root).sum() / seen.sum().clamp_min(1.0)
        share = torch.where((seen > 0.0) & (mean > 0.0), root / mean, 1.0)
        return self.temperature * share.clamp_min(_LEAST_SHARE)

    def extra_repr(self) -> str:
        """Show the sizes and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, temperature={self.temperature}, "
            f"representation_weight={self.representation_weight}"
        )

    @torch.no_grad()
    def _learn(self, embeddings: Tensor, labels: Tensor, finite: Tensor) -> None:
        taken = self._take(labels, finite)
        self.running_mean.copy_(taken.averaged_vectors(self.running_mean, embeddings))
        self.running_square.copy_(taken.averaged(self.running_square, (embeddings**2).sum(dim=1)))

    def _spread(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of the penalty in (3), a scalar."""
        seen = (self.epochs_seen > 0.0).to(self.running_square.dtype)  # (C,)
        deviation = (self.running_square - (self.running_mean**2).sum(dim=1)).clamp_min(0.0)  # (C,), s_c
        allowed = 2.0 * (seen * deviation).sum() / seen.sum().clamp_min(1.0)
        square = (embeddings**2).sum(dim=1)  # (B,)
        distance = square.unsqueeze(1) + square - 2.0 * embeddings @ embeddings.T  # (B, B)
        exponent = (distance - allowed.to(distance.dtype)) / self.embedding_dim
        pair = (labels.unsqueeze(1) == labels) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        exponent = exponent.masked_fill(~pair, -torch.inf)
        return torch.logsumexp(F.pad(exponent, (1, 0)), dim=1).mean()  # the padding is the 1 in the logarithm
