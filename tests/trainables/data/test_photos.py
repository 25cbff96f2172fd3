"""A folder of ordinary photos: any size, mode and orientation, against an independent decoding."""

import numpy as np
import pytest
from PIL import Image

from tests.trainables.photo_files import HELD, decoded_otherwise, mixed, save, scene
from trainables.data import DataError, load_test_data, load_training_data
from trainables.data.photos import fitted


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 photos of three classes."""
    return mixed(tmp_path_factory.mktemp("photos"))


def test_pixels_are_those_of_an_independent_decoding(folder):
    data = load_training_data(str(folder), None)
    test = load_test_data(str(folder), None)
    assert data.spec.image_shape == (32, 32, 3)
    assert data.spec.class_names == ("a", "b", "c")
    found = np.concatenate([part.images for part in (data.train, data.validation, test)])
    assert len(found) == 300
    expected = [decoded_otherwise(path) for path in sorted(folder.rglob("*.*g")) if ".cache" not in path.parts]
    nearest = [np.abs(found.astype(int) - image).max(axis=(1, 2, 3)) for image in expected]
    assert all(distances.min() <= 2 for distances in nearest)
    assert len({int(distances.argmin()) for distances in nearest}) == 300


def test_what_was_done_to_them_is_told_and_still_known_when_they_are_read_again(folder):
    first, again = (load_training_data(str(folder), None) for _ in range(2))
    (remark,) = first.remarks
    assert remark.startswith("300 images of ")
    assert "cropped to their middle square and scaled to 32x32, 262 turned upright as their cameras say" in remark
    assert remark.endswith("43 turned into RGB")
    assert (again.remarks, again.fingerprint) == (first.remarks, first.fingerprint)


@pytest.mark.parametrize("turned", HELD)
def test_however_the_camera_was_held_the_picture_is_upright(tmp_path, turned):
    picture = scene(90, 60, 5)
    upright = fitted(picture).astype(int)
    with Image.open(save(picture, tmp_path / "p.png", turned)) as image:
        assert np.abs(fitted(image).astype(int) - upright).max() <= 2
    assert np.abs(fitted(picture.transpose(Image.Transpose.ROTATE_90)).astype(int) - upright).max() > 50


@pytest.mark.parametrize(
    ("mode", "colour", "becomes"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
        ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 51), (204, 204, 204)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("I;16", 257 * 40, (40, 40, 40)),
        ("I", 257 * 40, (40, 40, 40)),
    ],
)
def test_every_mode_becomes_colour(mode, colour, becomes):
    image = Image.new(mode, (50, 40), colour)
    assert np.abs(fitted(image).astype(int) - becomes).max() <= 1


def test_a_palette_with_a_transparent_colour_is_seen_on_white():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    assert (fitted(image) == (90, 80, 70)).all()
    image.info["transparency"] = 1
    assert (fitted(image) == 255).all()


def test_test_images_are_treated_as_those_that_are_trained_on(tmp_path):
    for part in ("train", "test"):
        for number in range(12):
            save(scene(64, 48, number), tmp_path / part / "ab"[number % 2] / f"{part}{number}.png")
    save(scene(32, 32, 3), tmp_path / "test" / "a" / "small.png")
    load_training_data(str(tmp_path), None)
    assert load_test_data(str(tmp_path), None).images.shape == (13, 32, 32, 3)


def test_small_images_are_taken_as_they_are_and_a_stray_one_is_named(tmp_path):
    for number in range(12):
        save(scene(32, 32, number), tmp_path / "ab"[number % 2] / f"{number}.png", turned=1)
    data = load_training_data(str(tmp_path), None)
    assert data.remarks == ()
    exact = [np.asarray(scene(32, 32, number)) for number in range(12)]
    assert all(any((found == image).all() for image in exact) for found in data.train.images)
    stray = save(scene(31, 32, 1), tmp_path / "b" / "stray.png")
    with pytest.raises(DataError, match=f"{stray}: .* all images must have this shape"):
        load_training_data(str(tmp_path), None)


def test_a_broken_photo_is_named(tmp_path):
    for number in range(12):
        path = save(scene(64, 48, number), tmp_path / "ab"[number % 2] / f"{number}.jpg")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=f"{path}: the image cannot be decoded"):
        load_training_data(str(tmp_path), None)


def test_of_a_photo_with_a_preview_the_photo_is_taken(tmp_path):
    for number in range(12):
        place = tmp_path / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        photo, preview = scene(64, 64, number), scene(32, 32, 99)
        photo.save(place / f"{number}.jpg", format="MPO", save_all=True, append_images=[preview], quality=95)
    data = load_training_data(str(tmp_path), None)
    expected = fitted(scene(64, 64, 0)).astype(int)
    found = np.concatenate([data.train.images, load_test_data(str(tmp_path), None).images, data.validation.images])
    assert np.abs(found.astype(int) - expected).max(axis=(1, 2, 3)).min() <= 12  # JPEG loses a little
