"""The epoch loop: reproducible, resumable, and honest about accuracy."""

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.small_trials import CPU, FIXED, LOSS_ARGS, assert_same, resident, run, trainer_of
from trainables.config import TrialConfig
from trainables.data import TrainingData
from trainables.losses import LOSSES
from trainables.training import Trainer, one_cycle

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
each_loss = pytest.mark.parametrize("loss", LOSSES)
pytestmark = pytest.mark.usefixtures("narrow_model", "one_thread")


# --- Schedule and precision ------------------------------------------------------------------------------------------


def test_the_learning_rate_follows_the_schedule_by_steps(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(digits, head_learning_rate_multiplier=3.0, learning_rate=0.2, max_epochs=2)
    rates: list[list[float]] = []
    step = trainer.optimizer.step

    def recorded(*args: Any, **kwargs: Any) -> Any:
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        return step(*args, **kwargs)

    monkeypatch.setattr(trainer.optimizer, "step", recorded)
    results = run(trainer, 2)
    assert trainer.steps_per_epoch == 4
    expected = [one_cycle((i + 0.5) / 8, 0.25) for i in range(8)]
    np.testing.assert_allclose(rates, [[0.2 * e, 0.2 * e, 0.6 * e] for e in expected], rtol=1e-12)
    assert [r["learning_rate"] for r in results] == [pytest.approx(0.2 * one_cycle(p, 0.25)) for p in (0.5, 1.0)]


@each_loss
def test_the_head_computes_in_float32_after_a_bf16_body(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss, precision="bf16")
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    trainer.loss.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    body: list[torch.dtype] = []
    trainer.model.features.register_forward_hook(lambda _, inputs, output: body.append(output.dtype))  # type: ignore[union-attr]
    result = trainer.train_epoch()
    assert set(body) == {torch.bfloat16}
    assert {output for _, output in seen} == {torch.float32}
    assert all(p.dtype == torch.float32 for p in (*trainer.model.parameters(), *trainer.loss.parameters()))
    embeddings = torch.randn(4, 16).bfloat16()
    assert trainer.loss.logits(embeddings).dtype == torch.float32  # type: ignore[operator]
    assert math.isfinite(result["val_loss"])


# --- Seeds -----------------------------------------------------------------------------------------------------------


@each_loss
def test_the_same_seed_gives_the_same_numbers(loss: str, digits: TrainingData) -> None:
    first, again, other = (trainer_of(digits, loss, seed=seed) for seed in (0, 0, 1))
    results = run(first, 2)
    torch.randn(7)  # whatever else draws random numbers has no part in it
    assert run(again, 2) == results
    assert_same(first.state_dict(), again.state_dict())
    assert run(other, 2) != results


@each_loss
def test_the_loss_is_built_for_this_trial(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss, label_smoothing=0.1)
    head: Any = trainer.loss
    assert (head.embedding_dim, head.num_classes, head.label_smoothing) == (16, 10, 0.1)
    assert getattr(head, "steps_per_epoch", 4) == trainer.steps_per_epoch == 4
    assert torch.equal(head.weight, trainer_of(digits, loss, model="resnet9").loss.weight)  # whatever the body drew


def test_an_unknown_loss_is_refused_with_the_known_ones(digits: TrainingData) -> None:
    config = TrialConfig(loss="arcfase", model="narrow", max_epochs=1)
    with pytest.raises(ValueError, match=r"^loss must be one of softmax, .*, got 'arcfase'$"):
        Trainer(config, resident(digits, "train", 10, CPU), None, num_classes=10)


# --- Optimizer -------------------------------------------------------------------------------------------------------


@each_loss
def test_weight_decay_is_for_convolutions_and_linear_layers_of_the_body(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss, weight_decay=0.01, learning_rate=0.2, head_learning_rate_multiplier=3.0)
    decayed, plain, head = trainer.optimizer.param_groups
    layers = [m.weight for m in trainer.model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert {id(p) for p in decayed["params"]} == {id(weight) for weight in layers}
    assert {id(p) for p in head["params"]} == {id(p) for p in trainer.loss.parameters()}
    every = {id(p) for p in (*trainer.model.parameters(), *trainer.loss.parameters())}
    assert {id(p) for group in (decayed, plain, head) for p in group["params"]} == every
    assert [group["weight_decay"] for group in (decayed, plain, head)] == [0.01, 0.0, 0.0]
    assert [group["peak"] for group in (decayed, plain, head)] == [0.2, 0.2, pytest.approx(0.6)]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.0, False)])
