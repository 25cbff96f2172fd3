"""Broken parquet and IDX files: each error is one line that names the file, and the row where there is one."""

import gzip
import re
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainables.data import DataError, load_training_data

pytestmark = pytest.mark.usefixtures("small_datasets")

GREY, RGB = (28, 28, 1), (32, 32, 3)


def error_of(data_dir) -> str:
    """The one line that loading raises."""
    with pytest.raises(DataError) as error:
        load_training_data("mnist", data_dir, download=False)
    message = str(error.value)
    assert "\n" not in message
    return message


# --- Broken parquet --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "no whole parquet file"),
        ("empty", "no whole parquet file"),
        ("middle", "train-00000-of-00001.parquet"),
        ("no image column", "no column image or img (columns: picture, label)"),
        ("no label column", "no column label or fine_label"),
        ("image is text", "column image is string"),
        ("label is text", "column label holds string"),
        ("label is a fraction", "column label holds double"),
        ("label too large", "row 37: the label is 10 where 0 to 9"),
        ("label negative", "row 37: the label is -1 where 0 to 9"),
        ("label null", "row 37: the label is missing"),
        ("image null", "row 37: there are no image bytes"),
        ("image damaged", "row 37: the image cannot be decoded"),
        ("image is text bytes", "row 37: the image cannot be decoded (no known image format)"),
        ("image of another shape", "row 37: the image has 32x32 pixels of mode RGB where 28x28 pixels of mode L"),
        ("too few rows", "holds 59 train images where 60 are expected"),
        ("a class is missing", "label 9"),
        ("no rows", "holds no rows"),
    ],
)
def test_broken_parquet_is_named(damage, message, write, tmp_path):
    images, labels = (list(part) for part in write.parts(GREY)["train"])
    path = tmp_path / "mnist" / "train-00000-of-00001.parquet"
    kwargs = {}
    sound = write.png(images[37])
    new_label = {"label too large": 10, "label negative": -1, "label null": None}
    labels[37] = new_label.get(damage, labels[37])
    new_image = {
        "image null": None,
        "image damaged": sound[: len(sound) // 2],
        "image is text bytes": b"no image at all",
        "image of another shape": np.zeros(RGB, np.uint8),
    }
    images[37] = new_image.get(damage, images[37])
    if damage == "no image column":
        kwargs["image"] = "picture"
    elif damage == "no label column":
        kwargs["label"] = "target"
    elif damage == "label is text":
        labels, kwargs["label_type"] = list(map(str, labels)), pa.string()
    elif damage == "label is a fraction":
        kwargs["label_type"] = pa.float64()
    elif damage == "a class is missing":
        labels = [min(label, 8) for label in labels]
    rows = {"too few rows": 59, "no rows": 0}.get(damage, 60)
    write.parquet(path, images[:rows], labels[:rows], **kwargs)
    if damage == "image is text":
        pq.write_table(pa.table({"image": ["x"] * 60, "label": labels}), path)
    content = path.read_bytes()
    if damage in ("truncated", "empty"):
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    elif damage == "middle":
        path.write_bytes(content[:2_000] + bytes(200) + content[2_200:])
    error = error_of(tmp_path)
    assert message in error
    assert str(path.parent) in error


# --- Broken IDX ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("images-idx3", lambda c: c[:-1], "its header says|fit its size"),
        ("images-idx3", lambda c: c[:9], "truncated in its header"),
        ("images-idx3", lambda c: b"", "truncated in its header"),
        ("images-idx3", lambda c: c + b"x", "longer than its header says"),
        ("images-idx3", lambda c: b"\0\0\x0d\3" + c[4:], "no IDX file"),
        ("images-idx3", lambda c: c[:4] + struct.pack(">I", 2**31) + c[8:], "does not fit its size"),
        ("images-idx3", lambda c: c[:8] + struct.pack(">II", 14, 56) + c[16:], "14x56x1 where 28x28x1"),
        ("labels-idx1", lambda c: c[:-1] + b"\x0a", "row 59: the label is 10"),
        ("labels-idx1", lambda c: c[:4] + struct.pack(">I", 59) + c[8:-1], "59 labels for the 60 images"),
    ],
)
def test_broken_idx_is_named(packed, file, change, message, write, tmp_path):
    folder = write.idx(tmp_path / "mnist", write.parts(GREY))
    path = folder / f"train-{file}-ubyte"
    content = change(path.read_bytes())
    path.unlink()
    if packed:
        path = path.with_name(f"{path.name}.gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    error = error_of(tmp_path)
    assert re.search(message, error)
    assert str(path) in error


@pytest.mark.parametrize("change", [lambda c: c[: len(c) // 2], lambda c: c[:-3], lambda c: b"no gzip", lambda c: b""])
def test_broken_gzip_is_named(change, write, tmp_path):
    path = write.idx(tmp_path / "mnist", write.parts(GREY), packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    assert str(path) in error_of(tmp_path)


def test_half_an_idx_pair_is_named(write, tmp_path):
    folder = write.idx(tmp_path / "mnist", write.parts(GREY))
    (folder / "train-labels-idx1-ubyte").unlink()
    assert "lacks train-labels-idx1-ubyte" in error_of(tmp_path)
