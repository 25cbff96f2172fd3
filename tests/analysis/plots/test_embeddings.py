"""Numbers in the pictures of angles and confusions against the records that they come from."""

import math

import numpy as np

from analysis.loading import load_run
from tests.analysis.plots.pictures import axis_number, confirmed, pictures_of


def test_angle_histograms_are_shares_of_all_seeds_together(example_run):
    folder = example_run()
    picture = pictures_of(folder, "embeddings")["angles-cifar10-adaloss"]
    runs = confirmed(folder, "winner", "adaloss")
    for row, when in enumerate(("before", "after"), start=1):
        for name, to in (("own class", "own"), ("nearest other", "nearest_other")):
            counts = np.sum([r["angle_histograms"][when][to] for r in runs], axis=0)
            (trace,) = (t for t in picture.figure.data if t.name == name and axis_number(t) == row)
            np.testing.assert_allclose(trace.y, 100 * counts / counts.sum(), atol=1e-5)
            np.testing.assert_allclose(trace.x, (np.arange(90) + 0.5) * math.pi / 90, atol=1e-5)


def test_confusion_is_the_sum_over_seeds_by_rows(example_run):
    folder = example_run()
    picture = pictures_of(folder, "confusion")["confusion-cifar10-arcface"]
    counts = np.sum([r["confusion"] for r in confirmed(folder, "winner", "arcface")], axis=0)
    wrong, right = picture.figure.data
    np.testing.assert_array_equal(wrong.customdata, counts)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    drawn = np.array(wrong.z, dtype=float)
    drawn = np.where(np.isnan(drawn), np.array(right.z, dtype=float), drawn)
    np.testing.assert_allclose(drawn, shares, atol=1e-3)
    assert np.isnan(np.diag(np.array(wrong.z, dtype=float))).all()
    assert f"{counts.sum():,} answers" in picture.caption
    true, predicted = np.unravel_index((shares - 1000 * np.eye(10)).argmax(), shares.shape)
    classes = load_run(folder).info["dataset"]["classes"]
    assert f"of {classes[true]} for {classes[predicted]}" in picture.caption


def test_a_class_without_test_images_does_no_harm(new_run):
    writer = new_run(losses=("arcface",))
    writer.rewrite(confirmation={"seeds": 1})
    table = np.zeros((10, 10), int)
    table[0, 0] = 5
    writer.seed_run("winner", "arcface", 0, 1.0, confusion=table.tolist())
    (picture,) = pictures_of(writer.folder, "confusion").values()
    assert "No image was taken for another class" in picture.caption
