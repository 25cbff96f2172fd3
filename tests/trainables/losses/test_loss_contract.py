"""The contract that every loss is held to before a search: what it refuses, and that it refuses no good one."""

import re
from pathlib import Path

import pytest
import torch

from search_spaces import SEARCH_SPACES
from tests.trainables.own_losses import BROKEN, GOOD, changed
from trainables.errors import UserError
from trainables.loss_code import find_loss
from trainables.losses import LOSSES
from trainables.losses.contract import broken_rule, check_loss
from tune.own_losses import first_arguments, named_losses, space_of


@pytest.fixture
def loss_of(tmp_path):
    """Returns class and first arguments of the loss `Mine` in a text."""

    def load(text):
        (tmp_path / "mine.py").write_text(text)
        code, cls = find_loss(f"{tmp_path}/mine.py:Mine")
        return cls, first_arguments(space_of(code, cls))

    return load


@pytest.mark.parametrize("problem", BROKEN)
def test_a_loss_that_breaks_a_rule_is_refused_in_one_line_that_says_which(problem, tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN[problem])
    before = set(LOSSES), set(SEARCH_SPACES)
    with pytest.raises(UserError) as refused:
        named_losses([f"{tmp_path}/mine.py:Mine"])
    message = str(refused.value)
    assert message.startswith(f"--loss {tmp_path}/mine.py:Mine: ")
    assert problem in message
    assert "\n" not in message
    assert (set(LOSSES), set(SEARCH_SPACES)) == before


@pytest.mark.parametrize("text", [GOOD, GOOD.replace("label_smoothing=0.0):", "**rest):").replace(
    "label_smoothing=label_smoothing", "**rest").replace(", label_smoothing=self.label_smoothing", "")],
    ids=["with smoothing", "without"])  # fmt: skip
def test_a_good_one_breaks_none(text, loss_of):
    cls, points = loss_of(text)
    assert [check for check in check_loss(cls, points, thorough=True) if check.problem] == []


@pytest.mark.parametrize("name", sorted(SEARCH_SPACES))
def test_every_loss_of_this_project_keeps_all_rules_and_follows_all_advice(name):
    checks = list(check_loss(LOSSES[name], first_arguments(SEARCH_SPACES[name]), thorough=True))
    assert [check for check in checks if check.problem] == []
    assert len(checks) > 10


def test_a_wrong_gradient_is_seen_by_the_thorough_check_alone(loss_of):
    text = changed(
        forward="""
def forward(self, embeddings, labels):
    return F.cross_entropy(Doubled.apply(self.logits(embeddings)), labels, label_smoothing=self.label_smoothing)
"""
    )
    text += """

class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient
"""
    cls, points = loss_of(text)
    assert broken_rule(cls, points) is None
    (found,) = [check for check in check_loss(cls, points, thorough=True) if check.problem]
    assert found.problem.startswith("its gradient is not that of its loss")


def test_what_has_a_gpu_waited_for_is_advice_and_refuses_nothing(loss_of):
    cls, points = loss_of(GOOD.replace("margin = self.scale", "margin = labels.max().item() * 0 + self.scale"))
    assert broken_rule(cls, points) is None
    (found,) = [check for check in check_loss(cls, points, thorough=True) if check.problem]
    assert found.is_advice
    assert "waited for" in found.problem


def test_the_checks_leave_torchs_generator_as_it_was(loss_of):
    cls, points = loss_of(GOOD)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert broken_rule(cls, points) is None
    assert torch.equal(torch.rand(3), expected)


def test_the_readmes_example_keeps_all_rules(tmp_path):
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    (text,) = re.findall(r"```python\n(# growing.py\n.*?)```", readme, re.DOTALL)
    (tmp_path / "growing.py").write_text(text)
    code, cls = find_loss(f"{tmp_path}/growing.py:Growing")
    checks = list(check_loss(cls, first_arguments(space_of(code, cls)), thorough=True))
    assert [check for check in checks if check.problem] == []
