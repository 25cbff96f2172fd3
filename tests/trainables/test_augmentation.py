"""Batches of a resident data set against what NumPy makes of each image alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.augmentation import ResidentImages
from trainables.seeds import stream_seed

COUNT, PADDING = 50, 2
CPU = torch.device("cpu")
ONE_EPOCH = {"batch_size": 8, "crop_padding": PADDING, "horizontal_flip": True, "seed": 3, "epoch": 0}

DIGEST = """
import hashlib, numpy as np, torch
from trainables.augmentation import ResidentImages
images = np.arange(50 * 9 * 7 * 3).reshape(50, 9, 7, 3).astype(np.uint8)
data = ResidentImages(images, np.arange(50), (0.0,) * 3, (1 / 255,) * 3, torch.device("cpu"))
digest = hashlib.sha256()
for epoch in range(2):
    for batch, labels in data.augmented_batches(8, crop_padding=2, horizontal_flip=True, seed=3, epoch=epoch):
        digest.update(batch.contiguous().numpy().tobytes() + labels.numpy().tobytes())
print(digest.hexdigest())
from trainables.data import load_training_data
split = load_training_data("digits", None, seed=7, train_size=50)
print(split.fingerprint, split.split_sha256)
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def raw_images(channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 9, 7, channels), np.uint8)


def resident(images: np.ndarray) -> ResidentImages:
    """Labels are positions, so that a batch tells which images it holds; pixels keep their values 0 .. 255."""
    channels = images.shape[-1]
    return ResidentImages(images, np.arange(len(images)), (0.0,) * channels, (1 / 255,) * channels, CPU)


def epoch_of(data: ResidentImages, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    """All batches of an epoch as pixels (N', H, W, C) and positions (N',)."""
    batches = list(data.augmented_batches(**{**ONE_EPOCH, **changes}))  # type: ignore[arg-type]
    pixels = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1)
    return pixels.numpy().round().astype(np.uint8), torch.cat([labels for _, labels in batches]).numpy()


