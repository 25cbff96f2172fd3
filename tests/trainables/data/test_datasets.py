"""The public functions: registry, splits, cache, and the real data where it is there."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainables.data.cache as data_cache
import trainables.data.sources as data_sources
from trainables.data import (
    DATASETS,
    DataError,
    TrainingData,
    default_data_dir,
    load_test_data,
    load_training_data,
    resolve_dataset,
    stratified_choice,
)
from trainables.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
REAL_DATA = Path(os.environ.get("ADALOSS_DATA", ROOT.parent / "shared" / "data"))
GREY = (28, 28, 1)


def assert_equal(first: TrainingData, second: TrainingData) -> None:
    for one, other in ((first.train, second.train), (first.validation, second.validation)):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert (first.fingerprint, first.split_sha256) == (second.fingerprint, second.split_sha256)


# --- Registry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", DATASETS.values(), ids=DATASETS)
def test_registry_entries_are_consistent(spec):
    assert DATASETS[spec.name] is spec
    assert resolve_dataset(spec.name) is spec
    assert len(spec.class_names) == len(set(spec.class_names)) == spec.num_classes
    assert len(spec.mean) == len(spec.std) == spec.image_shape[2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifra10", "did you mean cifar10?"),
        ("Fashion-MNIST", "did you mean fashion_mnist?"),
        ("zzzz", "known are mnist, cifar10, fashion_mnist, cifar100, digits"),
        ("", "unknown data set ''"),
        ("./no/such", "there is no folder ./no/such"),
    ],
)
def test_unknown_data_set_names_the_nearest(name, hint, tmp_path):
    with pytest.raises(DataError) as error:
        load_training_data(name, tmp_path)
    assert hint in str(error.value)
    assert "digits" in str(error.value)
    assert isinstance(error.value, UserError)


def test_data_dir_comes_from_the_environment(write, small_datasets, tmp_path, monkeypatch):
    write.snapshot(tmp_path / "mnist", write.parts(GREY))
    monkeypatch.setenv("ADALOSS_DATA", str(tmp_path))
    assert load_training_data("mnist", None, download=False).source == "parquet snapshot"
    monkeypatch.delenv("ADALOSS_DATA")
    assert default_data_dir() == Path("data")


# --- Digits ----------------------------------------------------------------------------------------------------------


def test_digits_need_no_files(tmp_path):
    data = load_training_data("digits", tmp_path / "absent")
    assert data.train.images.shape == (1_250, *GREY)
    assert data.validation.images.shape == (250, *GREY)
    assert (data.train.images.dtype, data.train.labels.dtype) == (np.uint8, np.int64)
    assert data.train.images.flags.c_contiguous
    assert data.source == "scikit-learn"
    assert data.fingerprint == load_training_data("digits", None, seed=5).fingerprint
    assert data.fingerprint.startswith("924ce509")  # the same on every machine
    assert not list(tmp_path.iterdir())


def test_digits_test_part_is_fixed_and_apart():
    test = load_test_data("digits", None)
    assert test.images.shape == (297, *GREY)
    held_out = {image.tobytes() for image in test.images}
    for seed in (0, 1):
        data = load_training_data("digits", None, seed=seed)
        used = {image.tobytes() for part in (data.train, data.validation) for image in part.images}
        assert len(used) == 1_500
        assert not used & held_out
    assert np.bincount(test.labels).min() >= 28


def test_digits_statistics_and_enlargement():
    data = load_training_data("digits", None)
    images = np.concatenate([data.train.images, data.validation.images])
    assert images.mean() / 255 == pytest.approx(DATASETS["digits"].mean[0], abs=5e-5)
    assert images.std() / 255 == pytest.approx(DATASETS["digits"].std[0], abs=5e-5)
    # Against Pillow's bilinear enlargement of the 8-bit originals, which rounds in between.
    from PIL import Image
    from sklearn.datasets import load_digits

    from trainables.data.readers import read_digits

    small = np.round(load_digits().images[:50] * 255 / 16).astype(np.uint8)
    by_pillow = [np.asarray(Image.fromarray(i).resize((28, 28), Image.Resampling.BILINEAR), int) for i in small]
    assert np.abs(read_digits().images[:50, ..., 0] - np.array(by_pillow)).max() <= 2


# --- Splits ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_stratified_choice_is_exact_and_proportional(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=200)))
    size = data.draw(st.integers(1, len(labels)))
    seed = data.draw(st.integers(0, 2**32))
    chosen = stratified_choice(labels, size, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen.tolist())) == size
    assert (np.diff(chosen) > 0).all()
    for label in np.unique(labels):
        proportional = size * (labels == label).sum() / len(labels)
        assert abs((labels[chosen] == label).sum() - proportional) < 1
    np.testing.assert_array_equal(chosen, stratified_choice(labels, size, np.random.default_rng(seed)))


@pytest.mark.parametrize("train_size", [None, 77])
def test_split_is_disjoint_stratified_and_seeded(train_size):
    first, again, other = (load_training_data("digits", None, train_size=train_size, seed=s) for s in (3, 3, 4))
    assert_equal(first, again)
    assert first.split_sha256 != other.split_sha256
    assert first.fingerprint == other.fingerprint
    train, validation = ({image.tobytes() for image in part.images} for part in (first.train, first.validation))
    assert (len(train), len(validation)) == (train_size or 1_250, 250)
    assert not train & validation
    assert np.ptp(np.bincount(first.validation.labels)) <= 2


def test_train_size_keeps_the_validation_data():
    whole, part = (load_training_data("digits", None, train_size=size, seed=1) for size in (None, 100))
    np.testing.assert_array_equal(whole.validation.images, part.validation.images)
    assert {i.tobytes() for i in part.train.images} < {i.tobytes() for i in whole.train.images}


@pytest.mark.parametrize(
    ("sizes", "limits"),
    [
        ({"validation_size": 0}, "1 to 1,499"),
        ({"validation_size": -1}, "1 to 1,499"),
        ({"validation_size": 1_500}, "1 to 1,499"),
        ({"train_size": 0}, "1 to 1,250"),
        ({"train_size": 1_251}, "1 to 1,250"),
        ({"validation_size": 1_000, "train_size": 501}, "1 to 500"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_impossible_sizes_name_the_limits(sizes, limits):
    with pytest.raises(DataError, match=limits):
        load_training_data("digits", None, **sizes)


# --- Cache -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def snapshot(write, small_datasets, tmp_path) -> Path:
    write.snapshot(tmp_path / "mnist", write.parts(GREY))
    return tmp_path


def load(data_dir: Path, **kwargs) -> TrainingData:
    return load_training_data("mnist", data_dir, download=False, **kwargs)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(data_sources, "read_parquet", fail)


def test_cache_gives_the_same_without_decoding_again(snapshot, monkeypatch):
    fresh = load(snapshot)
    forbid_decoding(monkeypatch)
    assert_equal(fresh, load(snapshot))
    cache = snapshot / "mnist" / ".cache"
    assert sorted(path.name for path in cache.iterdir()) == ["train.images.npy", "train.json", "train.labels.npy"]
    assert json.loads((cache / "train.json").read_text())["content"] == fresh.fingerprint


@pytest.mark.parametrize("name", ["train.images.npy", "train.labels.npy", "train.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "gone", "text"])
def test_damaged_cache_is_rebuilt(snapshot, monkeypatch, name, damage):
    fresh = load(snapshot)
    path = snapshot / "mnist" / ".cache" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
        path.write_bytes({"truncated": content[:-7], "empty": b"", "flipped": flipped, "text": b"[1, 2]"}[damage])
    assert_equal(fresh, load(snapshot))
    assert path.read_bytes() == content
    forbid_decoding(monkeypatch)
    load(snapshot)


def test_changed_source_is_decoded_again(write, snapshot):
    before = load(snapshot)
    write.snapshot(snapshot / "mnist", write.parts(GREY, seed=1))
    after = load(snapshot)
    assert before.fingerprint != after.fingerprint
    os.utime(next((snapshot / "mnist").glob("train*")), ns=(1, 1))  # as a copy has it: same content, other time
    assert load(snapshot).fingerprint == after.fingerprint


def test_cache_of_another_registry_entry_is_not_trusted(snapshot, monkeypatch):
    load(snapshot)
    monkeypatch.setitem(DATASETS, "mnist", dataclasses.replace(DATASETS["mnist"], num_classes=5))
    with pytest.raises(DataError, match="label"):
        load(snapshot)


def test_read_only_data_goes_to_the_users_cache(snapshot, own_cache_folder, monkeypatch):
    (snapshot / "mnist").chmod(0o555)
    fresh = load(snapshot)
    assert not (snapshot / "mnist" / ".cache").exists()
    assert len(list((own_cache_folder / "adaloss-search").glob("mnist-*/train.*"))) == 3
    forbid_decoding(monkeypatch)
    assert_equal(fresh, load(snapshot))


def test_two_data_folders_of_one_name_do_not_share_a_cache(write, small_datasets, tmp_path):
    fingerprints = set()
    for seed in (0, 1):
        write.snapshot(tmp_path / str(seed) / "mnist", write.parts(GREY, seed=seed))
        fingerprints.add(load(tmp_path / str(seed), cache_dir=tmp_path / "cache").fingerprint)
    assert len(fingerprints) == 2
    assert not (tmp_path / "0" / "mnist" / ".cache").exists()


def test_no_place_for_a_cache_is_no_error(snapshot, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_cache.np, "save", full)
    assert_equal(load(snapshot), load(snapshot))
    assert not list((snapshot / "mnist" / ".cache").iterdir())


def test_abandoned_temporary_files_are_removed(snapshot):
    cache = snapshot / "mnist" / ".cache"
    cache.mkdir()
    for name, age in (("old.tmp", 0), ("new.tmp", None)):
        (cache / name).touch()
        if age is not None:
            os.utime(cache / name, (age, age))
    load(snapshot)
    assert not (cache / "old.tmp").exists()
    assert (cache / "new.tmp").exists()


def test_two_processes_may_decode_at_once(write, tmp_path):
    folder = write.snapshot(tmp_path / "mine", write.parts(GREY, (600, 20)))
    code = (
        "import sys; from trainables.data import load_training_data as load; sys.stdin.read(1);"
        "print(load(sys.argv[1], None).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    printed = {process.communicate("go", timeout=300)[0].strip() for process in processes}
    assert printed == {load_training_data(str(folder), None).fingerprint}
    assert not list((folder / ".cache").glob("*.tmp"))


# --- The real data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_real_data(name, tmp_path):
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"the real {name} is not in {REAL_DATA}; set ADALOSS_DATA to its data folder")
    spec = DATASETS[name]
    data = load_training_data(name, REAL_DATA, cache_dir=tmp_path, download=False)
    assert data.validation.images.shape == (5_000, *spec.image_shape)
    assert data.train.images.shape == (spec.train_size - 5_000, *spec.image_shape)
    counts = np.bincount(data.train.labels) + np.bincount(data.validation.labels)
    assert np.ptp(np.bincount(data.validation.labels) / 5_000 - counts / spec.train_size) < 2 / 5_000
    if name == "cifar10":
        assert (counts == 5_000).all()
    else:
        assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    images = np.concatenate([data.train.images, data.validation.images])
    for channel in range(images.shape[-1]):
        histogram = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = np.average(np.arange(256) / 255, weights=histogram)
        std = np.average((np.arange(256) / 255 - mean) ** 2, weights=histogram) ** 0.5
        assert (mean, std) == pytest.approx((spec.mean[channel], spec.std[channel]), abs=6e-5)
    assert load_test_data(name, REAL_DATA, cache_dir=tmp_path, download=False).images.shape[0] == spec.test_size
