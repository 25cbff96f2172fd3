"""The stages of a run and the time that is left, as a search writes them down."""

import json
import time

import pytest

from analysis.live.follow import FollowedRun
from analysis.live.stages import stages_of, time_left
from analysis.live.state import state_of
from analysis.loading import load_run
from tune.records import write_json


def told(folder):
    return [(stage.name, stage.done, stage.asked) for stage in stages_of(load_run(folder))]


def test_a_search_alone_is_one_stage(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5])
    run.trial("arcface", 1, [0.5], None)
    assert told(run.folder) == [("Search", 1, 8)]


def test_stages_follow_each_other_as_runs_are_done(new_run):
    run = new_run()
    for loss in ("arcface", "softmax"):
        for number in range(4):
            run.trial(loss, number, [0.5])
    run.rewrite(confirmation={"seeds": 3, "candidates": 2, "candidate_seeds": 1, "controls": False, "robustness": 2})
    assert told(run.folder) == [
        ("Search", 8, 8),
        ("Choice of winners", 0, 4),
        ("Paired seeds", 0, 6),
        ("Random draws", 0, 4),
    ]
    run.seed_run("candidate", "arcface", 0)
    assert told(run.folder)[1] == ("Choice of winners", 1, 4)
    for loss in ("arcface", "softmax"):
        (run.folder / f"winner_{loss}.json").write_text(f'{{"trial_id": "{loss}-0000", "config": {{}}}}')
    run.seed_runs("winner", "arcface", [0.9, 0.9])
    assert told(run.folder)[1:3] == [("Choice of winners", 4, 4), ("Paired seeds", 2, 6)]
    run.seed_runs("robustness", "softmax", [0.9, 0.9])
    assert told(run.folder)[3] == ("Random draws", 2, 4)


def test_a_finished_study_is_over(example_run):
    stages = stages_of(load_run(example_run(robustness=4)))
    assert [stage.name for stage in stages] == [
        *("Search", "Choice of winners", "Paired seeds", "Controls", "Random draws")
    ]
    assert all(stage.is_over for stage in stages)


def test_time_is_told_as_people_do_while_it_is_fresh():
    now = 1000.0
    progress = {
        "time": now - 5,
        "part": "search",
        "seconds_left": 250.0,
        "later": "the rest",
        "seconds_with_later": 9000,
    }
    assert time_left(progress, now) == "about 4 min left, 2.5 h with the rest"
    assert time_left({**progress, "seconds_with_later": None, "seconds_left": 12.0}, now) == "about 10 s left"
    assert time_left({**progress, "seconds_left": None}, now) == ""
    assert time_left(progress, now + 1000) == ""
    assert time_left(None, now) == ""


@pytest.mark.parametrize("content", ["{", "[]", '{"time": "soon"}', '{"time": 1, "part": 2}', "[" * 100_000])
def test_a_file_that_cannot_be_read_says_nothing_and_hides_nothing(new_run, content):
    run = new_run()
    run.trial("arcface", 0, [0.5], None)
    followed = FollowedRun(run.folder)
    write_json(run.folder / "progress.json", {"time": time.time(), "part": "search", "seconds_left": 100.0})
    followed.update()
    assert state_of(followed, followed.run, time.time()).time_left == "about 2 min left"
    (run.folder / "progress.json").write_text(content)
    followed.update()
    assert followed.problem is None
    assert state_of(followed, followed.run, time.time()).time_left == ""


def test_what_a_search_writes_down_is_what_the_page_reads(tmp_path):
    from rich.console import Console

    from tests.tune.search.invented_trials import StudyOnDisk, record
    from tune.execution.progress import Progress
    from tune.execution.time_left import Later, TimeLeft
    from tune.records.schema import PROGRESS_FIELDS, check_fields

    study = StudyOnDisk(tmp_path, trials=2).open()
    left = TimeLeft({"arcface": study}, Later("the confirmation", 90.0))
    progress = Progress({"arcface": study}, "x", Console(quiet=True), time_left=left, folder=tmp_path)
    number = study.ask().number
    for epoch, moment in ((1, 0.0), (2, 1.0), (3, 2.0)):
        study.on_epoch(number, record(epoch, 0.5))
        left.look(time.monotonic() - 2 + moment)
    progress.update()
    written = json.loads((tmp_path / "progress.json").read_text())
    check_fields("progress.json", written, PROGRESS_FIELDS)
    assert written["part"] == "search"
    assert written["seconds_with_later"] == pytest.approx(written["seconds_left"] + 90.0, rel=0.2)
    assert "with the confirmation" in time_left(written, time.time())
    progress._recorded = 0.0
    progress._folder = tmp_path / "gone"
    progress.update()  # where it cannot be written the search goes on