def crops(image: np.ndarray, padding: int) -> np.ndarray:
    """Every crop of the reflected image (H, W, C), by row and column offset: (K, K, H, W, C)."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    steps = range(2 * padding + 1)
    return np.stack([[padded[i : i + height, j : j + width] for j in steps] for i in steps])


def offsets_and_flip(result: np.ndarray, image: np.ndarray, padding: int) -> tuple[int, int, bool]:
    """Find the crop and flip that make `result` of `image`, by trying them all."""
    candidates = crops(image, padding)
    hits = [
        (int(i), int(j), flip)
        for flip in (False, True)
        for i, j in np.argwhere((candidates == (result[:, ::-1] if flip else result)).all(axis=(2, 3, 4)))
    ]
    assert hits, "not a reflected crop of its image"
    assert len(hits) == 1 or padding > 2  # a window centred on a mirror looks the same flipped
    return hits[0]


@pytest.mark.parametrize("padding", [1, 2, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_a_reflected_crop_as_numpy_makes_it(padding: int, channels: int) -> None:
    raw = raw_images(channels)
    pixels, positions = epoch_of(resident(raw), crop_padding=padding)
    found = [offsets_and_flip(p, raw[i], padding) for p, i in zip(pixels, positions, strict=True)]
    rows, cols, flips = map(set, zip(*found, strict=True))
    if padding <= 2:  # enough images for every offset to occur
        assert flips == {False, True}
        assert rows == cols == set(range(2 * padding + 1))


def test_the_draws_are_those_of_the_documented_streams() -> None:
    raw = raw_images()
    epoch = 5
    generator = torch.Generator().manual_seed(stream_seed(3, 1, epoch))
    order = torch.randperm(COUNT, generator=generator)
    rows, cols = torch.randint(0, 2 * PADDING + 1, (2, COUNT), generator=generator)
    start = torch.randint(0, 2, (COUNT,), generator=torch.Generator().manual_seed(stream_seed(3, 2)))
    pixels, positions = epoch_of(resident(raw), epoch=epoch)
    assert positions.tolist() == order[:48].tolist()
    for result, i in zip(pixels, positions, strict=True):
        expected = crops(raw[i], PADDING)[rows[i], cols[i]]
        assert np.array_equal(result, expected[:, ::-1] if (start[i] + epoch) % 2 else expected)


def test_every_image_is_flipped_in_every_other_epoch() -> None:
    raw = raw_images()
    flips = []
    for epoch in range(4):
        pixels, positions = epoch_of(resident(raw), epoch=epoch, batch_size=COUNT)
        by_position = pixels[np.argsort(positions)]
        flips.append([offsets_and_flip(p, image, PADDING)[2] for p, image in zip(by_position, raw, strict=True)])
    assert flips[0] == flips[2] != flips[1] == flips[3]
    assert flips[1] == [not flip for flip in flips[0]]
    assert 10 < sum(flips[0]) < 40  # about half of them begin


@pytest.mark.parametrize(("batch_size", "used"), [(8, 48), (10, 50), (50, 50), (7, 49)])
def test_every_image_comes_at_most_once_an_epoch(batch_size: int, used: int) -> None:
    _, positions = epoch_of(resident(raw_images()), batch_size=batch_size)
    assert len(positions) == len(set(positions.tolist())) == used


def test_the_images_that_are_left_out_change() -> None:
    data = resident(raw_images())
    left_out = [frozenset(range(COUNT)) - set(epoch_of(data, epoch=epoch)[1].tolist()) for epoch in range(3)]
    assert len(set(left_out)) == 3


def test_without_crop_and_flip_images_stay_as_they_are() -> None:
    raw = raw_images()
    pixels, positions = epoch_of(resident(raw), crop_padding=0, horizontal_flip=False)
    assert np.array_equal(pixels, raw[positions])
    assert positions.tolist() == epoch_of(resident(raw))[1].tolist()  # the order does not depend on augmentation


def test_crop_alone_and_flip_alone() -> None:
    raw = raw_images()
    cropped, positions = epoch_of(resident(raw), horizontal_flip=False)
    assert not any(offsets_and_flip(p, raw[i], PADDING)[2] for p, i in zip(cropped, positions, strict=True))
    flipped, positions = epoch_of(resident(raw), crop_padding=0)
    for result, i in zip(flipped, positions, strict=True):
        assert np.array_equal(result, raw[i]) or np.array_equal(result, raw[i][:, ::-1])


@pytest.mark.parametrize("padding", [7, 8])
def test_a_border_wider_than_the_image_is_refused(padding: int) -> None:
    with pytest.raises(ValueError, match=f"crop_padding.*9x7.*{padding}"):
        epoch_of(resident(raw_images()), crop_padding=padding)


def test_seed_and_epoch_decide_everything() -> None:
    data = resident(raw_images())
    pixels, positions = epoch_of(data)
    again = epoch_of(data)
    assert np.array_equal(pixels, again[0])
    assert np.array_equal(positions, again[1])
    for change in ({"seed": 4}, {"epoch": 1}):
        other_pixels, other_positions = epoch_of(data, **change)
        assert not np.array_equal(pixels, other_pixels)
        assert not np.array_equal(positions, other_positions)


def test_other_random_numbers_have_no_part_in_it() -> None:
    data = resident(raw_images())
    torch.manual_seed(0)
    np.random.seed(0)
    first = epoch_of(data)[0]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert np.array_equal(first, epoch_of(data)[0])
    assert torch.equal(state, torch.get_rng_state())


def test_a_fresh_process_gives_the_same_batches_and_the_same_split() -> None:
    root = Path(__file__).parents[2]
    fresh = subprocess.run([sys.executable, "-c", DIGEST], cwd=root, capture_output=True, text=True)
    printed: list[str] = []
    exec(DIGEST, {"print": lambda *words: printed.append(" ".join(words))})
    assert printed == fresh.stdout.splitlines(), fresh.stderr
    assert len(printed) == 2


def test_stream_seeds() -> None:
    keys = [(0,), (0, 0), (0, 1), (0, 2), (0, 1, 0), (0, 1, 1), (1, 1, 0), (2**32, 1), (2**40, 1)]
    seeds = [stream_seed(*key) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [stream_seed(*key) for key in keys]
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_read_only_memory_is_used_in_place_and_never_written(recwarn: pytest.WarningsRecorder) -> None:
    raw, labels = raw_images(), np.arange(COUNT)
    before = raw.copy()
    raw.flags.writeable = labels.flags.writeable = False
    data = ResidentImages(raw, labels, (0.4,) * 3, (0.2,) * 3, CPU)
    assert data.images.data_ptr() == raw.ctypes.data
    assert data.labels.data_ptr() == labels.ctypes.data
    for batches in (data.augmented_batches(**ONE_EPOCH), data.batches(8)):  # type: ignore[arg-type]
        for images, targets in batches:
            images.zero_()
            assert images.data_ptr() != data.images.data_ptr()
            assert targets.dtype == torch.int64
    assert np.array_equal(raw, before)
    assert not [w for w in recwarn if "not writable" in str(w.message)]


@pytest.mark.parametrize("batch_size", [1, 8, 50, 64])
def test_plain_batches_hold_every_image_in_order_and_normalised(batch_size: int) -> None:
    raw = raw_images()
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    data = ResidentImages(raw, np.arange(COUNT)[::-1].copy(), mean, std, CPU)
    batches = list(data.batches(batch_size))
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
    images = torch.cat([images for images, _ in batches])
    expected = ((raw.astype(np.float64) / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(COUNT))[::-1]
    assert len(data) == COUNT


def test_batches_are_channels_last_float32() -> None:
    data = resident(raw_images())
    for images, _ in (next(data.batches(8)), next(data.augmented_batches(**ONE_EPOCH))):  # type: ignore[arg-type]
        assert images.dtype == torch.float32
        assert images.shape == (8, 3, 9, 7)
        assert images.is_contiguous(memory_format=torch.channels_last)
