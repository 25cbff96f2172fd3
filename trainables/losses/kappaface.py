"""KappaFace: a margin for each class, from how concentrated its embeddings are and how often it comes."""

import math

import torch
from torch import Tensor

from trainables.losses.base import require
from trainables.losses.running import RunningLoss

_LONGEST_MEAN = 0.999  # of a mean direction: at 1, as of a class with one sample, the concentration is infinite


class KappaFaceLoss(RunningLoss):
    """Additive angular margin by class, larger for classes that are spread out and for rare ones.

    r_c = |average of x / |x| over class c|,  kappa_c = r_c (D - r_c^2) / (1 - r_c^2)              (1)
    w_c = 1 - sigmoid(T (kappa_c - mean of kappa) / sd of kappa)                                  (2)
    v_c = (cos(pi n_c / max n) + 1) / 2                                                           (3)
    m_c = (gamma v_c + (1 - gamma) w_c) m_0                                                       (4)
    L = -log softmax(z)_y,  z_y = s psi(theta_y, m_y),  z_j = s cos(theta_j) for j != y           (5)

    (1) estimates the concentration of a von Mises-Fisher distribution; n_c is how many samples a class has. Where
    classes come equally often, v is 0 for all of them, and 1 - gamma merely scales the margin.

    Of the original these are changed. It remembers an average embedding of every image over the epochs, or, in the
    authors' variant, sums those of a momentum encoder over an epoch, and computes margins once an epoch; here the
    memory is one average embedding a class, over the samples seen with a half-life in epochs, and margins move with
    every step, since a loss is not told which image is which. n_c is counted as samples come. A class that was never
    seen counts as average in (2), 0.5. r is kept below 0.999. The margins of the first step stand at what these say of
    nothing, (gamma + (1 - gamma) / 2) m_0, where the authors begin with m_0.

    A batch with a value that is not finite changes nothing, and neither does evaluation.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m_0, in [0, pi).
        temperature: T in (0, 1]; the nearer to 0, the more equal the margins.
        gamma: weight of rarity against spread, in [0, 1].
        steps_per_epoch: a step is 1 / steps_per_epoch of an epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: a step is B / samples_per_epoch of an epoch; > 0.
        half_life_epochs: half-life of the memory, > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        Oinar, Le and Woo, 2022, arXiv:2201.07394, eq. 6 and the two weights after it; for (1), Banerjee et al., JMLR 6,
        2005, eq. 4.4.
    """

    memory: Tensor  # (C, D), average direction of a class's embeddings

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        temperature: float,
        gamma: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        half_life_epochs: float = 0.2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim,
            num_classes,
            scale=scale,
            per_class=True,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
            label_smoothing=label_smoothing,
        )
        require(0.0 <= margin_rad < math.pi, "margin_rad", "in [0, pi)", margin_rad)
        require(0.0 < temperature <= 1.0, "temperature", "in (0, 1]", temperature)
        require(0.0 <= gamma <= 1.0, "gamma", "in [0, 1]", gamma)
        self._margin_rad = float(margin_rad)
        self.temperature = temperature
        self.gamma = gamma
        self.register_buffer("memory", torch.zeros(num_classes, embedding_dim, dtype=torch.float32))

    @property
    def margin_rad(self) -> Tensor:
        """The margin of each class now, (C,) radians."""
        return self._margins_rad()

    def diagnostics(self) -> dict[str, float | list[float]]:
        """Return the mean of the margins, m_0 and each class's margin."""
        margins_rad = self._margins_rad()
        return {
            "margin_rad": margins_rad.mean().item(),
            "margin_raw_rad": self._margin_rad,
            "margin_per_class_rad": margins_rad.tolist(),
        }

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, margin_rad={self._margin_rad}, temperature={self.temperature}, gamma={self.gamma}"
        )

    def _margins_rad(self) -> Tensor:
        """Return m_c, (C,)."""
        spread = 1.0 - torch.sigmoid(self.temperature * self._standardised_concentration())  # (C,)
        most = self.epochs_seen.max()
        share = torch.where(most > 0.0, self.epochs_seen / most, 0.0)  # (C,)
        rarity = (torch.cos(math.pi * share) + 1.0) / 2.0  # (C,)
        return self._margin_rad * (self.gamma * rarity + (1.0 - self.gamma) * spread)

    def _standardised_concentration(self) -> Tensor:
        """Return kappa less its mean, over its standard deviation, (C,); 0 for a class never seen."""
        seen = (self.epochs_seen > 0.0).to(self.memory.dtype)  # (C,)
        count = seen.sum().clamp_min(1.0)
        length = torch.linalg.vector_norm(self.memory, dim=1).clamp(max=_LONGEST_MEAN)  # (C,), r
        kappa = length * (self.embedding_dim - length**2) / (1.0 - length**2)
        deviation = seen * (kappa - (seen * kappa).sum() / count)
        sd = (deviation**2).sum().div(count).sqrt()
        equal = sd <= 1e-6 * kappa.max()  # but for rounding
        return torch.where(equal, 0.0, deviation / sd)

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        return self._margins_rad()[labels]

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor, directions_: Tensor) -> None:
        taken = self._take(labels, loss.isfinite())
        self.memory.copy_(taken.averaged_vectors(self.memory, directions_))
