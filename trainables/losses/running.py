"""What losses share that average over the samples seen, with time counted in epochs."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from trainables.losses.base import ClassifierLoss, is_finite_between, require
from trainables.losses.margin_softmax import MarginSoftmaxLoss

Difficulty = Literal["error", "gap"]


def signature_of(base: type, without: Iterable[str] = (), added: Iterable[inspect.Parameter] = ()) -> inspect.Signature:
    """Return the signature of a loss that takes a base's arguments, some left out and others added.

    Args:
        base: whose arguments they are.
        without: names that are left out.
        added: keyword-only parameters, put first among the keywords.
    """
    kept = [p for p in inspect.signature(base).parameters.values() if p.name not in set(without)]
    keywords = [p for p in kept if p.kind is p.KEYWORD_ONLY]
    positional = [p for p in kept if p.kind is not p.KEYWORD_ONLY]
    return inspect.Signature([*positional, *added, *keywords])


def best_other_cosine(cosine: Tensor, labels: Tensor) -> Tensor:
    """Return each sample's cosine to the nearest class that is not its own, (B,), of (B, C) cosines."""
    return cosine.scatter(1, labels.unsqueeze(1), -math.inf).amax(dim=1)


@dataclass(frozen=True)
class Taken:
    """What a batch counts for, group by group.

    Args:
        member: (B, K), 1 where a sample belongs to a group.
        count: (K,), its samples in the batch.
        moves: (K,), whether a group's averages move.
        weight: (K,), of the batch's mean in the group's average, in [0, 1].
        epochs: how much time the batch is, in epochs.
    """

    member: Tensor
    count: Tensor
    moves: Tensor
    weight: Tensor
    epochs: float

    def averaged(self, running: Tensor, values: Tensor) -> Tensor:
        """Return averages (K,) after values (B,); a group that does not move keeps its own."""
        mean = (self.member * values.to(running.dtype).unsqueeze(1)).sum(dim=0) / self.count  # (K,), NaN where absent
        return torch.where(self.moves, running + self.weight * (mean - running), running)

    def averaged_vectors(self, running: Tensor, vectors: Tensor) -> Tensor:
        """Return averages (K, D) after vectors (B, D); a group that does not move keeps its own."""
        mean = self.member.T @ vectors.to(running.dtype) / self.count.unsqueeze(1)  # (K, D), NaN where absent
        moved = running + self.weight.unsqueeze(1) * (mean - running)
        return torch.where(self.moves.unsqueeze(1), moved, running)


class Averages(ClassifierLoss):
    """Bias-corrected averages over the samples seen, one for all (K = 1) or one a class (K = C).

    Time is counted in epochs, by samples, so that results do not depend on the batch size. The averages halve the
    weight of what was seen `half_life_epochs` ago; the first batch counts in full.
    """

    epochs_seen: Tensor  # (K,), samples seen of each class, counted in epochs of all classes: they sum to the time

    def _begin_averages(
        self,
        *,
        per_class: bool,
        half_life_epochs: float,
        steps_per_epoch: float | None,
        samples_per_epoch: float | None,
    ) -> None:
        """Check the settings of the averages, and begin the time.

        Raises:
            ValueError: if one is out of range, or not exactly one of the two lengths of an epoch is given.
        """
        if (steps_per_epoch is None) == (samples_per_epoch is None):
            raise ValueError(
                "give exactly one of steps_per_epoch and samples_per_epoch, "
                f"got {steps_per_epoch!r} and {samples_per_epoch!r}"
            )
        for name, value in (("steps_per_epoch", steps_per_epoch), ("samples_per_epoch", samples_per_epoch)):
            require(value is None or is_finite_between(value, 0.0), name, "finite and > 0", value)
        require(is_finite_between(half_life_epochs, 0.0), "half_life_epochs", "finite and > 0", half_life_epochs)
        self.steps_per_epoch = steps_per_epoch
        self.samples_per_epoch = samples_per_epoch
        self.half_life_epochs = half_life_epochs
        self.per_class = per_class
        self._add_state("epochs_seen")

    def _add_state(self, name: str, start: float = 0.0) -> None:
        """Keep a number for each group, (K,)."""
        groups = self.num_classes if self.per_class else 1
        self.register_buffer(name, torch.full((groups,), float(start), dtype=torch.float32))

    def _take(self, labels: Tensor, finite: Tensor) -> Taken:
        """Count a batch, (B,), unless it is not finite, a scalar bool. Stays on the device, waits for nothing."""
        dtype = self.epochs_seen.dtype
        groups = torch.arange(len(self.epochs_seen), device=labels.device)  # (K,)
        group_of_sample = labels if self.per_class else torch.zeros_like(labels)
        member = (group_of_sample.unsqueeze(1) == groups).to(dtype)  # (B, K)
        count = member.sum(dim=0)  # (K,)
        epochs = self._batch_epochs(len(labels))
        epochs_seen = self.epochs_seen + epochs * (count / len(labels))  # (K,)
        weight = self._weight_of_batch(epochs_seen)  # (K,)
        self.epochs_seen.copy_(torch.where(finite, epochs_seen, self.epochs_seen))
        return Taken(member, count, (count > 0.0) & finite, weight, epochs)

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


