"""A follower reads the same as somebody who reads the whole files, however they grow, and nothing twice."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.live import follow
from analysis.live.follow import FollowedFile, FollowedRun, runs_in
from analysis.loading import load_run
from tune.records import read_records

FIELDS = {"trial_id": (lambda value: isinstance(value, str), "text", True)}


def line(**record):
    return json.dumps(record).encode() + b"\n"


def frames_of(run):
    return {name: getattr(run, name) for name in ("trials", "epochs", "seed_runs", "seed_epochs")}


def assert_same(run, other):
    assert (run.folder, run.info, run.winners) == (other.folder, other.info, other.winners)
    for name, frame in frames_of(other).items():
        pd.testing.assert_frame_equal(getattr(run, name), frame)


# --- A file ----------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=8)
records = st.fixed_dictionaries({"trial_id": texts}, optional={"epoch": st.integers(0, 99), "error": texts})


@settings(max_examples=200, deadline=None)
@given(written=st.lists(records, max_size=12), escaped=st.booleans(), data=st.data())
def test_however_bytes_arrive_the_records_are_those_of_the_whole_file(tmp_path_factory, written, escaped, data):
    path = tmp_path_factory.mktemp("file") / "epochs.jsonl"
    content = b"".join(json.dumps(record, ensure_ascii=escaped).encode() + b"\n" for record in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    file = FollowedFile(path, FIELDS)
    seen = []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        with path.open("ab") as out:
            out.write(content[start:end])
        before = len(file.records)
        assert file.update() == (content[:end].count(b"\n") > before)
        seen += file.records[before:]
        assert file.records == written[: content[:end].count(b"\n")]
        assert not file.update()
    assert seen == written == read_records(path)
    assert file.problem is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(records, max_size=5), st.sampled_from(["append", "cut", "replace", "rewrite"]))))
def test_whatever_happens_to_a_file_the_records_are_those_that_it_has(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("file") / "epochs.jsonl"
    path.touch()
    file = FollowedFile(path, FIELDS)
    for number, (new, how) in enumerate(steps):
        # No two lines that a run writes are the same: each has its time.
        content = b"".join(line(**record, time=number) for record in new)
        if how == "append":
            with path.open("ab") as out:
                out.write(content)
        elif how == "cut":  # at a line break: a torn line is the next test's
            lines = path.read_bytes().splitlines(keepends=True)
            os.truncate(path, sum(map(len, lines[: len(lines) // 2])))
        elif how == "replace":
            other = path.with_name("new")
            other.write_bytes(content)
            other.replace(path)
        else:
            path.write_bytes(content)
        os.utime(path, ns=(number, number))  # the clock of a file system may stand still for some milliseconds
        file.update()
        assert file.records == read_records(path)


def test_a_torn_line_waits_and_is_forgotten_when_the_next_writer_cuts_it_off(tmp_path):
    path = tmp_path / "epochs.jsonl"
    path.write_bytes(line(trial_id="a") + b'{"trial_id": "torn')
    file = FollowedFile(path, FIELDS)
    assert file.update()
    assert [record["trial_id"] for record in file.records] == ["a"]
    os.truncate(path, len(line(trial_id="a")))
    file.update()
    with path.open("ab") as out:
        out.write(line(trial_id="b, longer than what was torn"))
    assert file.update()
    assert [record["trial_id"] for record in file.records] == ["a", "b, longer than what was torn"]


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    path = tmp_path / "epochs.jsonl"
    path.write_bytes(line(trial_id="a") * 50)
    file = FollowedFile(path, FIELDS)
    file.update()
    parsed = []
    monkeypatch.setattr(follow.json, "loads", lambda text: parsed.append(text) or {"trial_id": "b"})
    assert not file.update()
    with path.open("ab") as out:
        out.write(line(trial_id="b"))
    assert file.update()
    assert len(parsed) == 1
    assert len(file.records) == 51


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (b"not json\n", "line 3: not a JSON object"),
        (b"[1]\n", "line 3: not a JSON object"),
        (b"\n", "line 3: not a JSON object"),
        (b'{"trial_id": 5}\n', "line 3: 'trial_id' is 5, not text"),
        (b"\xff\xfe\n", "line 3: not a JSON object"),
        (b"[" * 100_000 + b"\n", "line 3: not a JSON object"),
    ],
)
def test_damage_is_named_stays_named_and_is_forgotten_once_mended(tmp_path, damage, problem):
    path = tmp_path / "epochs.jsonl"
    good = line(trial_id="a") * 2
    path.write_bytes(good)
    file = FollowedFile(path, FIELDS)
    file.update()
    path.write_bytes(good + damage)
    assert file.update()
    assert problem in file.problem
    assert "\n" not in file.problem
    assert not file.update()
    assert problem in file.problem
    path.write_bytes(good + line(trial_id="b"))
    assert file.update()
    assert file.problem is None
    assert len(file.records) == 3


def test_a_file_that_comes_late_and_one_that_goes(tmp_path):
    path = tmp_path / "folder" / "epochs.jsonl"
    file = FollowedFile(path, FIELDS)
    assert not file.update()
    path.parent.mkdir()
    path.write_bytes(line(trial_id="a"))
    assert file.update()
    path.unlink()
    assert file.update()
    assert file.records == []


# --- A run -----------------------------------------------------------------------------------------------------------


def test_a_followed_run_is_what_load_run_reads(example_run):
    for options in ({}, {"finished": False}, {"dataset": "mnist", "seeds": 6, "robustness": 4}):
        folder = example_run(**options)
        followed = FollowedRun(folder)
        assert followed.update()
        assert followed.problem is None
        assert_same(followed.run, load_run(folder))
        assert not followed.update()


def test_a_run_that_grows_line_by_line_stays_what_load_run_reads(example_run, tmp_path):
    """All its files at once, each cut in the middle of a line at every step."""
    source, folder = example_run(dataset="mnist", seeds=3, trials=4, max_epochs=5), tmp_path / "run"
    growing = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.jsonl")}
    shutil.copytree(source, folder)
    for name in growing:
        (folder / name).write_bytes(b"")
    followed = FollowedRun(folder)
    steps = 7

    def part(content, step):
        at = len(content) * step // steps
        return at + (content[at : at + 1] == b"\n")  # whoever reads the whole file takes a line without its end, too

    for step in range(1, steps + 1):
        for name, content in growing.items():
            with (folder / name).open("ab") as out:
                out.write(content[part(content, step - 1) : part(content, step)])
        assert followed.update()
        assert followed.problem is None
        assert_same(followed.run, load_run(folder))
    assert followed.last_record_time() == max(
        record["time"] for name in growing for record in read_records(folder / name) if "time" in record
    )


@pytest.fixture
def growing(new_run):
    """A run with one trial, and whoever follows it."""
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6])
    followed = FollowedRun(run.folder)
    assert followed.update()
    return run, followed


def test_nothing_is_put_together_again_while_nothing_changes(growing):
    run, followed = growing
    before = followed.run
    assert not followed.update()
    (run.folder / "report.html").write_text("not a record")
    assert not followed.update()
    assert followed.run is before
    run.epoch("arcface", 1, 1, 0.3)
    assert followed.update()
    assert len(followed.run.epochs) == 3


def test_a_folder_without_a_run_is_waited_for(new_run, tmp_path):
    followed = FollowedRun(tmp_path / "later")
    assert followed.update()
    assert followed.problem == f"{tmp_path / 'later'}: there is no such folder"
    (tmp_path / "later").mkdir()
    assert followed.update()
    assert followed.problem == f"{tmp_path / 'later'}: holds no run yet (run.json is missing)"
    assert not followed.update()
    new_run("later-too")
    (tmp_path / "later").rmdir()
    (tmp_path / "later-too").rename(tmp_path / "later")
    assert followed.update()
    assert followed.problem is None
    assert followed.run.losses == ["arcface", "softmax"]


@pytest.mark.parametrize("name", ["run.json", "arcface/epochs.jsonl", "softmax/trials.jsonl", "confirm.jsonl"])
def test_a_file_that_breaks_is_a_problem_and_the_run_stays_as_it_was(growing, name):
    run, followed = growing
    run.trial("softmax", 0, [0.7])
    followed.update()
    before, path = followed.run, run.folder / name
    intact = path.read_bytes() if path.exists() else b""
    path.write_bytes(b"broken\n")
    assert followed.update()
    assert str(path) in followed.problem
    assert followed.run is before
    assert not followed.update()
    path.write_bytes(intact)
    assert followed.update()
    assert followed.problem is None
    assert_same(followed.run, load_run(run.folder))


def test_what_comes_in_while_another_file_is_broken_is_not_lost(growing):
    run, followed = growing
    path = run.folder / "arcface" / "trials.jsonl"
    intact = path.read_bytes()
    path.write_bytes(b"broken\n")
    followed.update()
    run.trial("softmax", 0, [0.7])
    assert not followed.update()
    path.write_bytes(intact)
    assert followed.update()
    assert_same(followed.run, load_run(run.folder))


def test_another_run_in_the_same_place_is_another_run(growing, new_run, tmp_path):
    run, followed = growing
    other = new_run("other", losses=("softmax", "adaloss"))
    other.trial("adaloss", 3, [0.9])
    shutil.rmtree(run.folder)
    assert followed.update()
    assert "no such folder" in followed.problem
    Path(tmp_path / "other").rename(run.folder)
    assert followed.update()
    assert followed.run.losses == ["softmax", "adaloss"]
    assert_same(followed.run, load_run(run.folder))


def test_a_winner_that_is_chosen_is_seen(growing):
    run, followed = growing
    (run.folder / "winner_arcface.json").write_text('{"trial_id": "arcface-0000", "config": {}}')
    assert followed.update()
    assert followed.run.winners["arcface"]["trial_id"] == "arcface-0000"


def test_a_folder_of_runs_stands_for_the_runs_in_it(new_run, tmp_path):
    (tmp_path / "runs" / "no-run").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    b, a = new_run("runs/b").folder, new_run("runs/a").folder
    (a / "confirm").mkdir()
    (a / "confirm" / "run.json").touch()  # inside a run there are no runs
    runs, empty, none = tmp_path / "runs", tmp_path / "empty", tmp_path / "none"
    assert runs_in([runs]) == [a, b]
    assert runs_in([b, runs, empty, none]) == [b, a, empty, none]
    assert runs_in([a]) == [a]
