"""Losses that are not part of this project: found where ``--loss`` says, kept on record, made known on every node.

A reference is ``FILE.py:CLASS``, ``package.module:CLASS``, ``pml:CLASS`` of pytorch-metric-learning, or the name of an
entry point in the group ``adaloss.losses`` of an installed package. torch is imported when a class is loaded.
"""

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import linecache
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.losses import ClassifierLoss

__all__ = [
    "ENTRY_POINTS",
    "LossCode",
    "find_loss",
    "is_entry_point",
    "is_reference",
    "load_loss",
    "must_be_named",
    "register_losses",
]

ENTRY_POINTS = "adaloss.losses"
FILE, PACKAGE, ENTRY_POINT, PML = "file", "package", "entry point", "pml"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True)
class LossCode:
    """A loss that is not part of this project.

    Args:
        name: by which a run knows it: that of its search space, else its class's.
        reference: what ``--loss`` said.
        kind: "file", "package", "entry point" or "pml".
        sha256: of the file that defines the class.
        package: the installed package that it belongs to, with its version; None for a file.
        source: text of that file; None where it was not looked at, and for pytorch-metric-learning.
    """

    name: str
    reference: str
    kind: str
    sha256: str
    package: str | None = None
    source: str | None = field(default=None, repr=False, compare=False)

    @property
    def must_be_named(self) -> bool:
        """Whether a user has to name it each time: what only a run's record names is not run.

        An installed package that says of itself that it has losses was put there by the user.
        """
        return must_be_named(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a record, without the source."""
        return {
            "name": self.name,
            "reference": self.reference,
            "kind": self.kind,
            "sha256": self.sha256,
            "package": self.package,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LossCode":
        """Build from a record.

        Raises:
            UserError: it is not one of this version.
        """
        unfit = UserError("what is on record of own_losses was edited, or written by another version")
        if not isinstance(values, Mapping) or set(values) != {"name", "reference", "kind", "sha256", "package"}:
            raise unfit
        texts = {name: value for name, value in values.items() if name != "package" or value is not None}
        if not all(isinstance(value, str) for value in texts.values()) or not _NAME.fullmatch(values["name"]):
            raise unfit
        if values["kind"] != _parts(values["reference"])[0]:
            raise unfit  # a file that calls itself installed would be run without being named
        return cls(**values)


def is_reference(text: str) -> bool:
    """Return whether a loss is named by the place of its code."""
    return ":" in text


def must_be_named(reference: str) -> bool:
    """Return whether a reference is to code that nobody has installed as a loss."""
    return is_reference(reference) and _parts(reference)[0] in {FILE, PACKAGE}


def is_entry_point(name: str) -> bool:
    """Return whether an installed package offers a loss of this name."""
    return bool(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name))


def find_loss(reference: str) -> "tuple[LossCode, type[ClassifierLoss]]":
    """Return the code and the class that a reference leads to; its module is run.

    Raises:
        UserError: there is no such code, it breaks, or it is no loss.
    """
    kind, place, class_name = _parts(reference)
    code = LossCode(class_name, reference, kind, "")
    if kind == FILE:
        code = _of_file(code, place, class_name)
        module = _module_of(code)
    elif kind == PML:
        return _of_library(code, class_name)
    else:
        module = _imported(reference, place)
        code = _of_package(code, module, class_name)
    cls = _class_in(module, class_name, reference)
    return replace(code, name=_name_of(code, cls)), cls


def load_loss(code: LossCode) -> "type[ClassifierLoss]":
    """Return the class of a loss in this process, on whatever node that is.

    Raises:
        UserError: this node has other code than the one that the run was started with.
    """
    if code.kind == FILE:
        return _class_in(_module_of(code), _parts(code.reference)[2], code.reference)
    found, cls = find_loss(code.reference)
    if found != code:
        raise UserError(
            f"--loss {code.reference}: {found.package or 'its code'} is not the same as where the run was started "
            f"({code.package}); install the same everywhere"
        )
    return cls


_registered: dict[str, LossCode] = {}


def register_losses(codes: Iterable[LossCode]) -> None:
    """Have LOSSES of this process know losses by their names.

    Raises:
        UserError: a name is one of this project's, or a class cannot be loaded.
    """
    for code in codes:
        from trainables.losses import LOSSES

        if code.name in LOSSES and _registered.get(code.name) == code:
            continue
        if code.name in LOSSES and code.name not in _registered:
            raise UserError(
                f"--loss {code.reference}: there is a loss {code.name} in this project; give yours another name, by "
                'its search_space = SearchSpace("NAME", ...) or by that of its class'
            )
        LOSSES[code.name] = load_loss(code)
        _registered[code.name] = code


# --- Where the code is -----------------------------------------------------------------------------------------------


def _parts(reference: str) -> tuple[str, str, str]:
    """Return kind, place and class of a reference."""
    place, colon, name = reference.rpartition(":")
    if not colon:
        (entry,) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=reference) or (None,)
        if entry is None:
            raise UserError(f"--loss {reference}: no installed package has an entry point of this name")
        module, _, name = entry.value.partition(":")
        return ENTRY_POINT, module, name
    if not name.isidentifier() or not place:
        raise UserError(f"--loss {reference}: must be FILE.py:CLASS, package.module:CLASS or pml:CLASS")
    if place.endswith(".py"):
        return FILE, place, name
    if place == PML:
        return PML, place, name
    if not all(part.isidentifier() for part in place.split(".")):
        raise UserError(f"--loss {reference}: {place} is neither a file that ends in .py nor the name of a module")
    return PACKAGE, place, name


def _of_file(code: LossCode, place: str, class_name: str) -> LossCode:
    try:
        content = Path(place).expanduser().read_bytes()
        text = importlib.util.decode_source(content)
    except (UnicodeDecodeError, SyntaxError):
        raise UserError(f"--loss {code.reference}: {place} is no text") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--loss {code.reference}: {place} cannot be read: {reason}") from None
    try:
        compile(text, place, "exec")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"--loss {code.reference}: {_said(error, place)}") from None
    if not re.search(rf"\b{class_name}\b", text):  # before torch is loaded
        classes = re.findall(r"^class (\w+)", text, re.MULTILINE)
        raise UserError(f"--loss {code.reference}: {place} has no class {class_name}{_near(class_name, classes)}")
    return replace(code, sha256=hashlib.sha256(content).hexdigest(), source=text)


def _of_package(code: LossCode, module: ModuleType, class_name: str) -> LossCode:
    """Return the code with the digest of the file that defines the class, and the package's version."""
    cls = _class_in(module, class_name, code.reference)
    path = inspect.getsourcefile(cls)
    if path is None:
        raise UserError(f"--loss {code.reference}: {class_name} has no source that could go on record")
    content = Path(path).read_bytes()
    package = _distribution_of(cls.__module__)
    return replace(code, sha256=hashlib.sha256(content).hexdigest(), package=package, source=content.decode())


def _of_library(code: LossCode, class_name: str) -> "tuple[LossCode, type[ClassifierLoss]]":
    from trainables.losses.pml import pml_file, pml_loss

    cls = pml_loss(class_name)
    content = pml_file(class_name).read_bytes()
    package = _distribution_of("pytorch_metric_learning")
    found = replace(code, sha256=hashlib.sha256(content).hexdigest(), package=package)
    return replace(found, name=_name_of(found, cls)), cls


def _distribution_of(module: str) -> str:
    """Return the installed package that a module belongs to, with its version, or the module's own top package."""
    top = module.partition(".")[0]
    if distributions := importlib.metadata.packages_distributions().get(top):
        return f"{distributions[0]} {importlib.metadata.version(distributions[0])}"
    return top


# --- Running it ------------------------------------------------------------------------------------------------------


def _module_of(code: LossCode) -> ModuleType:
    """Run a file's text as a module of its own, once a process."""
    assert code.source is not None, "the text goes with the code to every node"
    name = f"adaloss_loss_{code.sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    path = code.reference.rpartition(":")[0]
    module.__file__ = path
    # Tracebacks show its lines also where the file is not.
    linecache.cache[path] = (len(code.source), None, code.source.splitlines(keepends=True), path)
    sys.modules[name] = module
    try:
        exec(compile(code.source, path, "exec"), module.__dict__)  # noqa: S102  the user asks for this very file
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserError(f"--loss {code.reference}: {_said(error, path)}{_hint(error)}") from None
    return module


def _imported(reference: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  whatever a stranger's module does
        raise UserError(f"--loss {reference}: {name} cannot be imported: {_said(error, '')}") from None


def _said(error: BaseException, path: str) -> str:
    """Return an error in one line, with the last line of the file that took part."""
    lines = [frame.lineno for frame in inspect.getinnerframes(error.__traceback__) if frame.filename == path] if (
        error.__traceback__
    ) else []  # fmt: skip
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"line {line}: " if path and line else ""
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())[:200]
    return f"{where}{type(error).__name__}{f': {message}' if message else ''}"


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "; a file goes to the nodes alone: what it imports must be installed there"
    return ""


def _class_in(module: ModuleType, name: str, reference: str) -> "type[ClassifierLoss]":
    from trainables.losses import ClassifierLoss

    cls = getattr(module, name, None)
    if cls is None:
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UserError(f"--loss {reference}: there is no class {name}{_near(name, classes)}")
    if not (isinstance(cls, type) and issubclass(cls, ClassifierLoss)):
        raise UserError(
            f"--loss {reference}: {name} must be a class that inherits from trainables.losses.ClassifierLoss"
        )
    if missing := sorted(cls.__abstractmethods__):
        raise UserError(
            f"--loss {reference}: {name} has no {' and no '.join(missing)}; see ClassifierLoss for what it does"
        )
    return cls


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _name_of(code: LossCode, cls: "type[ClassifierLoss]") -> str:
    if code.kind == ENTRY_POINT:
        name = code.reference
    elif code.kind == PML:
        name = f"pml_{code.name}"
    else:
        name = getattr(getattr(cls, "search_space", None), "loss", None) or cls.__name__
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"--loss {code.reference}: a loss's name must be at most 40 letters, digits and '_', and begin with a "
            f"letter, got {name!r}"
        )
    return name
