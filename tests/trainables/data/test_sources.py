"""Layouts on disk: each is found, read alike, and asked for when it is missing."""

import hashlib
import pickle
import socket
import urllib.error
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torchvision.datasets
from PIL import Image

import trainables.data.sources as data_sources
from trainables.data import DATASETS, DataError, load_test_data, load_training_data, resolve_dataset

pytestmark = pytest.mark.usefixtures("small_datasets")

GREY, RGB = (28, 28, 1), (32, 32, 3)


def load(data_dir, name="mnist", **kwargs):
    return load_training_data(name, data_dir, download=False, **kwargs)


def error_of(data_dir, name="mnist") -> str:
    """The one line that loading raises."""
    with pytest.raises(DataError) as error:
        load(data_dir, name)
    message = str(error.value)
    assert "\n" not in message
    return message


def write_cifar_pickles(folder: Path, parts, monkeypatch, labels_key: str = "labels") -> None:
    """CIFAR as torchvision lays it out, with the checksums of these files in the place of the real ones."""
    folder.mkdir(parents=True)
    name = "CIFAR10" if labels_key == "labels" else "CIFAR100"
    for part, (images, labels) in parts.items():
        batches = 2 if part == "train" and name == "CIFAR10" else 1
        listed = []
        for i, rows in enumerate(np.array_split(np.arange(len(labels)), batches)):
            file = part if name == "CIFAR100" else f"data_batch_{i + 1}" if part == "train" else "test_batch"
            flat = images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1)
            (folder / file).write_bytes(pickle.dumps({"data": flat, labels_key: labels[rows].tolist()}))
            listed.append([file, hashlib.md5((folder / file).read_bytes()).hexdigest()])
        monkeypatch.setattr(getattr(torchvision.datasets, name), f"{part}_list", listed)


# --- Layouts that are found ------------------------------------------------------------------------------------------


def test_every_layout_gives_the_same_fingerprint(write, tmp_path):
    parts = write.parts(GREY)
    images, labels = parts["train"]
    order = np.argsort(labels, kind="stable")  # the order in which class folders are read
    parts["train"] = images[order], labels[order]
    write.snapshot(tmp_path / "a" / "mnist", parts)
    write.snapshot(tmp_path / "b" / "mnist" / "data", parts, image="img")
    write.snapshot(tmp_path / "c" / "mnist" / "mnist", parts)
    write.idx(tmp_path / "d" / "mnist", parts)
    write.idx(tmp_path / "e" / "mnist" / "raw", parts, packed=True)
    write.idx(tmp_path / "f" / "MNIST" / "raw", parts)
    write.idx(tmp_path / "dataset-mnist", parts, packed=True)
    for part in parts:
        write.class_folders(tmp_path / "g" / "mnist" / part, *parts[part], "0123456789")
    loaded = [load(tmp_path / place) for place in (*"abcdefg", "dataset-mnist")]
    assert len({data.fingerprint for data in loaded}) == len({data.split_sha256 for data in loaded}) == 1
    kinds = [*["parquet snapshot"] * 3, *["idx"] * 2, "torchvision", "class folders", "idx"]
    assert [data.source for data in loaded] == kinds
    every_image = np.concatenate([loaded[0].train.images, loaded[0].validation.images])
    assert {i.tobytes() for i in every_image} == {i.tobytes() for i in images}
    for place in "adef":
        test = load_test_data("mnist", tmp_path / place)
        np.testing.assert_array_equal(test.images, parts["test"][0])
        np.testing.assert_array_equal(test.labels, parts["test"][1])


def test_torchvision_lays_mnist_out_as_we_read_it(write, tmp_path, monkeypatch):
    parts = write.parts(GREY)
    write.idx(tmp_path / "FashionMNIST" / "raw", parts)
    theirs = torchvision.datasets.FashionMNIST(tmp_path, train=False, download=False)
    ours = load_test_data("fashion_mnist", tmp_path, download=False)
    np.testing.assert_array_equal(ours.images[..., 0], theirs.data.numpy())
    np.testing.assert_array_equal(ours.labels, theirs.targets.numpy())
    assert load(tmp_path, "fashion_mnist").source == "torchvision"


@pytest.mark.parametrize(
    ("name", "folder", "labels_key"),
    [("cifar10", "cifar-10-batches-py", "labels"), ("cifar100", "cifar100/cifar-100-python", "fine_labels")],
)
def test_torchvision_layout_of_cifar(name, folder, labels_key, write, tmp_path, monkeypatch):
    spec = DATASETS[name]
    parts = write.parts(RGB, (spec.train_size, spec.test_size), spec.num_classes)
    write_cifar_pickles(tmp_path / folder, parts, monkeypatch, labels_key)
    write.snapshot(tmp_path / "other" / name, parts, image="img", label=labels_key.removesuffix("s"))
    data, same = load(tmp_path, name), load(tmp_path / "other", name)
    assert (data.source, same.source) == ("torchvision", "parquet snapshot")
    assert data.fingerprint == same.fingerprint
    np.testing.assert_array_equal(load_test_data(name, tmp_path).images, parts["test"][0])
    damaged = tmp_path / folder / ("data_batch_2" if name == "cifar10" else "train")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert f"{damaged} is missing or damaged" in error_of(tmp_path, name)
    damaged.unlink()
    assert f"{damaged} is missing or damaged" in error_of(tmp_path, name)