def test_momentum_is_nesterovs(momentum: float, nesterov: bool, digits: TrainingData) -> None:
    trainer = trainer_of(digits, momentum=momentum)
    assert all(g["momentum"] == momentum and g["nesterov"] is nesterov for g in trainer.optimizer.param_groups)
    trainer.train_epoch()


# --- Resuming --------------------------------------------------------------------------------------------------------


# Many CPUs only emulate bf16, slowly. The body alone computes in it, so one loss is enough by default.
@pytest.mark.parametrize(
    ("loss", "precision"),
    [
        *((loss, "float32") for loss in LOSSES),
        *(pytest.param(loss, "bf16", marks=() if loss == "adaloss" else pytest.mark.slow) for loss in LOSSES),
    ],
)
def test_an_interrupted_run_equals_a_straight_one(loss: str, precision: str, digits: TrainingData) -> None:
    straight = trainer_of(digits, loss, precision=precision, horizontal_flip=True)
    records = run(straight, 4)

    interrupted = trainer_of(digits, loss, precision=precision, horizontal_flip=True)
    first_half = run(interrupted, 2)
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    resumed = trainer_of(digits, loss, precision=precision, horizontal_flip=True)
    run(resumed, 1)  # what it did before must not shine through
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert_same(resumed.state_dict(), interrupted.state_dict())

    assert first_half + run(resumed, 2) == records
    assert_same(resumed.state_dict(), straight.state_dict())
    if "epochs_seen" in resumed.loss.state_dict():
        assert resumed.loss.state_dict()["epochs_seen"].sum() == pytest.approx(4)
        margins = [[record[key] for key in record if key.startswith("margin_")] for record in records]
        assert margins[0] != margins[-1] or loss == "mr2"  # which has no angle


def test_the_state_holds_all_that_the_rest_depends_on(digits: TrainingData) -> None:
    trainer = trainer_of(digits, "adaloss")
    run(trainer, 1)
    state = trainer.state_dict()
    assert set(state) == {"config", "epoch", "model", "loss", "optimizer", "scaler"}
    assert state["epoch"] == 1
    assert state["config"] == trainer.config.to_dict()
    assert len(state["optimizer"]["state"]) == len([*trainer.model.parameters(), *trainer.loss.parameters()])
    assert all(torch.is_tensor(s["momentum_buffer"]) for s in state["optimizer"]["state"].values())


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 0.05}, {"loss_args": {**FIXED, "scale": 9.0}}])
def test_another_configurations_state_is_refused(changes: dict[str, Any], digits: TrainingData) -> None:
    state = trainer_of(digits).state_dict()
    other = trainer_of(digits, **changes)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match="another configuration"):
        other.load_state_dict(state)
    assert_same(before, other.state_dict())


# --- What an epoch reports -------------------------------------------------------------------------------------------


@each_loss
def test_an_epochs_record(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss)
    results = [trainer.train_epoch() for _ in range(2)]
    assert [r["epoch"] for r in results] == [1, 2]
    for result in results:
        assert 0 <= result["val_accuracy"] <= 1
        assert 0 <= result["train_accuracy"] <= 1
        assert all(result[key] > 0 for key in ("val_loss", "train_loss", "seconds", "images_per_s"))
        assert result["images_per_s"] * result["seconds"] > 4 * 32  # the rate is of training, without evaluation
        assert {"margin_rad", "margin_raw_rad"} <= set(result)
        by_class = torch.as_tensor(trainer.loss.margin_rad).dim() == 1
        assert len(result.get("margin_per_class_rad", [])) == (10 if by_class else 0)


@pytest.mark.parametrize("loss", ["softmax", "arcface", "adaloss_per_class"])
def test_validation_accuracy_is_that_of_margin_free_logits(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(
        digits, loss, count=600, loss_args={**LOSS_ARGS[loss], **({"margin_rad": 0.5} if loss == "arcface" else {})}
    )
    result = run(trainer, 2)[-1]
    images = (digits.validation.images[:100] / 255 - digits.spec.mean) / digits.spec.std
    with torch.no_grad():
        embeddings = (
            trainer.model.eval()(torch.tensor(images, dtype=torch.float32).permute(0, 3, 1, 2)).double().numpy()
        )
    head = {key: value.double().numpy() for key, value in trainer.loss.state_dict().items()}
    if loss == "softmax":
        logits = embeddings @ head["weight"].T + head["bias"]
    else:
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings, head["weight"])]
        logits = 8.0 * unit[0] @ unit[1].T
    labels = digits.validation.labels[:100]
    assert result["val_accuracy"] == pytest.approx((logits.argmax(1) == labels).mean(), abs=1e-6)
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert result["val_loss"] == pytest.approx(-log_softmax[np.arange(100), labels].mean(), rel=1e-4)


