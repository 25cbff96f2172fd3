"""What a loss must do so that a search with it means something: each check in a fraction of a second, on a CPU.

The tests of this project hold its own losses to more; this is what breaks a run, or makes its numbers wrong unseen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainables.losses import contract_rules as rules
from trainables.losses.base import ClassifierLoss
from trainables.losses.contract_rules import BrokenRuleError, Subject, said

__all__ = ["Check", "broken_rule", "check_loss"]


@dataclass(frozen=True)
class Check:
    """One rule, and how a loss keeps it.

    Args:
        rule: what must be.
        problem: what is instead, or None.
        is_advice: whether a loss that breaks it is only slower, or less precise, than it could be.
    """

    rule: str
    problem: str | None
    is_advice: bool = False


def check_loss(
    cls: type[ClassifierLoss], points: Sequence[Mapping[str, Any]], *, thorough: bool = False
) -> Iterator[Check]:
    """Hold a loss to the contract of ClassifierLoss; after a loss that cannot be built nothing more is checked.

    Args:
        cls: of the loss.
        points: arguments of its first trials, of which all must build; the first is looked at more closely.
        thorough: also compare gradients with finite differences in float64, and look for what slows a GPU down.
    """
    state = torch.random.get_rng_state()
    try:
        subject = Subject(cls, points)
        wanted = [*_RULES, *(_FURTHER if thorough else ())]
        for rule, check, is_advice in wanted:
            problem = _problem(rule, check, subject)
            yield Check(rule, problem, is_advice)
            if problem is not None and check is rules.is_built:
                return
    finally:
        torch.random.set_rng_state(state)


def broken_rule(cls: type[ClassifierLoss], points: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what a loss does that it must not do, or None."""
    checks = check_loss(cls, points)
    return next((check.problem for check in checks if check.problem is not None and not check.is_advice), None)


def _problem(rule: str, check: Callable[[Subject], None], subject: Subject) -> str | None:
    try:
        check(subject)
    except BrokenRuleError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a stranger's loss does
        return f"it raises {said(error)}, where it is looked at whether {rule}"
    return None


_Rule = tuple[str, Callable[[Subject], None], bool]
_RULES: tuple[_Rule, ...] = (
    ("it can be built from its search space", rules.is_built, False),
    ("its loss is a finite float32 scalar", rules.the_objective_is_a_scalar, False),
    ("it has logits, (batch, classes)", rules.there_are_logits, False),
    ("it takes any size of embedding, batch and set of classes", rules.other_sizes_do, False),
    ("the logits of an image are its own", rules.an_image_stands_alone, False),
    ("what it is given stays as it is, torch's seed too", rules.what_it_is_given_stays, False),
    ("its gradients are finite and reach the embeddings", rules.gradients_are_finite, False),
    ("its gradients are finite at cosines of 1 and -1", rules.gradients_are_finite_at_cosines_of_one, False),
    (
        "its gradients are finite at zero embeddings and a single class",
        rules.gradients_are_finite_at_odd_batches,
        False,
    ),
    ("eval() and logits change nothing", rules.evaluation_changes_nothing, False),
    ("its state survives a checkpoint", rules.its_state_survives_a_checkpoint, False),
    ("its initial weights follow from the seed", rules.weights_come_from_the_seed, False),
    ("label smoothing counts, where it takes it", rules.label_smoothing_counts, False),
    ("its diagnostics are numbers", rules.diagnostics_are_numbers, False),
)
_FURTHER: tuple[_Rule, ...] = (
    ("its gradients agree with finite differences", rules.gradients_are_right, False),
    ("a step waits for no device", rules.a_step_waits_for_no_device, True),
)
