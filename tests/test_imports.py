"""Which module may import which: no circle, one direction, and one module for what Ray does not call an interface."""

import ast
import graphlib
import importlib
import importlib.metadata
import pkgutil
import re
import sys
from pathlib import Path

import pytest

from tests.test_project import PACKAGES, PROJECT, PYPROJECT, SOURCES, name_of

PRIVATE_RAY = "tune.cluster.private_ray"

# What each part may import of the project, beside itself; a name stands for all below it. From the bottom to the top.
ARROWS = {
    "search_spaces": set(),
    "trainables": set(),
    "tune.records": set(),
    "tune.study": set(),
    "tune.interruption": set(),
    "tune.full_disk": set(),
    "tune.budgets": set(),
    "tune.console": {"tune.full_disk", "tune.records", "trainables.errors"},
    "tune.storage.url": {"trainables.errors"},
    "tune.settings": {"search_spaces", "trainables", "tune.records", "tune.storage.url"},
    "tune.run_config": {"trainables.errors", "tune.records"},
    "tune.asked": {
        *(
            "trainables.errors",
            "trainables.loss_code",
            "tune.again",
            "tune.budgets",
            "tune.invocation",
            "tune.own_losses",
            "tune.records",
        ),
        *("tune.run_config", "tune.settings", "tune.storage.url"),
    },
    "tune.provenance": {"trainables", "tune.storage.url"},
    "tune.storage": {
        *("trainables", "tune.interruption", "tune.records", "tune.settings", "tune.storage.url", "tune.study"),
    },
    "tune.own_losses": {"search_spaces", "trainables", "tune.records", "tune.settings"},
    "tune.again": {"search_spaces", "trainables.errors", "tune.own_losses", "tune.records", "tune.settings"},
    "tune.trials": {"search_spaces", "trainables", "tune.settings"},
    "tune.cluster": {"trainables", "tune.settings", "tune.storage", "tune.trials"},
    "tune.run_file": {
        *("search_spaces", "trainables", "tune.cluster", "tune.provenance", "tune.records", "tune.run_config"),
        "tune.settings",
    },
    "tune.session": {
        *("trainables", "tune.budgets", "tune.cluster", "tune.interruption", "tune.opening", "tune.run_file"),
        *("tune.settings", "tune.storage", "tune.trials"),
    },
    "tune.execution": {
        *("trainables", "tune.cluster", "tune.full_disk", "tune.interruption", "tune.opening", "tune.records"),
        "tune.session",
        *("tune.storage", "tune.study"),
    },
    "tune.loggers": {"search_spaces", "trainables", "tune.records", "tune.storage.url"},
    "tune.search": {
        *("search_spaces", "tune.execution", "tune.records", "tune.run_file", "tune.session", "tune.settings"),
        *("tune.storage", "tune.study", "tune.trials"),
    },
    "tune.confirmation": {
        *("search_spaces", "trainables", "tune.execution", "tune.records", "tune.run_file", "tune.session"),
        *("tune.settings", "tune.storage", "tune.study", "tune.trials"),
    },
    "tune.run": {
        *("tune.confirmation", "tune.console", "tune.execution", "tune.opening", "tune.search", "tune.session"),
        *("tune.settings", "tune.storage"),
    },
    "tune.plan": {
        *("trainables", "tune.cluster", "tune.confirmation", "tune.execution", "tune.search", "tune.session"),
        *("tune.settings", "tune.trials"),
    },
    "analysis": {"tune.records", "tune.console", "tune.storage.url"},  # it reads files; neither Ray nor torch
    "tune.report": {
        *("analysis", "trainables.errors", "tune.console", "tune.invocation", "tune.loggers", "tune.opening"),
        *("tune.records", "tune.settings"),
    },
    "tune.invocation": set(),
    "tune.opening": set(),
    "tune.cli": {"trainables.errors", "tune.console", "tune.invocation"},  # the commands themselves when called
    "tune.weights": {"trainables.errors", "tune.records"},
    "tune.check_loss": {"trainables", "tune.console", "tune.own_losses"},
    "tune.predict": {"trainables", "tune.console", "tune.weights"},
    "tune.export": {"trainables", "tune.console", "tune.weights"},
    "tune.api": {"analysis", "trainables.errors", "tune"},
    "tune.run_search": {"tune"},
    "tune.confirm": {"tune"},
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES if name_of(path).partition("/")[0] in PACKAGES}