def test_training_accuracy_is_taken_before_the_step(digits: TrainingData) -> None:
    trainer = trainer_of(digits, "softmax", count=32, crop_padding=0, warmup_fraction=0.0)
    with torch.no_grad():
        images, labels = next(resident(digits, "train", 32, CPU).batches(32))
        embeddings = copy.deepcopy(trainer.model).train()(images)
        expected = (trainer.loss.logits(embeddings).argmax(1) == labels).float().mean().item()  # type: ignore[operator]
    assert trainer.train_epoch()["train_accuracy"] == pytest.approx(expected)


def test_evaluation_changes_nothing(digits: TrainingData) -> None:
    trainer = trainer_of(digits, "adaloss")
    trainer.train_epoch()
    before = copy.deepcopy(trainer.state_dict())
    trainer._evaluate(trainer._validation)
    assert not trainer.model.training
    assert not trainer.loss.training
    assert_same(before, trainer.state_dict())


@each_loss
def test_a_diverging_trial_reports_nan(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss, learning_rate=1e30)
    results = run(trainer, 2)
    assert math.isnan(results[-1]["val_accuracy"])
    assert math.isnan(results[-1]["train_accuracy"])
    assert [r["epoch"] for r in results] == [1, 2]


def test_an_infinite_loss_ends_the_epoch(digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(digits, "softmax", count=1250, batch_size=8)
    steps: list[int] = []
    forward = trainer.loss.forward

    def broken(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps.append(len(labels))
        return forward(embeddings, labels) * (math.inf if len(steps) > 3 else 1.0)  # type: ignore[no-any-return]

    monkeypatch.setattr(trainer.loss, "forward", broken)
    result = trainer.train_epoch()
    assert len(steps) == 33 < trainer.steps_per_epoch
    assert math.isnan(result["val_accuracy"])
    assert math.isnan(result["val_loss"])


def test_a_batch_larger_than_the_data_is_the_data(digits: TrainingData) -> None:
    trainer = trainer_of(digits, count=40, batch_size=256)
    assert trainer.steps_per_epoch == 1
    assert math.isfinite(trainer.train_epoch()["val_loss"])


@pytest.mark.parametrize("loss", ["softmax", "arcface", "adaloss"])
def test_it_learns_the_digits(loss: str, digits: TrainingData) -> None:
    trainer = trainer_of(digits, loss, count=1250, batch_size=64, embedding_dim=64, max_epochs=4, crop_padding=1)
    results = run(trainer, 4)
    assert results[-1]["val_accuracy"] > 0.95
    assert results[-1]["train_loss"] < results[0]["train_loss"]


# --- On a GPU --------------------------------------------------------------------------------------------------------


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@each_loss
def test_a_gpu_trial_resumes(loss: str, precision: str, digits: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # as in a trial
    device = torch.device("cuda")
    straight = trainer_of(digits, loss, device=device, precision=precision)
    records = run(straight, 3)
    assert math.isfinite(records[-1]["val_loss"])
    interrupted = trainer_of(digits, loss, device=device, precision=precision)
    run(interrupted, 1)
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    resumed = trainer_of(digits, loss, device=device, precision=precision)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, map_location=device, weights_only=True))
    assert_same(resumed.state_dict()["scaler"], interrupted.state_dict()["scaler"])
    assert bool(interrupted.state_dict()["scaler"]) is (precision == "fp16")
    assert run(resumed, 2) == records[1:]


@needs_cuda
def test_a_gpu_sees_the_batches_that_a_cpu_sees(digits: TrainingData) -> None:
    kwargs: dict[str, Any] = {"crop_padding": 2, "horizontal_flip": True, "seed": 0, "epoch": 1}
    on_cpu, on_gpu = (
        list(resident(digits, "train", 100, torch.device(name)).augmented_batches(32, **kwargs))
        for name in ("cpu", "cuda")
    )
    for (images, labels), (gpu_images, gpu_labels) in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(images, gpu_images.cpu())
        assert torch.equal(labels, gpu_labels.cpu())
