"""AdaLoss: an angular margin that grows where classes are hard to separate and shrinks where separation is easy."""

import inspect
import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from trainables.losses.base import is_finite_between, require
from trainables.losses.margin_softmax import MarginSoftmaxLoss

Difficulty = Literal["error", "gap"]


class AdaLoss(MarginSoftmaxLoss):
    """Additive angular margin driven by feedback from training.

    q <- average of d,  k <- average of c,  over the samples seen                                              (1)
    m <- clip(m + f (rate_up max(q - tau, 0) / (1 - tau) - rate_down max(tau - q, 0) / tau), m_min, m_max)     (2)
    L = -log softmax(z)_y,  z_y = s psi(theta_y, k m),  z_j = s cos(theta_j) for j != y                        (3)

    d is a sample's difficulty and c its competence, 1 if the sample is nearer to its own class than to any other,
    both from margin-free cosines; f is the share of an epoch that one step is. A step uses the old margin, then updates
    it; no gradient flows into it.

    "Harder, hence a larger margin" alone is positive feedback: the margin makes it harder still, and it runs away. The
    factor k in (3) closes the loop: the margin opens as the network becomes competent, from 0 at the start, and
    closes when training suffers.

    Time is counted in epochs, by samples, so that results do not depend on the batch size. The averages halve the
    weight of what was seen `half_life_epochs` ago and are bias-corrected: the first batch counts in full. With one
    margin a class, class j's n_j samples in a batch of n stand for f (n_j / n) / p_j epochs of that class, where p_j
    is its share of all samples so far. In (2), a class in the batch moves for f epochs and a class absent from it not
    at all: batches should hold several samples a class, or its margin moves only in part of the steps.

    A batch with a value that is not finite changes nothing, and neither does evaluation.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        margin_rad: m at the start, in [margin_min_rad, margin_max_rad].
        rate_up_rad_per_epoch: fastest growth of m, at q = 1; >= 0.
        rate_down_rad_per_epoch: fastest decline of m, at q = 0; >= 0.
        target_difficulty: tau, where m rests; in (0, 1).
        steps_per_epoch: f = 1 / steps_per_epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: f = B / samples_per_epoch, which also counts a short last batch rightly; > 0.
        margin_min_rad: lower bound of m, >= 0.
        margin_max_rad: upper bound of m, < pi.
        difficulty: "error", d = 1 - c; or "gap", d = (2 - (cos_y - max_{j != y} cos_j)) / 4.
        per_class: one margin a class (K = C) instead of one for all (K = 1).
        half_life_epochs: half-life of both averages, > 0.
        competence_gate: False applies m instead of k m in (3), for the ablation.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.

    Reference:
        The margin's form: Deng et al., arXiv:1801.07698, eq. 3. The feedback is ours.
    """

    running_margin_rad: Tensor  # (K,), m
    running_difficulty: Tensor  # (K,), q
    running_competence: Tensor  # (K,), k
    epochs_seen: Tensor  # (K,), samples seen of each class, counted in epochs of all classes: they sum to the time

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        margin_rad: float,
        rate_up_rad_per_epoch: float,
        rate_down_rad_per_epoch: float,
        target_difficulty: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        margin_min_rad: float = 0.0,
        margin_max_rad: float = 0.8,
        difficulty: Difficulty = "error",
        per_class: bool = False,
        half_life_epochs: float = 0.2,
        competence_gate: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        self._set_margin_bounds(margin_rad, margin_min_rad, margin_max_rad)
        self._set_epoch_length(steps_per_epoch, samples_per_epoch)
        for name, rate in (
            ("rate_up_rad_per_epoch", rate_up_rad_per_epoch),
            ("rate_down_rad_per_epoch", rate_down_rad_per_epoch),
        ):
            require(rate == 0.0 or is_finite_between(rate, 0.0), name, "finite and >= 0", rate)
        require(0.0 < target_difficulty < 1.0, "target_difficulty", "in (0, 1)", target_difficulty)
        require(is_finite_between(half_life_epochs, 0.0), "half_life_epochs", "finite and > 0", half_life_epochs)
        require(difficulty in get_args(Difficulty), "difficulty", f"one of {get_args(Difficulty)}", difficulty)
        self.rate_up_rad_per_epoch = rate_up_rad_per_epoch
        self.rate_down_rad_per_epoch = rate_down_rad_per_epoch
        self.target_difficulty = target_difficulty
        self.half_life_epochs = half_life_epochs
        self.difficulty = difficulty
        self.per_class = per_class
        self.competence_gate = competence_gate
        groups = num_classes if per_class else 1  # K
        self.register_buffer("running_margin_rad", torch.full((groups,), float(margin_rad), dtype=torch.float32))
        self.register_buffer("running_difficulty", torch.zeros(groups, dtype=torch.float32))
        self.register_buffer("running_competence", torch.zeros(groups, dtype=torch.float32))
        self.register_buffer("epochs_seen", torch.zeros(groups, dtype=torch.float32))

    @property
    def margin_rad(self) -> float | Tensor:
        """The margin applied now, k m, in radians: a float, or (C,) if per class. 0 before the first step."""
        return self._float_or_per_class(self._applied_margins_rad())

    @property
    def margin_raw_rad(self) -> float | Tensor:
        """The margin before the competence gate, m, in radians: a float, or (C,) if per class."""
        return self._float_or_per_class(self.running_margin_rad)

    def applied_margin_rad(self) -> Tensor | None:
        """Return the margin applied now, k m, in radians, (1,) on the device; None if per class."""
        return None if self.per_class else self._applied_margins_rad().clone()

    def diagnostics(self) -> dict[str, float | list[float]]:
        """Return the means over classes of k m, m, q and k, and each class's k m if per class."""
        applied_rad = self._applied_margins_rad()
        values: dict[str, float | list[float]] = {
            "margin_rad": applied_rad.mean().item(),
            "margin_raw_rad": self.running_margin_rad.mean().item(),
            "difficulty": self.running_difficulty.mean().item(),
            "competence": self.running_competence.mean().item(),
        }
        if self.per_class:
            values["margin_per_class_rad"] = applied_rad.tolist()
        return values

    def extra_repr(self) -> str:
        """Show sizes, scale and the rule's settings in the module's printed form."""
        return (
            f"{super().extra_repr()}, rate_up_rad_per_epoch={self.rate_up_rad_per_epoch}, "
            f"rate_down_rad_per_epoch={self.rate_down_rad_per_epoch}, target_difficulty={self.target_difficulty}, "
            f"difficulty={self.difficulty!r}, per_class={self.per_class}, competence_gate={self.competence_gate}"
        )

    def _set_margin_bounds(self, start_rad: float, min_rad: float, max_rad: float) -> None:
        require(0.0 <= min_rad < math.pi, "margin_min_rad", "in [0, pi)", min_rad)
        require(min_rad <= max_rad < math.pi, "margin_max_rad", f"in [margin_min_rad = {min_rad}, pi)", max_rad)
        allowed = f"in [margin_min_rad, margin_max_rad] = [{min_rad}, {max_rad}]"
        require(min_rad <= start_rad <= max_rad, "margin_rad", allowed, start_rad)
        self.margin_min_rad = min_rad
        self.margin_max_rad = max_rad

    def _set_epoch_length(self, steps: float | None, samples: float | None) -> None:
        if (steps is None) == (samples is None):
            raise ValueError(
                f"give exactly one of steps_per_epoch and samples_per_epoch, got {steps!r} and {samples!r}"
            )
        for name, value in (("steps_per_epoch", steps), ("samples_per_epoch", samples)):
            require(value is None or is_finite_between(value, 0.0), name, "finite and > 0", value)
        self.steps_per_epoch = steps
        self.samples_per_epoch = samples

    def _float_or_per_class(self, values: Tensor) -> float | Tensor:
        return values.detach().clone() if self.per_class else values.item()

    def _applied_margins_rad(self) -> Tensor:
        if not self.competence_gate:
            return self.running_margin_rad
        return self.running_competence * self.running_margin_rad  # (K,)

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        applied_rad = self._applied_margins_rad()
        return applied_rad[labels] if self.per_class else applied_rad

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor) -> None:
        difficulty, competence = self._measure(cosine, labels)
        # An embedding or class weight that is not finite has no direction: the loss is NaN as well.
        self._update_state(difficulty, competence, labels, loss.isfinite())

    def _measure(self, cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return difficulty and competence of each sample, (B,) each, from margin-free cosines (B, C)."""
        target = labels.unsqueeze(1)  # (B, 1)
        best_other = cosine.scatter(1, target, -math.inf).amax(dim=1)  # (B,)
        gap = cosine.gather(1, target).squeeze(1) - best_other  # (B,), in [-2, 2]
        competence = (gap > 0.0).to(gap.dtype)  # a tie is no competence: collapsed embeddings tie in every class
        if self.difficulty == "error":
            return 1.0 - competence, competence
        return ((2.0 - gap) / 4.0).clamp(0.0, 1.0), competence

    def _update_state(self, difficulty: Tensor, competence: Tensor, labels: Tensor, finite: Tensor) -> None:
        """Move the state by one batch: (B,), (B,), (B,), scalar bool. Stays on the device, waits for nothing."""
        dtype = self.epochs_seen.dtype
        groups = torch.arange(len(self.epochs_seen), device=labels.device)  # (K,)
        group_of_sample = labels if self.per_class else torch.zeros_like(labels)
        member = (group_of_sample.unsqueeze(1) == groups).to(dtype)  # (B, K)
        count = member.sum(dim=0)  # (K,)
        moves = (count > 0.0) & finite  # (K,)
        batch_epochs = self._batch_epochs(len(labels))
        epochs_seen = self.epochs_seen + batch_epochs * (count / len(labels))  # (K,)
        weight = self._weight_of_batch(epochs_seen)  # (K,)

        def averaged(running: Tensor, values: Tensor) -> Tensor:
            mean = (member * values.to(dtype).unsqueeze(1)).sum(dim=0) / count  # (K,), NaN where absent
            return torch.where(moves, running + weight * (mean - running), running)

        self.running_difficulty.copy_(averaged(self.running_difficulty, difficulty))
        self.running_competence.copy_(averaged(self.running_competence, competence))
        margin_rad = self.running_margin_rad + batch_epochs * self._drift_rad_per_epoch()
        margin_rad = margin_rad.clamp(self.margin_min_rad, self.margin_max_rad)
        self.running_margin_rad.copy_(torch.where(moves, margin_rad, self.running_margin_rad))
        self.epochs_seen.copy_(torch.where(finite, epochs_seen, self.epochs_seen))

    def _batch_epochs(self, batch_size: int) -> float:
        if self.samples_per_epoch is not None:
            return batch_size / self.samples_per_epoch
        assert self.steps_per_epoch is not None
        return 1.0 / self.steps_per_epoch

    def _weight_of_batch(self, epochs_seen: Tensor) -> Tensor:
        """Return the weight of the batch's means in the bias-corrected averages, (K,) in [0, 1].

        As if each class's samples had come evenly over the elapsed time t: a share r of a class's samples so far is
        t r epochs of that class, and weighs (1 - 2^(-t r / H)) / (1 - 2^(-t / H)); r = 1, the first batch, weighs 1.
        """
        elapsed_epochs = epochs_seen.sum()
        share = (epochs_seen - self.epochs_seen) / epochs_seen  # (K,), NaN for a class never seen
        rate = -math.log(2.0) / self.half_life_epochs
        return torch.expm1(rate * elapsed_epochs * share) / torch.expm1(rate * elapsed_epochs)

    def _drift_rad_per_epoch(self) -> Tensor:
        excess = self.running_difficulty - self.target_difficulty  # (K,)
        up = self.rate_up_rad_per_epoch * excess.clamp_min(0.0) / (1.0 - self.target_difficulty)
        down = self.rate_down_rad_per_epoch * (-excess).clamp_min(0.0) / self.target_difficulty
        return up - down


class AdaLossPerClass(AdaLoss):
    """AdaLoss with one margin a class.

    The equations of `AdaLoss`, each with an index for the class.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        **arguments: as of `AdaLoss`, without `per_class`.

    Raises:
        TypeError: if an argument is unknown, or is per_class.
        ValueError: if an argument is out of range.
    """

    # Whoever asks for the parameters of this loss is told AdaLoss's.
    __signature__ = inspect.signature(AdaLoss).replace(
        parameters=[p for p in inspect.signature(AdaLoss).parameters.values() if p.name != "per_class"]
    )

    def __init__(self, embedding_dim: int, num_classes: int, **arguments: Any) -> None:
        super().__init__(embedding_dim, num_classes, per_class=True, **arguments)
