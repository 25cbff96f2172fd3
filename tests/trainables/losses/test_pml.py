"""Losses of pytorch-metric-learning through the adaptor: those of the library, to the last digit."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.pml import PML_SPACES
from trainables.errors import UserError
from trainables.losses.pml import _CLASSIFYING, PMLSoftmaxLoss, pml_loss
from tune.own_losses import first_arguments

pml = pytest.importorskip("pytorch_metric_learning.losses")

DIM, CLASSES = 6, 5
each = pytest.mark.parametrize("name", _CLASSIFYING)


def both(name, dtype=torch.float32, **changes):
    """Return ours and the library's own, with the same weights."""
    arguments = {**first_arguments(PML_SPACES[f"pml_{name}"])[1], **changes}
    torch.manual_seed(3)
    ours = pml_loss(name)(embedding_dim=DIM, num_classes=CLASSES, **arguments)
    torch.manual_seed(3)
    library = getattr(pml, name)(num_classes=CLASSES, embedding_size=DIM, **arguments)
    return ours.to(dtype), library.to(dtype)


def batch(dtype=torch.float32, seed=1, size=16):
    generator = torch.Generator().manual_seed(seed)
    embeddings = 3.0 * torch.randn(size, DIM, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype).requires_grad_(), torch.randint(CLASSES, (size,), generator=generator)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 40))
def test_loss_gradients_and_logits_are_those_of_the_library(name, dtype, seed, size):
    ours, library = both(name, dtype)
    embeddings, labels = batch(dtype, seed, size)
    same = embeddings.detach().clone().requires_grad_()
    loss, expected = ours(embeddings, labels), library(same, labels)
    assert torch.equal(loss, expected)
    loss.backward()
    expected.backward()
    assert torch.equal(embeddings.grad, same.grad)
    for mine, theirs in zip(ours.parameters(), library.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    sign = -1 if name == "ProxyNCALoss" else 1
    assert torch.equal(ours.logits(embeddings), sign * library.get_logits(same))


@each
def test_logits_classify_what_the_loss_has_learnt(name):
    """The sign of a logit is the adaptor's to know: what is nearest is what is most likely."""
    ours, _ = both(name)
    labels = torch.arange(CLASSES).repeat(20)
    generator = torch.Generator().manual_seed(0)
    centres = 2.0 * torch.eye(CLASSES, DIM)
    embeddings = centres[labels] + 0.1 * torch.randn(len(labels), DIM, generator=generator)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        ours(embeddings, labels).backward()
        optimizer.step()
    assert (ours.logits(embeddings).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("name", [name for name, cls in _CLASSIFYING.items() if cls is PMLSoftmaxLoss])
def test_label_smoothing_is_that_of_its_cross_entropy(name):
    arguments = first_arguments(PML_SPACES[f"pml_{name}"])[0]
    embeddings, labels = batch()
    torch.manual_seed(3)
    smooth = pml_loss(name)(DIM, CLASSES, label_smoothing=0.2, **arguments)
    found = []
    smooth.inner.cross_entropy.register_forward_hook(lambda module, given, result: found.append((given, result)))
    loss = smooth(embeddings, labels)
    ((logits, targets), each_loss) = found[0]
    assert torch.allclose(each_loss, F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.2))
    assert torch.allclose(loss, each_loss.mean())
    with pytest.raises(ValueError, match="label_smoothing must be"):
        pml_loss(name)(DIM, CLASSES, label_smoothing=1.0, **arguments)


@each
def test_what_is_less_than_float32_is_raised(name):
    ours, _ = both(name)
    embeddings, labels = batch(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(embeddings, labels).dtype == torch.float32
        assert ours.logits(embeddings).dtype == torch.float32
    assert torch.equal(ours(embeddings, labels), ours(embeddings.float(), labels))


@each
def test_a_copy_goes_on_alike(name):
    ours, _ = both(name)
    assert torch.equal(copy.deepcopy(ours)(*batch()), ours(*batch()))


def test_a_loss_that_compares_embeddings_with_each_other_is_refused():
    with pytest.raises(UserError, match=r"^--loss pml:TripletMarginLoss: it compares embeddings with each other"):
        pml_loss("TripletMarginLoss")
    with pytest.raises(UserError, match=r"^--loss pml:NoSuchLoss: pytorch-metric-learning has no loss of this name"):
        pml_loss("NoSuchLoss")


def test_every_loss_that_classifies_has_a_space_and_no_other():
    assert set(PML_SPACES) == {f"pml_{name}" for name in _CLASSIFYING}
    assert set(_CLASSIFYING) >= {name for name in dir(pml) if hasattr(getattr(pml, name), "get_logits")}


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(UserError, match='needs pytorch-metric-learning: pip install "pytorch-metric-learning'):
        pml_loss("ArcFaceLoss")
