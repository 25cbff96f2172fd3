"""The rules that a loss is held to, one function each: it returns, or says in a phrase what the loss does instead."""

import copy
import inspect
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.gradcheck import GradcheckError

from trainables.losses.base import ClassifierLoss

__all__ = [
    "BrokenRuleError",
    "Subject",
    "a_step_waits_for_no_device",
    "an_image_stands_alone",
    "diagnostics_are_numbers",
    "evaluation_changes_nothing",
    "gradients_are_finite",
    "gradients_are_finite_at_cosines_of_one",
    "gradients_are_finite_at_odd_batches",
    "gradients_are_right",
    "is_built",
    "its_state_survives_a_checkpoint",
    "label_smoothing_counts",
    "other_sizes_do",
    "said",
    "the_objective_is_a_scalar",
    "there_are_logits",
    "weights_come_from_the_seed",
    "what_it_is_given_stays",
]

DIM, CLASSES, BATCH, STEPS_PER_EPOCH = 6, 5, 16, 10
LONG = 32  # steps, or calls, after which what counts them shows


class BrokenRuleError(Exception):
    """Says in a phrase what a loss does that it must not do, and what would mend it."""


class Subject:
    """A loss as the checks build and feed it.

    Args:
        cls: the class.
        points: what its first trials would give it.
    """

    def __init__(self, cls: type[ClassifierLoss], points: Sequence[Mapping[str, Any]]) -> None:
        self.cls, self.points = cls, points
        self.parameters = inspect.signature(cls).parameters

    def build(self, seed: int = 0, point: int = 0, **changes: Any) -> ClassifierLoss:
        """Return a loss in training, with the arguments of a point but for what is changed."""
        torch.manual_seed(seed)
        steps = {"steps_per_epoch": STEPS_PER_EPOCH} if "steps_per_epoch" in self.parameters else {}
        sizes = {"embedding_dim": DIM, "num_classes": CLASSES}
        return self.cls(**{**sizes, **self.points[point], **steps, **changes}).train()

    @staticmethod
    def batch(
        seed: int = 1,
        dtype: torch.dtype = torch.float32,
        size: int = BATCH,
        dim: int = DIM,
        classes: int = CLASSES,
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings (B, D) that ask for a gradient, and labels (B,)."""
        generator = torch.Generator().manual_seed(seed)
        embeddings = 3.0 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (size,), generator=generator)
        return embeddings.to(dtype).requires_grad_(), labels

    def trained(self, seed: int = 0, steps: int = 3) -> ClassifierLoss:
        """Return a loss that has seen some batches."""
        loss = self.build(seed)
        for step in range(steps):
            objective(loss, *self.batch(step), seed=step)
        return loss


def said(error: BaseException) -> str:
    """Return an error in one line."""
    message = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{f': {message}' if message else ''}"


def objective(loss: ClassifierLoss, embeddings: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    """Return the objective of a batch, with torch's global generator where training would have it."""
    torch.manual_seed(seed)
    return loss(embeddings, labels)  # type: ignore[no-any-return]


def _backward(found: Tensor) -> None:
    torch.autograd.backward(found)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise BrokenRuleError(problem)


def is_built(subject: Subject) -> None:
    """See RULES in contract.py."""
    for number, point in enumerate(subject.points):
        try:
            subject.build(point=number)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            given = ", ".join(["embedding_dim", "num_classes", *(f"{key}={value}" for key, value in point.items())])
            hint = "" if hasattr(subject.cls, "search_space") else "; declare its arguments in a search_space"
            raise BrokenRuleError(
                f"it cannot be built from its search space: {subject.cls.__name__}({given}) raises {said(error)}{hint}"
            ) from None


def the_objective_is_a_scalar(subject: Subject) -> None:
    """See RULES in contract.py."""
    for dtype in (torch.float32, torch.bfloat16):
        found = objective(subject.build(), *subject.batch(dtype=dtype))
        _require(isinstance(found, Tensor), f"its loss is not a tensor but a {type(found).__name__}")
        _require(
            found.shape == (), f"its loss is not a scalar: shape {tuple(found.shape)}; take the mean over the batch"
        )
        _require(
            found.dtype == torch.float32,
            f"its loss is {_name(found.dtype)} for {_name(dtype)} embeddings; compute in float32: embeddings.float()",
        )
        _require(bool(found.isfinite()), f"its loss is {found.item()} on a batch of {_name(dtype)} embeddings")


def there_are_logits(subject: Subject) -> None:
    """See RULES in contract.py."""
    for loss in (subject.build(), subject.build().eval()):
        found = loss.logits(subject.batch()[0])
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        _require(
            shape == (BATCH, CLASSES),
            f"its logits must have the shape (batch, classes), here ({BATCH}, {CLASSES}), got {shape}",
        )
        _require(found.is_floating_point() and bool(found.isfinite().all()), "its logits are not finite")


def other_sizes_do(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.build(embedding_dim=16, num_classes=3)
    embeddings, labels = subject.batch(dim=16, classes=3)
    _backward(objective(loss, embeddings, labels))
    shape = tuple(loss.logits(embeddings).shape)
    _require(shape == (BATCH, 3), f"with embeddings of 16 numbers and 3 classes its logits have the shape {shape}")
    loss = subject.build()
    found = objective(loss, *subject.batch(size=2))
    _require(bool(found.isfinite()), f"its loss is {found.item()} on a batch of two")
    _require(tuple(loss.eval().logits(subject.batch(size=1)[0]).shape) == (1, CLASSES), "it has no logits of one image")


def an_image_stands_alone(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.trained().eval()
    embeddings, _ = subject.batch()
    whole, part = loss.logits(embeddings), loss.logits(embeddings[:3])
    _require(
        torch.allclose(whole[:3], part, rtol=1e-3, atol=1e-3 * whole.abs().max().item()),
        "the logits of an image depend on the others of its batch, so that which class it is of would too",
    )


def what_it_is_given_stays(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.build()
    embeddings, labels = subject.batch()
    before = embeddings.detach().clone(), labels.clone()
    objective(loss, embeddings, labels)
    loss.logits(embeddings)
    _require(
        torch.equal(embeddings.detach(), before[0]) and torch.equal(labels, before[1]),
        "it changes the embeddings or the labels that it is given; work on a copy",
    )
    drawn = []
    for seed in (1, 2):
        objective(loss, embeddings.detach().requires_grad_(), labels, seed=seed)
        drawn.append(torch.rand(4))
    _require(
        not torch.equal(*drawn),
        "it sets the seed of torch's global generator, which all of training draws from; give it a torch.Generator",
    )


def gradients_are_finite(subject: Subject) -> None:
    """See RULES in contract.py."""
    for dtype in (torch.float32, torch.bfloat16):
        loss = subject.build()
        for step in range(3):
            embeddings, labels = subject.batch(step, dtype)
            _backward(objective(loss, embeddings, labels))
            _require(
                embeddings.grad is not None and bool(embeddings.grad.abs().max() > 0),
                "no gradient reaches the embeddings, so nothing would be learnt; look for detach() or no_grad()",
            )
            _require_finite(embeddings, loss, f"in step {step + 1} with {_name(dtype)} embeddings")


def gradients_are_finite_at_cosines_of_one(subject: Subject) -> None:
    """See RULES in contract.py."""
    labels = torch.arange(CLASSES)
    for sign in (1.0, -1.0):
        loss = subject.build()
        if not _put_on_axes(loss):
            return
        embeddings = (sign * 2.0 * torch.eye(CLASSES, DIM)).requires_grad_()
        for _ in range(3):
            embeddings.grad = None
            _backward(objective(loss, embeddings, labels))
            _require_finite(
                embeddings,
                loss,
                f"where the cosine to the own class is {sign:g}; the slope of acos is infinite there, and that of "
                "sqrt(1 - cos^2) too",
            )


def gradients_are_finite_at_odd_batches(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.build()
    embeddings, labels = subject.batch()
    with torch.no_grad():
        embeddings[0] = 0.0
    _backward(objective(loss, embeddings, labels))
    _require_finite(embeddings, loss, "where an embedding is zero; F.normalize is finite there")
    embeddings, labels = subject.batch()
    _backward(objective(loss, embeddings, torch.zeros_like(labels)))
    _require_finite(embeddings, loss, "where all images of a batch are of one class")


def evaluation_changes_nothing(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.trained().eval()
    before, batch = _state(loss), subject.batch()
    first = objective(loss, *batch)
    logits = loss.logits(batch[0])
    second = objective(loss, *batch)
    loss.train().logits(batch[0])
    for _ in range(LONG):
        loss.eval().logits(batch[0])
    advice = "; change it only where self.training is true, and not in logits"
    changed = [key for key, value in _state(loss).items() if not _same(value, before[key])]
    _require(not changed, f"it changes in eval(), or in logits: {', '.join(changed)}{advice}")
    _require(_same(first, second), f"it changes in eval(): the same batch gives {first:.6g}, then {second:.6g}{advice}")
    _require(_same(logits, loss.eval().logits(batch[0])), f"its logits differ from call to call{advice}")


def its_state_survives_a_checkpoint(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss, other = subject.trained(steps=LONG), subject.build(seed=9)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    advice = "; keep what it learns in tensors of register_buffer, or in parameters"
    try:
        other.load_state_dict(torch.load(buffer, weights_only=True))
    except Exception as error:  # noqa: BLE001
        raise BrokenRuleError(f"its state cannot be read back from a checkpoint: {said(error)}") from None
    for step in range(LONG, LONG + 3):
        batch = subject.batch(step)
        ours, theirs = objective(loss, *batch, seed=step), objective(other, *batch, seed=step)
        _require(
            _same(ours, theirs),
            f"its state is lost in a checkpoint: it goes on with a loss of {theirs:.6g} instead of {ours:.6g}{advice}",
        )
    lost = [key for key, value in _state(loss).items() if not _same(value, _state(other)[key])]
    _require(not lost, f"its state is lost in a checkpoint: {', '.join(lost)}{advice}")


def weights_come_from_the_seed(subject: Subject) -> None:
    """See RULES in contract.py."""
    first, again = _state(subject.build()), _state(subject.build())
    differing = [key for key, value in first.items() if not _same(value, again[key])]
    _require(
        not differing,
        f"its initial {', '.join(differing)} differ from time to time; draw them from torch's global generator",
    )


def label_smoothing_counts(subject: Subject) -> None:
    """See RULES in contract.py."""
    if "label_smoothing" not in subject.parameters:
        return
    batch = subject.batch()
    plain = objective(subject.build(label_smoothing=0.0), *batch)
    smooth = objective(subject.build(label_smoothing=0.1), *batch)
    _require(
        not _same(plain, smooth),
        "it takes label_smoothing, and its loss does not depend on it; a search would tune what has no effect: leave "
        "the argument out",
    )


def diagnostics_are_numbers(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss = subject.trained()
    found = loss.diagnostics()
    _require(
        isinstance(found, dict) and {"margin_rad", "margin_raw_rad"} <= found.keys(),
        "its diagnostics() must be a dict with margin_rad and margin_raw_rad; call the inherited one",
    )
    values = [number for value in found.values() for number in (value if isinstance(value, list) else [value])]
    good = all(isinstance(number, float | int) and math.isfinite(number) for number in values)
    _require(good, "its diagnostics() must hold finite Python numbers, or lists of them; .item() makes one of a tensor")
    json.dumps(found)


def a_step_waits_for_no_device(subject: Subject) -> None:
    """See RULES in contract.py."""
    try:
        with FakeTensorMode():
            loss = subject.build()
            loss.applied_margin_rad()
            _backward(loss(torch.randn(BATCH, DIM, requires_grad=True), torch.zeros(BATCH, dtype=torch.int64)))
    except Exception as error:  # noqa: BLE001
        raise BrokenRuleError(
            f"a step asks for the value of a tensor, by .item(), float() or if, which a GPU has to be waited for "
            f"({type(error).__name__})"
        ) from None


def gradients_are_right(subject: Subject) -> None:
    """See RULES in contract.py."""
    loss, dtype = subject.trained().eval(), torch.float64
    try:
        exact = objective(copy.deepcopy(loss).double(), *subject.batch(dtype=dtype)).dtype == dtype
    except RuntimeError:  # it turns embeddings into float32, whatever its weights are
        exact = False
    precision: dict[str, Any] = {}
    if exact:
        loss = loss.double()
    else:
        dtype, precision = torch.float32, {"eps": 1e-2, "atol": 2e-2, "rtol": 2e-2}
    embeddings, labels = subject.batch(dtype=dtype)
    embeddings = embeddings.detach()[:4].requires_grad_()
    names = list(dict(loss.named_parameters()))

    def of(embeddings: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(copy.deepcopy(loss), named, (embeddings, labels[:4]))  # type: ignore[no-any-return]

    try:
        with warnings.catch_warnings(action="ignore"):  # float32 is not precise, as we know
            torch.autograd.gradcheck(of, (embeddings, *loss.parameters()), **precision)
    except GradcheckError as error:
        raise BrokenRuleError(f"its gradient is not that of its loss: {said(error)}") from None


# --- Tools -----------------------------------------------------------------------------------------------------------


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _state(loss: ClassifierLoss) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in loss.state_dict().items() if isinstance(value, Tensor)}


def _same(first: Tensor, second: Tensor) -> bool:
    return (
        first.shape == second.shape
        and bool(torch.equal(first.isnan(), second.isnan()))
        and bool(torch.equal(first.nan_to_num(), second.nan_to_num()))
    )


def _require_finite(embeddings: Tensor, loss: ClassifierLoss, where: str) -> None:
    gradients = {"the embeddings": embeddings.grad} | {name: weight.grad for name, weight in loss.named_parameters()}
    broken = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    _require(not broken, f"the gradient of {', '.join(broken)} is not finite {where}")


def _put_on_axes(loss: ClassifierLoss) -> bool:
    """Have each class's weights point along an axis, so that cosines are exact; False where there are none to find."""
    for parameter in loss.parameters():
        if set(parameter.shape) == {CLASSES, DIM}:
            with torch.no_grad():
                parameter.copy_(2.0 * torch.eye(*parameter.shape))
            return True
    return False
