"""What a run is said to be doing."""

import fcntl
import time
from pathlib import Path

import pytest

from analysis.live.follow import FollowedRun
from analysis.live.state import is_locked, state_of


def state(folder, now=None):
    followed = FollowedRun(folder)
    followed.update()
    return state_of(followed, followed.run, time.time() if now is None else now)


def test_a_run_with_records_is_searching_until_they_stop_coming(new_run):
    run = new_run()
    run.rewrite(invocations=[{"time": time.time()}])
    assert state(run.folder).word == "starting"
    run.trial("arcface", 0, [0.5, 0.6], None)
    run.trial("arcface", 1, [0.4], "failed", error="broke")
    now = state(run.folder)
    assert (now.word, now.alive) == ("searching", True)
    assert now.columns == ("loss", "best val. acc.", "done", "running", "stopped", "failed", "epochs")
    assert now.rows[0] == ("ArcFace", "60.00 %", "1/4", "1", "0", "1", "3")
    assert now.rows[1] == ("softmax", "-", "0/4", "0", "0", "0", "0")
    assert now.last_record_time == pytest.approx(time.time(), abs=60)
    later = state(run.folder, time.time() + 3600)
    assert (later.word, later.alive, later.columns[3]) == ("no sign of life", False, "not ended")


def test_long_epochs_are_waited_for(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5], None, seconds=1000.0)
    assert state(run.folder, time.time() + 2000).word == "searching"
    assert state(run.folder, time.time() + 4000).word == "no sign of life"


def test_a_search_that_was_told_to_stop_is_interrupted_until_it_goes_on(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5], "interrupted")
    run.trial("softmax", 0, [0.5])
    assert state(run.folder).word == "interrupted"
    run.event("arcface", 0, "resumed")
    assert state(run.folder).word == "searching"


def finish(run):
    for loss in ("arcface", "softmax"):
        for number in range(4):
            run.trial(loss, number, [0.5])


def test_a_finished_search_is_finished_however_old(new_run):
    run = new_run()
    finish(run)
    for now in (time.time(), time.time() + 1e6):
        assert (state(run.folder, now).word, state(run.folder, now).alive) == ("search finished, not confirmed", False)


def test_a_confirmation_is_confirming_until_every_arm_has_its_runs(new_run):
    run = new_run()
    finish(run)
    run.rewrite(confirmation={"seeds": 2, "controls": False, "robustness": 0})
    assert state(run.folder).word == "confirming"
    for loss in ("arcface", "softmax"):
        (run.folder / f"winner_{loss}.json").write_text(f'{{"trial_id": "{loss}-0000", "config": {{}}}}')
        run.seed_run("candidate", loss, 0)
    run.seed_runs("winner", "arcface", [0.9, None])
    assert state(run.folder).word == "confirming"
    assert state(run.folder).confirmation == "Confirmation: 4 training runs done, 1 failed."
    assert state(run.folder, time.time() + 3600).word == "no sign of life"
    run.seed_runs("winner", "softmax", [0.9, 0.9])
    assert state(run.folder, time.time() + 3600).word == "finished"


def test_an_example_of_a_finished_study_and_of_a_running_one(example_run):
    assert state(example_run(robustness=4)).word == "finished"
    running = example_run(dataset="mnist", finished=False)
    last = state(running).last_record_time
    assert state(running, last + 5).alive
    assert "running" in state(running, last + 5).confirmation


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not tell of locks")
def test_a_lock_is_seen_and_not_taken(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5], None)
    path = run.folder / ".lock"
    assert not is_locked(path)
    with path.open("w") as lock:
        assert not is_locked(path)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_locked(path)
        assert state(run.folder, time.time() + 1e6).word == "searching"  # an epoch of a week
    assert not is_locked(path)
