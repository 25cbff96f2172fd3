"""What a model says of files: the pixels that training would see, and the model's own logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainables.photo_files import decoded_otherwise, mixed, save, scene
from tests.trainables.untrained import untrained
from trainables.data import DataError, TrainingData, load_test_data, load_training_data
from trainables.predictions import image_files, predict, read_image
from trainables.trained import TrainedModel

pytestmark = pytest.mark.usefixtures("one_thread")
RGB = (32, 32, 3)
NAMES = ["a", "b", "c"]


@pytest.fixture
def of_photos(tmp_path: Path) -> TrainedModel:
    """A model that was trained on photos."""
    path = tmp_path / "photos.pt"
    return untrained(path, "ArcFaceCNN_CIFAR10_w24", RGB, class_names=NAMES, are_photos=True)


@pytest.fixture
def of_small_images(tmp_path: Path) -> TrainedModel:
    """A model that was trained on images of its own size."""
    path = tmp_path / "small.pt"
    return untrained(path, "ArcFaceCNN_CIFAR10_w24", RGB, class_names=NAMES, are_photos=False)


@pytest.fixture
def of_digits(tmp_path: Path) -> TrainedModel:
    return untrained(tmp_path / "digits.pt", "DigitsCNN", (28, 28, 1), classes=10)


def settle(model: TrainedModel, images: torch.Tensor) -> None:
    """Have the embeddings of these images lie around 0, so that not all are of one class."""
    model.body.train()
    for _ in range(20):
        model(images)
    model.eval()


def pixels_of(parts: list[np.ndarray]) -> set[bytes]:
    return {image.tobytes() for part in parts for image in part}


def test_photos_have_the_pixels_that_training_sees_and_nearly_those_of_another_decoder(
    of_photos: TrainedModel, tmp_path: Path
) -> None:
    folder = mixed(tmp_path / "photos", 90)
    data, test = load_training_data(str(folder), None), load_test_data(str(folder), None)
    files = image_files(folder)
    assert len(files) == 90
    read = [read_image(of_photos, file) for file in files]
    assert pixels_of([np.stack(read)]) == pixels_of([data.train.images, data.validation.images, test.images])
    for file, image in zip(files, read, strict=True):
        assert np.abs(image.astype(int) - decoded_otherwise(file)).max() <= 2, file


def test_what_is_said_is_the_softmax_of_the_models_own_logits(of_photos: TrainedModel, tmp_path: Path) -> None:
    files = image_files(mixed(tmp_path / "photos", 40))
    images = torch.from_numpy(np.stack([read_image(of_photos, file) for file in files]))
    settle(of_photos, images)
    said = list(predict(of_photos, files))
    logits = of_photos(images)
    shares = torch.exp(logits.double()) / torch.exp(logits.double()).sum(1, keepdim=True)
    assert [prediction.file for prediction in said] == files
    assert [prediction.label for prediction in said] == logits.argmax(1).tolist()
    assert [prediction.class_name for prediction in said] == [NAMES[label] for label in logits.argmax(1).tolist()]
    expected = shares.gather(1, logits.argmax(1, keepdim=True)).squeeze(1).tolist()
    assert [prediction.probability for prediction in said] == pytest.approx(expected, abs=1e-5)
    assert len({prediction.label for prediction in said}) > 1  # else a constant would do


def test_more_files_than_a_batch_keep_their_order(
    of_photos: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = image_files(mixed(tmp_path / "photos", 20))
    files.insert(7, tmp_path / "missing.png")
    whole = list(predict(of_photos, files))
    monkeypatch.setattr("trainables.predictions._BATCH", 3)
    parts = list(predict(of_photos, files))
    assert [(said.file, said.label, said.error) for said in parts] == [(s.file, s.label, s.error) for s in whole]
    assert [said.file for said in parts if said.error] == [tmp_path / "missing.png"]


def test_small_images_are_taken_as_training_takes_them(
    of_small_images: TrainedModel, of_photos: TrainedModel, tmp_path: Path
) -> None:
    """Training does not turn images that need no scaling, whatever their cameras say."""
    picture = scene(32, 32, 4)
    file = save(picture, tmp_path / "turned.png", turned=6)
    as_it_is = np.asarray(Image.open(file))
    assert (read_image(of_small_images, file) == as_it_is).all()
    assert (read_image(of_photos, file) == np.asarray(picture)).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_a_photo_is_made_small_for_a_model_of_small_images(
    of_small_images: TrainedModel, of_photos: TrainedModel, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "photo.tif"
    scene(80, 50, 2).convert(mode).save(file)
    assert (read_image(of_small_images, file) == read_image(of_photos, file)).all()


def test_grey_images_are_those_of_the_data_set_and_nothing_else(
    of_digits: TrainedModel, digits: TrainingData, tmp_path: Path
) -> None:
    images = digits.validation.images[:5]
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    stray = save(scene(40, 30, 1), tmp_path / "stray.png")
    said = list(predict(of_digits, [*files, stray]))
    assert [prediction.label for prediction in said[:5]] == of_digits(torch.from_numpy(images)).argmax(1).tolist()
    assert [prediction.class_name for prediction in said[:5]] == [str(prediction.label) for prediction in said[:5]]
    assert said[5].label is None
    assert said[5].error is not None
    assert str(stray) in said[5].error
    assert "28x28 pixels of mode L is needed" in said[5].error


def test_what_cannot_be_read_is_named_with_its_reason(of_photos: TrainedModel, tmp_path: Path) -> None:
    whole = save(scene(60, 60, 1), tmp_path / "whole.jpg")
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(whole.read_bytes()[:-300])
    text = tmp_path / "text.png"
    text.write_text("no image")
    wanted = {
        tmp_path / "missing.jpg": "No such file",
        torn: "cannot be decoded",
        text: "no known image format",
        tmp_path: "Is a directory",
    }
    said = list(predict(of_photos, [*wanted, whole]))
    assert said[-1].error is None
    for prediction, (file, reason) in zip(said, wanted.items(), strict=False):
        assert prediction.probability is None
        assert prediction.error is not None
        assert str(file) in prediction.error
        assert reason.lower() in prediction.error.lower()
    with pytest.raises(DataError, match=r"torn\.jpg"):
        read_image(of_photos, torn)


def test_a_model_that_diverged_says_so(of_photos: TrainedModel, tmp_path: Path) -> None:
    of_photos.mean.fill_(float("nan"))
    (said,) = predict(of_photos, [save(scene(60, 60, 1), tmp_path / "a.png")])
    assert said.label is None
    assert "not finite" in str(said.error)


def test_a_folder_is_looked_through_but_for_hidden_files_and_other_kinds(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/x.png", "a/b/y.tif", "notes.txt", ".hidden.png", ".cache/z.png", "a/.thumbs/t.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in image_files(tmp_path)] == [
        "a/b/y.tif",
        "a/x.png",
        "b.JPG",
    ]
    with pytest.raises(DataError, match="cannot be read"):
        image_files(tmp_path / "missing")
