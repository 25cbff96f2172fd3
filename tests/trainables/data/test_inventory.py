"""What is loaded, left out and said of a folder adds up to what is there, whatever is there."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainables.data import DataError, load_test_data, load_training_data
from trainables.data.inventory import Repeats, repeats_of

CLASSES = ("cat", "dog", "Ünï cödé", "7")
READ = (".png", ".PNG", ".bmp", ".tif")
NOT_READ = (".gif", ".txt", "", ".png.part", ".json")
STRAY = ("notes.txt", ".DS_Store", "more/deeper/a.png", "val/cat/a.png", ".hidden/b.png", "a.png", "train/c.png")


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(value).integers(0, 256, (6, 5), np.uint8)).save(path)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, str | int]:
    """The files of a folder: the number of an image, or a text."""
    names = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    tops = draw(st.sampled_from([("",), ("train",), ("train", "test")]))
    numbers = st.integers(0, 40)  # so few that some come twice
    files: dict[str, str | int] = {}
    for top in tops:
        for name in names:
            place = f"{top}/{name}" if top else name
            for index in range(draw(st.integers(3, 6))):
                files[f"{place}/{index}{draw(st.sampled_from(READ))}"] = draw(numbers)
            for index in range(draw(st.integers(0, 2))):
                files[f"{place}/other{index}{draw(st.sampled_from(NOT_READ))}"] = "x"
            if draw(st.booleans()):
                files[f"{place}/inside/a.png"] = draw(numbers)
    for stray in draw(st.lists(st.sampled_from(STRAY), unique=True, max_size=4)):
        is_class = tops == ("",) and "/" in stray and not stray.startswith(".")  # a folder there is a class
        if not is_class and not (tops == ("",) and stray.startswith("train")):
            files.setdefault(stray, draw(numbers) if stray.endswith(".png") else "x")
    return files


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees(), breaks=st.booleans(), data=st.data())
def test_all_that_is_there_is_loaded_or_said_to_be_left_out(tree, breaks, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    for name, content in tree.items():
        if isinstance(content, int):
            write_image(folder / name, content)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    parts = {part for part in ("train", "test") if any(name.startswith(f"{part}/") for name in tree)}
    read = {name for name in tree if is_read(name, parts)}
    place = {"dataset": str(folder), "data_dir": None, "cache_dir": folder / ".cache"}
    if breaks:
        broken = folder / data.draw(st.sampled_from(sorted(name for name in read if not name.startswith("test/"))))
        broken.write_bytes(broken.read_bytes()[:20])
        with pytest.raises(DataError, match=re.escape(str(broken))):
            load_training_data(**place)
        return

    loaded, test = load_training_data(**place), load_test_data(**place)
    left_out = [path for files in loaded.left_out for path in files.paths]
    assert sorted(left_out) == sorted(set(tree) - read)
    assert len(loaded.train.labels) + len(loaded.validation.labels) + len(test.labels) == len(read)
    said = " ".join(loaded.remarks)
    assert sum(map(int, re.findall(r"left out of the data: (\d+) file", said))) == len(left_out)
    assert all(files.paths[0] in said for files in loaded.left_out)

    searched = [image.tobytes() for part in (loaded.train, loaded.validation) for image in part.images]
    tested = [] if "test" in parts else [image.tobytes() for image in test.images]  # files that a search does not open
    copies = sum(count - 1 for count in Counter(searched + tested).values())
    assert (loaded.repeats.images if loaded.repeats else 0) == copies
    assert (loaded.repeats.test if loaded.repeats else 0) == sum(image in set(searched) for image in tested)
    assert ("the data repeats itself" in said) == (copies > 0)


def is_read(name: str, parts: set[str]) -> bool:
    """Whether a file is an image where images are looked for: below a class, which is below a part or the folder."""
    places = name.split("/")
    if parts and places[0] not in parts:
        return False
    is_in_class = len(places) == (3 if parts else 2)
    return is_in_class and not name.startswith(".") and name.lower().endswith(tuple(map(str.lower, READ)))


def test_copies_are_counted_by_what_is_wrong_with_them():
    images = np.array([1, 2, 1, 1, 3, 2, 3, 9], np.uint8)[:, None, None, None]
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    parts = [np.array([0, 1, 4]), np.array([2, 7]), np.array([3, 5, 6])]
    assert repeats_of(images, labels, parts) == Repeats(images=4, contradictions=1, validation=1, test=3)
    assert repeats_of(images[[0, 1, 4, 7]], labels[[0, 1, 4, 7]], [np.arange(4), np.arange(0), np.arange(0)]) is None


def test_what_is_left_out_is_named_by_its_reason(tmp_path):
    for name in ("cat", "dog"):
        for index in range(4):
            write_image(tmp_path / "train" / name / f"{index}.png", index + 10 * (name == "dog"))
    for name in ("val/cat/0.png", "val/dog/0.png", "train/0.png"):
        write_image(tmp_path / name, 99)
    (tmp_path / "train" / "cat" / "a.gif").write_text("x")
    (tmp_path / "LICENSE").write_text("x")
    (tmp_path / "train" / ".DS_Store").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    loaded = load_training_data(str(tmp_path), None, cache_dir=tmp_path / ".cache")
    assert loaded.remarks == (
        "left out of the data: 3 files in folders that are not read, such as train/0.png",
        "left out of the data: 3 files of other kinds (no suffix, .gif), such as LICENSE",
        "left out of the data: 1 file with a hidden name, such as train/.DS_Store",
    )


def test_a_class_folder_behind_a_link_is_read_and_not_left_out(tmp_path):
    for index in range(4):
        write_image(tmp_path / "elsewhere" / f"{index}.png", index)
        write_image(tmp_path / "data" / "a" / f"{index}.png", 10 + index)
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "notes.txt").write_text("x")
    loaded = load_training_data(str(tmp_path / "data"), None, cache_dir=tmp_path / "cache")
    assert loaded.spec.class_names == ("a", "b")
    assert [files.paths for files in loaded.left_out] == [("b/notes.txt",)]


def test_a_folder_that_may_not_be_looked_into_is_left_out_and_ends_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        for index in range(4):
            write_image(tmp_path / "train" / name / f"{index}.png", index + 10 * (name == "b"))
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def as_somebody_else(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", as_somebody_else)  # root may look into every folder
    loaded = load_training_data(str(tmp_path), None, cache_dir=tmp_path / ".cache")
    assert [files.paths for files in loaded.left_out] == [("lost+found",)]


def test_a_folder_of_parquet_files_tells_what_else_is_there(write, tmp_path):
    parts = write.parts((6, 5, 1))
    write.snapshot(tmp_path / "data", parts)
    write.parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", *parts["test"])
    loaded = load_training_data(str(tmp_path), None, cache_dir=tmp_path / ".cache")
    assert [files.paths for files in loaded.left_out] == [("data/validation-00000-of-00001.parquet",)]
    assert "beside those that are read" in loaded.remarks[0]


def test_of_a_known_data_set_nothing_is_remarked():
    assert load_training_data("digits", None).remarks == ()


def test_classes_that_a_small_part_has_no_image_of_are_told():
    loaded = load_training_data("digits", None, train_size=4)
    (remark,) = loaded.remarks
    missing = [str(label) for label in range(10) if label not in loaded.train.labels]
    assert remark == f"6 of the 10 classes ({', '.join(missing[:5])}, ...) have no image to train on"


def test_a_file_of_several_images_is_refused(tmp_path):
    for index in range(4):
        write_image(tmp_path / "a" / f"{index}.png", index)
        write_image(tmp_path / "b" / f"{index}.png", 10 + index)
    frames = [Image.fromarray(np.full((6, 5), value, np.uint8)) for value in (1, 2)]
    frames[0].save(tmp_path / "b" / "two.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"two\.tif: the file holds 2 images; keep the one that is meant"):
        load_training_data(str(tmp_path), None, cache_dir=tmp_path / ".cache")
