"""The work that the benchmark of widths counts, against multiplications counted by hand."""

import pytest
import torch

from benchmarks import widths
from benchmarks.widths import points, table
from trainables.data import load_training_data
from trainables.models import ArcFaceCNN
from trainables.registry import MODELS

WIDTH, BATCH, DIM, CLASSES = 4, 64, 128, 10
FIRST_LAYER = 9 * 28 * 28 * WIDTH


def multiplications():
    """Of one image forward: three convolutions of 3x3 with pooling, the embedding, the cosines."""
    others = 9 * (14 * 14 * WIDTH * 2 * WIDTH + 7 * 7 * 2 * WIDTH * 4 * WIDTH)
    return FIRST_LAYER + others + 3 * 3 * 4 * WIDTH * DIM + DIM * CLASSES


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(widths, "BATCH_SIZE", BATCH)
    monkeypatch.setattr(widths, "CNNS", {"digits": ArcFaceCNN})
    monkeypatch.setattr(widths, "SHAPES", {"digits": ((28, 28, 1),)})
    data = load_training_data("digits", None, train_size=320)
    known = set(MODELS)
    yield data, list(points(data, [WIDTH], [1, 2], 1, torch.device("cpu")))
    for name in set(MODELS) - known:
        del MODELS[name]


def test_work_is_that_of_all_layers_forward_and_backward(found):
    """Backward is twice forward, but that nobody asks for the gradient of the images."""
    data, (one, two) = found
    trained = 320 // BATCH * BATCH * (3 * multiplications() - FIRST_LAYER)
    assert one.pflop == pytest.approx(2 * (trained + len(data.validation.labels) * multiplications()) / 1e15)
    assert two.pflop == pytest.approx(2 * one.pflop)
    assert [(point.width, point.epochs, point.dataset) for point in (one, two)] == [(4, 1, "digits"), (4, 2, "digits")]


def test_the_table_has_a_row_a_width_and_length(found):
    _, runs = found
    rows = table(runs).splitlines()
    assert len(rows) == 4
    assert rows[2].startswith("| 1 | 4 | ")
    assert f"{100 * runs[0].val_accuracy:.2f} %" in rows[2]
