import math

import pytest
import torch


def looped_objective(embeddings, weight, bias, labels, label_smoothing):
    """Mean cross-entropy, one sample and one class at a time."""
    total = 0.0
    num_classes = len(weight)
    for embedding, label in zip(embeddings, labels, strict=True):
        logits = [
            sum(w * x for w, x in zip(row, embedding, strict=True)) + b for row, b in zip(weight, bias, strict=True)
        ]
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        for j, logit in enumerate(logits):
            target = (1.0 - label_smoothing) * (j == label) + label_smoothing / num_classes
            total -= target * (logit - log_sum)
    return total / len(labels)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5), (torch.float16, 1e-5)],
)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_agrees_with_a_loop(make_loss, batch, dtype, tolerance, label_smoothing):
    loss = make_loss("softmax", label_smoothing=label_smoothing)
    embeddings, labels = batch(dtype=dtype)
    expected = looped_objective(
        embeddings.tolist(), loss.weight.tolist(), loss.bias.tolist(), labels.tolist(), label_smoothing
    )
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=tolerance)


def test_starts_as_a_linear_layer_does(make_loss):
    loss = make_loss("softmax", embedding_dim=64, num_classes=50)
    torch.manual_seed(0)  # as make_loss does
    linear = torch.nn.Linear(64, 50)
    torch.testing.assert_close(loss.weight, linear.weight)
    torch.testing.assert_close(loss.bias, linear.bias)


def test_has_no_margin(make_loss):
    assert make_loss("softmax").margin_rad == 0.0
    assert make_loss("softmax").diagnostics() == {"margin_rad": 0.0, "margin_raw_rad": 0.0}


@pytest.mark.parametrize("argument", ["scale", "margin_rad"])
def test_takes_no_angular_arguments(make_loss, argument):
    with pytest.raises(TypeError, match=argument):
        make_loss("softmax", **{argument: 0.5})
