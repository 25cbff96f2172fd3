"""What every model in the registry keeps to."""

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.registry import MODELS, build_model, default_model

Shape = tuple[int, int, int]

CASES = [pytest.param(n, s, id=f"{n}-{s[0]}x{s[1]}x{s[2]}") for n, spec in MODELS.items() for s in spec.image_shapes]
each_model = pytest.mark.parametrize(("name", "shape"), CASES)


pytestmark = pytest.mark.usefixtures("one_thread")


def build(name: str, shape: Shape, seed: int = 0, embedding_dim: int = 24) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, shape, embedding_dim).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def images(shape: Shape, count: int = 12) -> Tensor:
    height, width, channels = shape
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, channels, height, width, generator=generator).to(memory_format=torch.channels_last)


@each_model
@pytest.mark.parametrize("embedding_dim", [2, 24])
def test_images_become_embeddings(name: str, shape: Shape, embedding_dim: int) -> None:
    model = build(name, shape, embedding_dim=embedding_dim)
    assert model(images(shape)).shape == (12, embedding_dim)
    assert model.eval()(images(shape, 1)).shape == (1, embedding_dim)  # one image alone, in evaluation


@each_model
def test_embeddings_are_not_confined_to_one_orthant(name: str, shape: Shape) -> None:
    embeddings = build(name, shape)(images(shape))
    share_negative = (embeddings < 0).float().mean(dim=0)  # (D,)
    assert ((share_negative > 0) & (share_negative < 1)).all()
    torch.testing.assert_close(embeddings.mean(dim=0), torch.zeros(24), atol=1e-5, rtol=0)  # ends in a batch norm


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_every_weight(name: str, shape: Shape, dtype: torch.dtype) -> None:
    model = build(name, shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        embeddings = model(images(shape))
    assert embeddings.isfinite().all()
    (embeddings.float() * torch.randn(embeddings.shape)).sum().backward()  # type: ignore[no-untyped-call]
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), label
        assert parameter.grad.any(), label


@each_model
def test_bf16_is_close_to_float32(name: str, shape: Shape) -> None:
    model = build(name, shape)
    exact = model(images(shape))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(images(shape))
    assert nn.functional.cosine_similarity(exact, rounded.float()).min() > 0.99


@each_model
def test_the_seed_decides_the_weights(name: str, shape: Shape) -> None:
    first, again, other = (build(name, shape, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    convolutions = [key for key, value in first.items() if value.ndim == 4]
    assert convolutions
    assert not any(torch.equal(first[key], other[key]) for key in convolutions)


@each_model
def test_the_state_brings_the_outputs_back(name: str, shape: Shape) -> None:
    model, other = build(name, shape, 0), build(name, shape, 1)
    model(images(shape))  # moves the running statistics
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(images(shape)), other.eval()(images(shape)))


@each_model
def test_memory_layout_does_not_change_the_result(name: str, shape: Shape) -> None:
    model = build(name, shape)
    torch.manual_seed(0)
    plain = build_model(name, shape, 24)
    torch.testing.assert_close(model(images(shape)), plain(images(shape).contiguous()), atol=1e-3, rtol=1e-3)


@each_model
def test_several_trials_fit_a_gpu(name: str, shape: Shape) -> None:
    assert 0 < MODELS[name].gpus_per_trial <= 1


@pytest.mark.parametrize(("shape", "name"), [((28, 28, 1), "ArcFaceCNN"), ((32, 32, 3), "ArcFaceCNN_CIFAR10")])
def test_the_default_model_fits_the_images(shape: Shape, name: str) -> None:
    assert default_model(shape) == name


@pytest.mark.parametrize("shape", [(28, 28, 3), (32, 32, 1), (8, 8, 1), (224, 224, 3)])
def test_images_that_no_model_takes_are_refused(shape: Shape) -> None:
    with pytest.raises(UserError, match=rf"{shape[0]}x{shape[1]}x{shape[2]}.*28x28x1, 32x32x3"):
        default_model(shape)