class Imports(ast.NodeVisitor):
    """All that a source imports, wherever in it, as (module, name) with None for a whole module; not what is for types.

    Relative imports begin with a dot.
    """

    def __init__(self, source: str) -> None:
        self.found: set[tuple[str, str | None]] = set()
        self.visit(ast.parse(source))

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {(alias.name, None) for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found |= {("." * node.level + (node.module or ""), alias.name) for alias in node.names}


def modules_in(source: str) -> set[str]:
    """The modules that a source imports, `from package import module` as the module."""
    found = Imports(source).found
    return {f"{module}.{name}" if f"{module}.{name}" in MODULES else module for module, name in found}


IMPORTED = {module: modules_in(path.read_text()) for module, path in MODULES.items()}


def part_of(module: str, parts: dict[str, set[str]]) -> str:
    """The longest of the parts that a module is, or lies below."""
    return max((part for part in parts if is_within(module, {part})), key=len, default="")


def is_within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


def offences(imported: dict[str, set[str]], arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports among the project's modules that no arrow allows."""
    found = []
    for module, others in imported.items():
        part = part_of(module, arrows)
        for other in others & imported.keys():
            within = part_of(other, arrows) == part
            if not part or not (within or is_within(other, arrows[part])):
                found.append((module, other))
    return sorted(found)


def circle_in(imported: dict[str, set[str]]) -> list[str]:
    graph = {module: (others & imported.keys()) - {module} for module, others in imported.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_imports_are_found_wherever_they_are_but_not_those_for_types():
    source = (
        "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\n    from . import j\n"
        "from tune import settings\nif TYPE_CHECKING:\n    import k\nelse:\n    import l\n"
    )
    assert modules_in(source) == {"a.b", "d", "g.h", ".", "tune.settings", "l"}


def test_a_circle_and_a_wrong_arrow_would_be_seen():
    imported = {"a": {"b", "re"}, "b": {"c.d"}, "c.d": {"a"}, "c.e": {"c.d"}}
    assert circle_in(imported) == ["a", "c.d", "b", "a"] or set(circle_in(imported)) == {"a", "b", "c.d"}
    assert circle_in(imported | {"c.d": set()}) == []
    arrows = {"a": {"b"}, "b": set(), "c": {"a"}}
    assert offences(imported, arrows) == [("b", "c.d")]
    assert offences(imported, arrows | {"b": {"c"}}) == []


def test_no_module_imports_itself_by_way_of_others():
    assert len(IMPORTED) > 100
    assert circle_in(IMPORTED) == []


def test_every_part_imports_what_lies_below_it_alone():
    without_packages = {module for module in IMPORTED if "." in module or module in ARROWS}
    assert {module for module in without_packages if not part_of(module, ARROWS)} == set()
    assert offences({module: IMPORTED[module] for module in without_packages}, ARROWS) == []


def test_every_arrow_is_in_use():
    """A rule that nobody needs any more would let something new in."""
    used: dict[str, set[str]] = {part: set() for part in ARROWS}
    for module, others in IMPORTED.items():
        part = part_of(module, ARROWS)
        if part:
            used[part] |= {allowed for allowed in ARROWS[part] for other in others if is_within(other, {allowed})}
    assert {part: allowed - used[part] for part, allowed in ARROWS.items() if allowed - used[part]} == {}


@pytest.mark.parametrize("part", ["analysis", "search_spaces", "tune.records"])
def test_what_reads_records_or_describes_spaces_needs_neither_ray_nor_torch(part):
    names = {name for module in IMPORTED if is_within(module, {part}) for name in IMPORTED[module]}
    assert not {name for name in names if is_within(name, {"ray", "torch", "torchvision"})}


# --- Ray -------------------------------------------------------------------------------------------------------------


def names_of_ray() -> list[tuple[str, str, str | None]]:
    found = [
        (module, source, name)
        for module, path in MODULES.items()
        for source, name in Imports(path.read_text()).found
        if is_within(source, {"ray"})
    ]
    return sorted(found, key=str)


def is_interface(source: str, name: str | None) -> bool:
    """Whether Ray itself says that a name is for others: it marks classes and functions as public or for developers."""
    if any(part.startswith("_") for part in source.split(".")):
        return False
    module = importlib.import_module(source)
    if name is None or name in {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))}:
        return not str(name).startswith("_")  # a module
    value = getattr(module, name)
    return getattr(value, "_annotated_type", None) is not None


def test_only_one_module_imports_what_ray_does_not_call_an_interface():
    found = [(module, source, name) for module, source, name in names_of_ray() if not is_interface(source, name)]
    assert {module for module, _, _ in found} == {PRIVATE_RAY}


def test_that_module_says_of_each_what_it_is_for():
    text = importlib.import_module(PRIVATE_RAY).__doc__
    private = {(source, name) for module, source, name in names_of_ray() if module == PRIVATE_RAY}
    assert len(private) >= 4
    for source, name in private:
        assert source in text or f"{source}.{name}" in text, (source, name)


def test_the_key_that_asks_ray_for_a_checkpoint_is_the_one_that_ray_looks_for():
    from ray.tune.result import SHOULD_CHECKPOINT

    from trainables import trainable

    assert trainable.SHOULD_CHECKPOINT == SHOULD_CHECKPOINT


# --- Other packages --------------------------------------------------------------------------------------------------


OPTIONAL = {  # of an extra, and said where it is missing
    "trainables.exported": {"onnx", "onnxscript", "onnxruntime"},
    "trainables.losses.pml": {"pytorch_metric_learning"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package):
    """Modules that a search needs but pyproject does not name would be missing on another machine."""
    declared = {re.match(r"[\w-]+", item)[0].lower() for item in PYPROJECT["project"]["dependencies"]}
    distributions = importlib.metadata.packages_distributions()

    def is_allowed(name: str) -> bool:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in PACKAGES:
            return True
        return bool({distribution.lower() for distribution in distributions.get(top, [])} & declared)

    modules = [module for module in IMPORTED if is_within(module, {package})]
    names = {name for module in modules for name in IMPORTED[module] - OPTIONAL.get(module, set())}
    assert names
    assert {name for name in names if not is_allowed(name)} == set()
