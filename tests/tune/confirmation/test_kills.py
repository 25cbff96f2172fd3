"""A confirmation, killed at any of its writes and begun again."""

import pytest

import tune.confirmation.run
import tune.run_file
from tests.tune.confirmation.conftest import confirm, finished_search, results_of
from tune.records import RecordFile, read_json
from tune.settings import ConfirmSettings

ASKED = ConfirmSettings(seeds=2, candidates=2, candidate_seeds=1, controls=True, robustness=1)


class Killed(BaseException):
    pass


class KillSwitch:
    """Raises in the n-th write of any file of a run: before it, or just after."""

    def __init__(self, monkeypatch, at, after):
        self.calls, self.at, self.after = 0, at, after
        for owner, name in (
            (RecordFile, "append"),
            (tune.confirmation.run, "write_json"),
            (tune.run_file, "write_json"),
        ):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, write):
        def call(*arguments):
            self.calls += 1
            is_mine = self.calls == self.at
            if is_mine and not self.after:
                raise Killed
            write(*arguments)
            if is_mine:
                raise Killed

        return call


def what_is_left(settings):
    """All that a confirmation has found, less what the clock says, and in an order of its own."""
    results = [{key: value for key, value in result.items() if key != "time"} for result in results_of(settings)]
    winners = {loss: read_json(settings.folder / f"winner_{loss}.json") for loss in settings.losses}
    return sorted(results, key=lambda result: result["run_id"]), winners


@pytest.mark.parametrize("stride", [37, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_write_changes_nothing_in_the_end(world, tmp_path, stride, after):
    """The same runs, each once, with the same epochs, margins and winners as one that nothing interrupted."""
    world.accuracy = lambda run_id: 0.8 if "0000" in run_id else 0.9  # the second candidate is the better one

    def confirmed(folder, at):
        settings = finished_search(folder)
        world.checkpoints.clear()
        with pytest.MonkeyPatch.context() as patch:
            switch = KillSwitch(patch, at, after)
            for _ in range(2):
                try:
                    assert confirm(settings, ASKED).broken == {}
                    break
                except Killed:
                    pass
        return switch.calls, what_is_left(settings)

    calls, undisturbed = confirmed(tmp_path / "undisturbed", at=-1)
    assert calls > 90
    for at in range(1, calls + 1, stride):
        _, disturbed = confirmed(tmp_path / f"{at}", at)
        assert disturbed == undisturbed, f"killed at write {at} of {calls}"
