"""How searches are compared that ended at different accuracies; and the recipes train what the product trains."""

import json

import pytest

from benchmarks.peers.__main__ import Search, ratio, table
from benchmarks.peers.recipe import SPACE, Task, Told, train

SLOW = Search(90.0, 3, ((10.0, 0.90), (40.0, 0.97), (80.0, 0.96)))
FAST = Search(40.0, 4, ((5.0, 0.95), (20.0, 0.97), (30.0, 0.99)))


def test_the_time_counts_to_what_the_worse_one_has_at_its_end():
    assert (SLOW.best, FAST.best) == (0.97, 0.99)
    assert ratio(FAST, SLOW) == 20 / 40
    assert ratio(SLOW, FAST) == 40 / 20
    assert FAST.seconds_to(0.9) == 5.0


def test_the_table_has_medians_over_seeds():
    better = Search(40.0, 4, ((10.0, 0.97),))
    text = table(
        [{"product": FAST, "ray tune": SLOW, "optuna": FAST}, {"product": better, "ray tune": SLOW, "optuna": FAST}]
    )
    assert "| 0 | ray tune | 90 | 3 | 97.00 % | 40, 20 | 0.50 |" in text
    assert "product / ray tune: median 0.38 (target 0.33): missed" in text
    assert "product / optuna: median 0.75" in text


def test_a_recipe_trains_and_tells_each_epoch(tmp_path):
    task = Task("", 320, 1, 2, 1, 3, 0, 1, dataset="digits", model="DigitsCNN")
    lines = tmp_path / "lines.jsonl"
    train(task, task.load(), SPACE.first_points[0], Told(str(lines)), workers=0, seed=0)
    found = [json.loads(line)["val_accuracy"] for line in lines.read_text().splitlines()]
    assert len(found) == 2
    assert all(0 <= accuracy <= 1 for accuracy in found)


def test_what_is_told_can_end_a_trial(tmp_path):
    task = Task("", 320, 1, 3, 1, 3, 0, 1, dataset="digits", model="DigitsCNN")
    seen = []

    def told(accuracy):
        seen.append(accuracy)
        raise StopIteration

    with pytest.raises(StopIteration):
        train(task, task.load(), SPACE.first_points[1], told, workers=0, seed=0)
    assert len(seen) == 1
