"""Going on with a run into whose folder somebody else has put pickles: none of them is loaded."""

import pytest

from tests.pickles import plant
from tune import confirm, run_search

pytestmark = pytest.mark.cluster


def test_going_on_with_a_run_unpickles_nothing(here, tmp_path):
    folder, mark = tmp_path / "run", tmp_path / "unpickled"
    place = ("--output", tmp_path, "--name", "run")
    options = ("--dataset", "digits", "--loss", "arcface", "--trials", 1, "--max-epochs", 1, "--grace-epochs", 1)
    options += ("--max-concurrent", 1)
    assert here(run_search.main, *place, *options, "--train-size", 200, "--no-confirm").returncode == 0
    plant(folder, mark)
    done = here(run_search.main, *place, "--extend", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    plant(folder, mark)
    done = here(confirm.main, folder, "--confirm-seeds", 1, "--candidate-seeds", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not mark.exists()