def test_shards_are_read_in_order(write, tmp_path):
    images, labels = write.parts(GREY)["train"]
    for shard, rows in enumerate(np.array_split(np.arange(60), 3)):
        write.parquet(tmp_path / "a" / "mnist" / f"train-0000{shard}-of-00003.parquet", images[rows], labels[rows])
    write.parquet(tmp_path / "b" / "mnist" / "train-00000-of-00001.parquet", images, labels)
    assert load(tmp_path / "a").fingerprint == load(tmp_path / "b").fingerprint
    (tmp_path / "a" / "mnist" / "train-00001-of-00003.parquet").unlink()
    assert "number 1 is missing" in error_of(tmp_path / "a")


@pytest.mark.parametrize("layout", ["parquet", "idx", "folders", "pickles"])
def test_training_data_is_loaded_without_opening_test_files(layout, write, tmp_path, monkeypatch):
    name = "cifar10" if layout == "pickles" else "mnist"
    parts = write.parts(DATASETS[name].image_shape)
    if layout == "pickles":
        write_cifar_pickles(tmp_path / "cifar-10-batches-py", parts, monkeypatch)
    elif layout == "folders":
        for part in parts:
            write.class_folders(tmp_path / name / part, *parts[part], "0123456789")
    else:
        {"parquet": write.snapshot, "idx": write.idx}[layout](tmp_path / name, parts)
    test_files = [
        p for p in tmp_path.rglob("*") if p.is_file() and ("test" in str(p.relative_to(tmp_path)) or "t10k" in p.name)
    ]
    assert test_files
    for path in test_files:
        path.write_bytes(b"broken")
    load(tmp_path, name)
    with pytest.raises(DataError, match=r"test|t10k"):
        load_test_data(name, tmp_path, download=False)


# --- Folders ---------------------------------------------------------------------------------------------------------


def test_folder_of_classes_without_a_test_part(write, tmp_path):
    images, labels = write.parts((9, 7, 3), (60, 0), classes=3)["train"]
    folder = write.class_folders(tmp_path / "pets", images, labels, ["cat", "dog", "train"])
    (folder / "cat" / "notes.txt").write_text("no image")
    data, other = (load_training_data(str(folder), None, seed=seed) for seed in (0, 1))
    spec = data.spec
    assert (spec.name, spec.image_shape) == ("pets", (9, 7, 3))
    assert (spec.class_names, spec.num_classes) == (("cat", "dog", "train"), 3)
    assert (spec.train_size, spec.test_size) == (50, 10)
    assert resolve_dataset(str(folder)) == spec
    assert data.fingerprint == other.fingerprint
    seen = np.concatenate([data.train.images, data.validation.images])
    np.testing.assert_allclose(spec.mean, seen.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(spec.std, seen.std((0, 1, 2)) / 255)
    test = load_test_data(str(folder), None)
    assert len(test.labels) == 10
    assert not {i.tobytes() for i in test.images} & {i.tobytes() for i in seen}


def test_folder_of_classes_with_a_test_part(write, tmp_path):
    parts = write.parts(GREY, (40, 12), classes=4)
    for part in parts:
        write.class_folders(tmp_path / part, *parts[part], ["0", "1", "2", "3"])
    spec = resolve_dataset(str(tmp_path))
    assert spec.train_size == 40
    assert sorted(load_test_data(str(tmp_path), None).labels) == sorted(parts["test"][1])
    (tmp_path / "test" / "3").rename(tmp_path / "test" / "9")
    with pytest.raises(DataError, match="no class of this name"):
        load_test_data(str(tmp_path), None)


def test_folder_of_parquet_takes_the_class_names_that_it_holds(write, tmp_path):
    images, labels = write.parts((8, 8, 1), (30, 0), classes=3)["train"]
    features = b'{"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}'
    table = write.table(images, labels).replace_schema_metadata({b"huggingface": features})
    pq.write_table(table, tmp_path / "train-0.parquet")
    assert resolve_dataset(str(tmp_path)).class_names == ("a", "b", "c")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "train-0.parquet")
    assert resolve_dataset(str(tmp_path)).class_names == ("0", "1", "2")