class RunningLoss(Averages, MarginSoftmaxLoss):
    """A margin loss with averages over the samples seen.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        per_class: whether there is an average for each class.
        half_life_epochs: half-life of the averages, > 0.
        steps_per_epoch: a step is 1 / steps_per_epoch of an epoch; > 0. Either this or samples_per_epoch.
        samples_per_epoch: a step is B / samples_per_epoch of an epoch; > 0.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        per_class: bool,
        half_life_epochs: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        self._begin_averages(
            per_class=per_class,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
        )


class DifficultyLoss(RunningLoss):
    """A margin loss that knows how difficult its samples are, and how competent the network is, on average.

    q <- average of d,  k <- average of c,  over the samples seen

    d is a sample's difficulty and c its competence, 1 if the sample is nearer to its own class than to any other, both
    from margin-free cosines. A batch with a value that is not finite changes nothing, and neither does evaluation.

    Args:
        embedding_dim: D, length of an embedding.
        num_classes: C.
        scale: s > 0.
        difficulty: "error", d = 1 - c; or "gap", d = (2 - (cos_y - max_{j != y} cos_j)) / 4.
        per_class: whether there is an average for each class.
        half_life_epochs: half-life of the averages, > 0.
        steps_per_epoch: as of `RunningLoss`.
        samples_per_epoch: as of `RunningLoss`.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ValueError: if an argument is out of range, or not exactly one of the two lengths of an epoch is given.
    """

    running_difficulty: Tensor  # (K,), q
    running_competence: Tensor  # (K,), k

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        scale: float,
        difficulty: Difficulty,
        per_class: bool,
        half_life_epochs: float,
        steps_per_epoch: float | None = None,
        samples_per_epoch: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            embedding_dim,
            num_classes,
            scale=scale,
            per_class=per_class,
            half_life_epochs=half_life_epochs,
            steps_per_epoch=steps_per_epoch,
            samples_per_epoch=samples_per_epoch,
            label_smoothing=label_smoothing,
        )
        require(difficulty in get_args(Difficulty), "difficulty", f"one of {get_args(Difficulty)}", difficulty)
        self.difficulty = difficulty
        self._add_state("running_difficulty")
        self._add_state("running_competence")

    @abstractmethod
    def _applied_margins_rad(self) -> Tensor:
        """Return the margin that the next step applies, (K,)."""

    def _raw_margins_rad(self) -> Tensor:
        """Return it before whatever damps it, (K,)."""
        return self._applied_margins_rad()

    @property
    def margin_rad(self) -> float | Tensor:
        """The margin applied now, in radians: a float, or (C,) if per class."""
        return self._float_or_per_class(self._applied_margins_rad())

    @property
    def margin_raw_rad(self) -> float | Tensor:
        """The margin before whatever damps it, in radians: a float, or (C,) if per class."""
        return self._float_or_per_class(self._raw_margins_rad())

    def applied_margin_rad(self) -> Tensor | None:
        """Return the margin applied now, in radians, (1,) on the device; None if per class."""
        return None if self.per_class else self._applied_margins_rad().clone()

    def diagnostics(self) -> dict[str, float | list[float]]:
        """Return the means over classes of both margins, of q and of k, and each class's margin if per class."""
        applied_rad = self._applied_margins_rad()
        values: dict[str, float | list[float]] = {
            "margin_rad": applied_rad.mean().item(),
            "margin_raw_rad": self._raw_margins_rad().mean().item(),
            "difficulty": self.running_difficulty.mean().item(),
            "competence": self.running_competence.mean().item(),
        }
        if self.per_class:
            values["margin_per_class_rad"] = applied_rad.tolist()
        return values

    def _float_or_per_class(self, values: Tensor) -> float | Tensor:
        return values.detach().clone() if self.per_class else values.item()

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor:
        applied_rad = self._applied_margins_rad()
        return applied_rad[labels] if self.per_class else applied_rad

    def _after_loss(self, cosine: Tensor, labels: Tensor, loss: Tensor, directions_: Tensor) -> None:
        difficulty, competence = self._measure(cosine, labels)
        # An embedding or class weight that is not finite has no direction: the loss is NaN as well.
        self._update_state(difficulty, competence, labels, loss.isfinite())

    def _measure(self, cosine: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return difficulty and competence of each sample, (B,) each, from margin-free cosines (B, C)."""
        gap = cosine.gather(1, labels.unsqueeze(1)).squeeze(1) - best_other_cosine(cosine, labels)  # (B,), in [-2, 2]
        competence = (gap > 0.0).to(gap.dtype)  # a tie is no competence: collapsed embeddings tie in every class
        if self.difficulty == "error":
            return 1.0 - competence, competence
        return ((2.0 - gap) / 4.0).clamp(0.0, 1.0), competence

    def _update_state(self, difficulty: Tensor, competence: Tensor, labels: Tensor, finite: Tensor) -> None:
        """Move the state by one batch: (B,), (B,), (B,), scalar bool."""
        taken = self._take(labels, finite)
        self.running_difficulty.copy_(taken.averaged(self.running_difficulty, difficulty))
        self.running_competence.copy_(taken.averaged(self.running_competence, competence))
        self._move_margins(taken)

    def _move_margins(self, taken: Taken) -> None:
        """Move margins that are a state of their own by one batch, after the averages."""
