"""A loss of one's own: its file, its search space and its line in LOSSES, and all that a search leaves knows it."""

import difflib
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.compare import comparison, comparison_csv, comparison_markdown
from analysis.findings import load_findings
from analysis.plots.style import GREY
from tests.analysis.figures import colours_of, figures_of_live, figures_of_page

pytestmark = pytest.mark.cluster

PROJECT = Path(__file__).resolve().parents[1]
PARTS = ("tune", "trainables", "search_spaces", "analysis", "tests", "pyproject.toml")
NAME = "cosface_like"
LOSS_FILE, SPACE_FILE = f"trainables/losses/{NAME}.py", f"search_spaces/{NAME}.py"
REGISTRY = "trainables/losses/__init__.py"

LOSS = '''"""A fixed margin on the cosine."""

from torch import Tensor

from trainables.losses.margin_softmax import MarginSoftmaxLoss


class CosFaceLikeLoss(MarginSoftmaxLoss):
    """L = -log softmax(z)_y,  z_y = s (cos(theta_y) - m),  z_j = s cos(theta_j) for j != y."""

    def __init__(
        self, embedding_dim: int, num_classes: int, *, scale: float, margin: float, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(embedding_dim, num_classes, scale=scale, label_smoothing=label_smoothing)
        self.margin = margin

    def _margin_of_samples_rad(self, labels: Tensor) -> Tensor | None:
        return None

    def _with_margin(self, cosine: Tensor, directions_: Tensor, class_directions: Tensor, labels: Tensor) -> Tensor:
        target = labels.unsqueeze(1)
        return cosine.scatter(1, target, cosine.gather(1, target) - self.margin)
'''
SPACE = f'''from optuna.distributions import FloatDistribution

from search_spaces.common import SCALE, Parameter, SearchSpace

COSFACE_LIKE = SearchSpace(
    "{NAME}",
    own=(SCALE, Parameter("margin", FloatDistribution(0.0, 0.4))),
    own_points=({{"scale": 8.0, "margin": 0.1}}, {{"scale": 16.0, "margin": 0.05}}),
)
'''
BUDGET = (
    "--dataset", "digits", "--loss", "arcface", "--loss", NAME, "--trials", 2, "--max-epochs", 1, "--grace-epochs", 1,
    "--batch-size", 64, "--train-size", 320, "--max-concurrent", 1, "--candidates", 1, "--candidate-seeds", 2,
    "--confirm-seeds", 2, "--robustness", 1,
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the loss added as CONTRIBUTING says."""
    root = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (PROJECT / part).is_dir():
            shutil.copytree(PROJECT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / part, root / part)
    (root / LOSS_FILE).write_text(LOSS)
    (root / SPACE_FILE).write_text(SPACE)
    text = (root / REGISTRY).read_text()
    text = text.replace("\n\nLOSSES:", f"\nfrom trainables.losses.{NAME} import CosFaceLikeLoss\n\nLOSSES:")
    text = text.replace("\n}\n", f'\n    "{NAME}": CosFaceLikeLoss,\n}}\n')
    (root / REGISTRY).write_text(text)
    return root


def program(project, *arguments):
    """Run a program of the copy as a user there does."""
    environment = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "ADALOSS_DATA", "PYTHONPATH"}}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def folder(project):
    done = program(project, "tune/run_search.py", "--name", "run", *BUDGET)
    assert done.returncode == 0, done.stderr
    assert f"{NAME} - ArcFace = " in done.stdout
    return project / "results" / "run"


@pytest.fixture(scope="module")
def found(folder):
    return load_findings([folder])


def test_it_takes_two_files_and_its_line_in_the_registry_with_its_import(project):
    new, changed = [], []
    for path in sorted(path for part in PARTS for path in [project / part, *(project / part).rglob("*")]):
        mine, name = PROJECT / path.relative_to(project), path.relative_to(project).as_posix()
        if path.is_file() and "__pycache__" not in path.parts:
            if not mine.exists():
                new.append(name)
            elif not filecmp.cmp(path, mine, shallow=False):
                changed.append(name)
    assert new == [SPACE_FILE, LOSS_FILE]
    assert changed == [REGISTRY]
    before, after = ((root / REGISTRY).read_text().splitlines() for root in (PROJECT, project))
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert lines == [f"+ from trainables.losses.{NAME} import CosFaceLikeLoss", f'+     "{NAME}": CosFaceLikeLoss,']


def test_the_contract_tests_take_it_up_by_themselves(project):
    done = program(
        project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"{NAME} or every_loss or cases_are_all",
        "tests/trainables/losses/test_contract.py", "tests/search_spaces", "tests/trainables/test_pairing.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40


def test_it_has_a_verdict(found, project):
    (verdict,) = found[0].verdicts
    assert (verdict.kind, verdict.first, verdict.second) == ("primary", NAME, "arcface")
    assert verdict.result.n == 2
    done = program(project, "analysis/compare.py", "results/run")
    assert (done.returncode, done.stderr) == (0, "")
    assert verdict.sentence in " ".join(done.stdout.partition("Verdict on digits")[2].split())
    for heading in ("Test accuracy", "Robustness to tuning", "Budget"):
        section = done.stdout.partition(f"{heading}\n---")[2].partition("\n---")[0]
        assert re.search(rf"^{NAME} ", section, re.MULTILINE), heading


def test_its_speed_and_its_draws_are_compared(found):
    assert {(lead.first, lead.second) for lead in found[0].speed.leads} == {(NAME, "arcface")}
    assert {(d.first, d.second) for d in found[0].robustness.differences} == {(NAME, "arcface")}


def test_it_is_in_json_markdown_and_csv(found):
    (entry,) = json.loads(json.dumps(comparison(found)))
    assert [(v["kind"], v["first"]) for v in entry["confirmation"]["verdicts"]] == [("primary", NAME)]
    assert f"- {found[0].verdicts[0].sentence}" in comparison_markdown(found).replace("\\", "")
    assert f",primary verdict,{NAME} - arcface,result.mean," in comparison_csv(found)


def test_it_is_drawn_in_a_colour_of_its_own_on_both_pages(folder):
    pages = [figures_of_page((folder / "report.html").read_text()), figures_of_live(folder)]
    colours = {}
    for figures in pages:
        assert ("curves", "curves-digits-cosface-like") in figures
        assert ("confusion", "confusion-digits-cosface-like") in figures
        for name in (NAME, "ArcFace"):
            by_page = colours_of(figures, name)
            assert set(by_page) >= {"curves", "search", "paired", "robustness"}
            colours.setdefault(name, set()).update(set().union(*by_page.values()))
    assert [len(found) for found in colours.values()] == [1, 1]
    assert colours[NAME].isdisjoint(colours["ArcFace"] | {GREY})