def test_folders_that_are_no_data_set(write, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} holds no data set"):
        resolve_dataset(str(tmp_path))
    images, labels = write.parts((8, 8, 1), (30, 0), classes=3)["train"]
    cases = {
        "gap": (labels * 2, "label 1"),
        "huge": (labels * 10**12, "label 1"),
        "one": (labels * 0, "one class"),
        "negative": (labels - 1, "label is -1"),
    }
    for name, (wrong, message) in cases.items():
        write.parquet(tmp_path / name / "train-0.parquet", images, wrong)
        with pytest.raises(DataError, match=message):
            resolve_dataset(str(tmp_path / name))
    write.parquet(tmp_path / "flat" / "train-0.parquet", images * 0, labels)
    with pytest.raises(DataError, match="one value"):
        resolve_dataset(str(tmp_path / "flat"))
    write.snapshot(tmp_path / "two" / "first", {"train": (images, labels)})
    write.snapshot(tmp_path / "two" / "second", {"train": (images, labels)})
    with pytest.raises(DataError, match="first, second"):
        resolve_dataset(str(tmp_path / "two"))


@pytest.mark.parametrize("wrong", ["shape", "mode", "depth", "text", "truncated", "no images"])
def test_wrong_image_in_a_class_folder_is_named(wrong, write, tmp_path):
    images, labels = write.parts((8, 8, 1), (30, 0), classes=3)["train"]
    write.class_folders(tmp_path, images, labels, "abc")
    path = tmp_path / "b" / "zz.png"
    sound = write.png(images[0])
    if wrong == "no images":
        path = tmp_path / "d"
        path.mkdir()
    elif wrong in ("text", "truncated"):
        path.write_bytes({"text": b"no image", "truncated": sound[:-30]}[wrong])
    else:
        image = {"shape": np.zeros((9, 8), np.uint8), "mode": np.zeros((8, 8, 4), np.uint8)}
        Image.fromarray(image.get(wrong, np.zeros((8, 8), np.uint16))).save(path)
    with pytest.raises(DataError) as error:
        resolve_dataset(str(tmp_path))
    assert str(path) in str(error.value)


# --- Missing, unreadable, downloaded ---------------------------------------------------------------------------------


def test_missing_data_names_both_ways_and_digits(tmp_path):
    message = error_of(tmp_path)
    assert all(part in message for part in (str(tmp_path / "mnist"), "download", "digits"))
    (tmp_path / "file").touch()
    assert "is a file" in error_of(tmp_path / "file")


def test_other_data_sets_in_the_folder_are_not_taken(write, tmp_path):
    write.idx(tmp_path / "fashion-mnist", write.parts(GREY))
    write.snapshot(tmp_path, write.parts(GREY))
    assert "mnist is not in" in error_of(tmp_path)
    assert load(tmp_path, "fashion_mnist").source == "idx"


def test_missing_test_files_are_an_error(write, tmp_path):
    write.snapshot(tmp_path / "mnist", {"train": write.parts(GREY)["train"]})
    with pytest.raises(DataError, match="holds no test files of mnist"):
        load_test_data("mnist", tmp_path)
    write.snapshot(tmp_path / "mnist", write.parts(GREY, (60, 19)))
    with pytest.raises(DataError, match="19 test images where 20"):
        load_test_data("mnist", tmp_path)


@pytest.mark.parametrize("layout", ["parquet", "idx", "folder"])
def test_unreadable_files_are_named(layout, write, tmp_path, monkeypatch):
    folder = tmp_path / "mnist"
    {"idx": write.idx}.get(layout, write.snapshot)(folder, write.parts(GREY))
    blocked = folder if layout == "folder" else next(folder.glob("train-*"))

    def deny(real):
        def call(self, *args, **kwargs):
            if Path(self) == blocked:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **kwargs)

        return call

    if layout == "parquet":
        monkeypatch.setattr(pq, "ParquetFile", deny(pq.ParquetFile))
    else:
        name = "iterdir" if layout == "folder" else "open"
        monkeypatch.setattr(Path, name, deny(getattr(Path, name)))
    message = error_of(tmp_path)
    assert f"{blocked} cannot be read: permission denied" in message


def fake_torchvision(monkeypatch, download) -> None:
    def construct(root, train, download):
        assert train
        assert download
        assert socket.getdefaulttimeout() == data_sources._DOWNLOAD_TIMEOUT_S
        run(Path(root))

    run = download
    monkeypatch.setattr(torchvision.datasets, "MNIST", construct)


def test_download_appears_whole(write, tmp_path, monkeypatch):
    data_dir = tmp_path / "new" / "data"
    parts = write.parts(GREY)
    fake_torchvision(monkeypatch, lambda root: write.idx(root / "MNIST" / "raw", parts))
    assert load_training_data("mnist", data_dir).source == "torchvision"
    assert [path.name for path in data_dir.iterdir()] == ["MNIST"]
    (data_dir / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()  # as a download of torchvision's own broke off
    assert load_training_data("mnist", data_dir).source == "torchvision"
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("no route"), RuntimeError("Error\ndownloading"), OSError(30, "Read-only")]
)
def test_failed_download_is_one_clear_line(failure, write, tmp_path, monkeypatch):
    def fail(root):
        write.idx(root / "MNIST" / "raw", write.parts(GREY))
        raise failure

    fake_torchvision(monkeypatch, fail)
    with pytest.raises(DataError, match=f"download failed .*put its files into {tmp_path / 'mnist'} .*digits") as error:
        load_training_data("mnist", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
