"""Losses of a user's own, as ``--loss`` names them: checked, and known under their names from then on."""

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.trial import FixedTrial

from search_spaces import SEARCH_SPACES, SearchSpace
from search_spaces.check import fault_in
from search_spaces.pml import PML_SPACES
from trainables.errors import UserError
from trainables.loss_code import LossCode, find_loss, is_entry_point, is_reference, register_losses
from tune.records.roles import CONTROLS_OF, ROLES
from tune.records.schema import loss_file
from tune.settings import SearchSettings, check_losses

if TYPE_CHECKING:
    from trainables.losses import ClassifierLoss

__all__ = ["first_arguments", "named_losses", "space_of", "subject_of", "with_known_code"]

_NOT_A_LOSS = frozenset(
    {*ROLES, *(control for controls in CONTROLS_OF.values() for control in controls), "all", "none"}
)


def named_losses(losses: Iterable[str]) -> tuple[tuple[str, ...], tuple[LossCode, ...]]:
    """Return the names of losses, and the code of those that are not part of this project, which are now known here.

    Args:
        losses: as ``--loss`` gives them; one that is nowhere to be found keeps its name, whoever checks names says so.

    Raises:
        UserError: code cannot be found or run, does not keep the contract of losses, or shares its name with another.
    """
    names: list[str] = []
    codes: list[LossCode] = []
    for given in losses:
        if not is_reference(given) and (given in SEARCH_SPACES or not is_entry_point(given)):
            names.append(given)
            continue
        code = _known(given)
        if code.name in names:
            raise UserError(
                f"--loss {given}: there are two losses called {code.name}; give one of them another name, by its "
                'search_space = SearchSpace("NAME", ...)'
            )
        names.append(code.name)
        codes.append(code)
    return tuple(names), tuple(codes)


def subject_of(given: str) -> "tuple[str, type[ClassifierLoss], SearchSpace]":
    """Return name, class and search space of a loss as ``--loss`` gives it, whatever contract it keeps.

    Raises:
        UserError: there is no such loss.
    """
    if is_reference(given) or (given not in SEARCH_SPACES and is_entry_point(given)):
        code, cls = find_loss(given)
        return code.name, cls, space_of(code, cls)
    check_losses([given])
    from trainables.losses import LOSSES

    return given, LOSSES[given], SEARCH_SPACES[given]


def with_known_code(
    recorded: SearchSettings, given: Mapping[str, Any], needed: Collection[str] | None = None
) -> tuple[SearchSettings, dict[str, Any]]:
    """Return the settings of a run whose own losses are known here, and what was given but for what names their code.

    A run's folder is data, whoever it is from: of the code that it names nothing is run that the user does not name.
    What an installed package offers as a loss is known by that.

    Args:
        recorded: of a run that exists.
        given: options that the user gave, by field; ``losses`` as ``--loss`` gives them.
        needed: names of the losses that will be used; None for all.

    Raises:
        UserError: the code of a loss is not named, or not what the run was started with.
    """
    names, codes = named_losses(given.get("losses", ()))
    found = {code.name: code for code in codes}
    known = []
    for own in recorded.own_losses:
        if needed is not None and own.name not in needed:
            continue
        if own.must_be_named and own.name not in found:
            raise UserError(
                f"the loss {own.name} of this run is code of its user's own, which runs only where you name it: add "
                f"--loss {own.reference}"
            )
        code = found[own.name] if own.name in found else _known(own.reference)
        if code.sha256 != own.sha256:
            raise UserError(
                f"--loss {code.reference}: the code of {own.name} is not what the run was started with, which is kept "
                f"in {recorded.folder / loss_file(own.name)}; name that, or start a new run"
            )
        known.append(code)
    values = {**given, "losses": names}
    if set(names) <= {own.name for own in recorded.own_losses}:
        del values["losses"]
    return replace(recorded, own_losses=tuple(known)), values


def _known(reference: str) -> LossCode:
    """Return the code of a loss that keeps the contract, and has a search space under its name."""
    code, cls = find_loss(reference)
    from trainables.losses.contract import broken_rule  # torch, which that class is made of, is there by now

    taken = {name.lower(): name for name in (*SEARCH_SPACES, *_NOT_A_LOSS)}
    other = taken.get(code.name.lower(), code.name)
    if other != code.name or other in _NOT_A_LOSS:
        raise UserError(
            f"--loss {reference}: the name {code.name} would be taken for {other}; give the loss another one, by its "
            'search_space = SearchSpace("NAME", ...)'
        )
    space = space_of(code, cls)
    if problem := broken_rule(cls, first_arguments(space)):
        raise UserError(f"--loss {reference}: {problem}")
    register_losses([code])
    SEARCH_SPACES[code.name] = space
    return code


def space_of(code: LossCode, cls: "type[ClassifierLoss]") -> SearchSpace:
    """Return the search space of a loss: that of its class, of the shared parameters those that the class takes.

    A class without one has the shared parameters alone.

    Raises:
        UserError: what the class declares is no search space, or not a sound one.
    """
    declared: Any = getattr(cls, "search_space", None) or PML_SPACES.get(code.name, SearchSpace(code.name))
    if not isinstance(declared, SearchSpace):
        raise UserError(
            f"--loss {code.reference}: search_space must be a SearchSpace, got {type(declared).__name__}; such as "
            'SearchSpace("my_loss", own=(SCALE, Parameter("margin", FloatDistribution(0.0, 0.5))))'
        )
    if "label_smoothing" not in inspect.signature(cls).parameters:
        declared = replace(declared, shared=tuple(p for p in declared.shared if p.name != "label_smoothing"))
    space: SearchSpace = replace(declared, loss=code.name)
    if fault := fault_in(space):
        raise UserError(f"--loss {code.reference}: in its search space {fault}")
    return space


def first_arguments(space: SearchSpace) -> list[dict[str, Any]]:
    """Return what the first trials of a loss give it."""
    drawn = [space.suggest(FixedTrial(point)) for point in space.first_points]  # type: ignore[arg-type]
    return [config["loss_args"] for config in drawn]
