import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.records import LossRecords, RecordError, RecordFile, current_epochs, read_json, read_records, write_json

plain = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=8), st.booleans()), max_size=4)


def test_what_is_appended_is_read_in_order(tmp_path):
    file = RecordFile(tmp_path / "new" / "a.jsonl")
    for i in range(3):
        file.append({"i": i, "text": "ü\n"})
    assert read_records(file.path) == [{"i": i, "text": "ü\n"} for i in range(3)]


def test_a_missing_file_has_no_records(tmp_path):
    assert read_records(tmp_path / "a.jsonl") == []


@given(records=st.lists(plain, max_size=5), cut=st.integers(min_value=0))
def test_a_kill_at_any_byte_loses_at_most_the_last_record(tmp_path_factory, records, cut):
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    file = RecordFile(path)
    for record in records:
        file.append(record)
    content = path.read_bytes() if records else b""
    cut = min(cut, len(content))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")

    read = read_records(path)
    assert read[:whole] == records[:whole]
    assert len(read) <= whole + 1  # a line that lacks only its line break is whole as well

    RecordFile(path).append({"after": 1})
    assert read_records(path) == [*records[:whole], {"after": 1}]


@pytest.mark.parametrize("damage", ["{not json}", "[1, 2]", "7"])
def test_damage_before_the_last_line_is_named(tmp_path, damage):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + damage + '\n{"a": 2}\n')
    with pytest.raises(RecordError, match=r"a\.jsonl, line 2"):
        read_records(path)


def test_values_that_json_lacks_become_null(tmp_path):
    file = RecordFile(tmp_path / "a.jsonl")
    file.append({"nan": math.nan, "inf": [math.inf, 1.0], "deep": {"x": -math.inf}})

    def refuse(name):
        raise AssertionError(name)

    line = json.loads(file.path.read_text(), parse_constant=refuse)
    assert line == {"nan": None, "inf": [None, 1.0], "deep": {"x": None}}


def test_writers_in_several_threads_never_mix_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    files = [RecordFile(path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda f=f, k=k: [f.append({"who": k, "pad": "x" * 500}) for _ in range(50)])
        for k, f in enumerate(files)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record["who"] for record in read_records(path)) == sorted(list(range(4)) * 50)


def test_a_repeated_epoch_replaces_the_earlier_one():
    records = [
        {"trial_id": "a", "epoch": 1, "v": 1},
        {"trial_id": "a", "epoch": 2, "v": 2},
        {"trial_id": "b", "epoch": 2, "v": 3},
        {"trial_id": "a", "epoch": 2, "v": 4},
    ]
    assert sorted(record["v"] for record in current_epochs(records)) == [1, 3, 4]


def test_write_json_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_read_json_names_the_file(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"run\.json"):
        read_json(path)


def test_loss_records_keep_events_and_epochs_apart(tmp_path):
    records = LossRecords(tmp_path / "arcface")
    records.event("arcface-0000", "started", config={"x": 1})
    records.epoch("arcface-0000", {"epoch": 1, "val_accuracy": 0.5})
    records.epoch("arcface-0000", {"epoch": 1, "val_accuracy": 0.6})
    (event,) = records.read_events()
    assert (event["event"], event["config"]) == ("started", {"x": 1})
    (epoch,) = records.read_epochs()
    assert epoch["val_accuracy"] == 0.6
    assert epoch["time"] >= event["time"]
