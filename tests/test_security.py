"""What is read from files is data: nothing of it is run, and nothing is unpickled that others may have written."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import compare, dashboard
from tests.analysis.example_run import write_example_run

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("analysis", "search_spaces", "trainables", "tune")
SOURCES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))

# Modules that run what they read, and the one place that has a reason: CIFAR's own files, checked against the MD5 that
# their authors publish before they are unpickled.
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
MAY_UNPICKLE = {"trainables/data/readers.py": {"pickle"}}
# Calls that run a text, or read what may hold a pickle.
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "os.system", "os.popen", "os.execvp", "pd.read_pickle", "pandas.read_pickle",
    "pd.read_hdf", "pd.eval", "np.fromregex", "torch.jit.load", "torch.hub.load", "subprocess.getoutput",
}  # fmt: skip


def name_of(path):
    return path.relative_to(PROJECT).as_posix()


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def faults(source, allowed=frozenset()):
    """What a module does that it must not."""
    tree = ast.parse(source)
    found = [f"imports {module}" for module in set(imported(tree)) & UNPICKLERS - set(allowed)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if call in FORBIDDEN_CALLS:
            found.append(f"calls {call}")
        if call == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if options.get("allow_pickle", "False") != "False":
            found.append("allows pickles")
        if options.get("shell", "False") != "False":
            found.append("runs a shell")
        if call.endswith((".get_pickled_error", ".Tuner.restore")):
            found.append(f"calls {call}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_runs_what_it_reads(path):
    assert faults(path.read_text(), MAY_UNPICKLE.get(name_of(path), ())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import yaml",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "ray_tune.Tuner.restore(path)",
    ],
)
def test_the_check_finds_what_it_looks_for(source):
    assert len(faults(source)) == 1


def test_what_is_excepted_is_still_there():
    for name, modules in MAY_UNPICKLE.items():
        assert modules <= set(imported(ast.parse((PROJECT / name).read_text())))


# --- A run's folder with pickles of somebody else's ------------------------------------------------------------------


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return Path.touch, (self._mark,)


def plant(folder, mark):
    """Put pickles wherever a program might look for one: weights, what Ray leaves, caches."""
    content = pickle.dumps(Hostile(mark))
    checkpoint = folder / "checkpoints" / "part-001" / "arcface-0000" / "checkpoint_000000"
    later = folder / "checkpoints" / "part-002"
    for place in (checkpoint, later, folder / "confirm" / "checkpoints" / "candidates-002"):
        place.mkdir(parents=True, exist_ok=True)
    for path in (
        *(folder / f"best_{loss}.pt" for loss in ("arcface", "adaloss")),
        *(folder / name for name in ("tuner.pkl", "trainable.pkl", "run.pkl", "cache.npy", "data.h5")),
        *(checkpoint / name for name in ("state.pt", "weights.pt", ".is_checkpoint", "dict_checkpoint.pkl")),
        *(later / name for name in ("tuner.pkl", "searcher-state-1.pkl", "search_gen_state-1.json", "trainable.pkl")),
        folder / "confirm" / "checkpoints" / "candidates-002" / "tuner.pkl",
    ):
        path.write_bytes(content)


def test_such_a_pickle_would_be_seen(tmp_path):
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


def command(*arguments, timeout=300):
    environment = {k: v for k, v in os.environ.items() if k not in {"RAY_ADDRESS", "ADALOSS_DATA"}}
    program = [sys.executable, *map(str, arguments)]
    return subprocess.run(program, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def run(tmp_path):
    """A run's folder with such pickles; the test fails where one was loaded."""
    run, mark = write_example_run(tmp_path / "run", seeds=2, trials=5, max_epochs=4), tmp_path / "unpickled"
    plant(run, mark)
    yield run
    assert not mark.exists()


@pytest.mark.parametrize("options", [[], ["--json"], ["--csv"], ["--markdown"]])
def test_comparing_runs_unpickles_nothing(run, called, options):
    code, _, errors = called(compare.main, run, *options)
    assert (code, errors) == (0, "")


def test_drawing_a_run_unpickles_nothing(run, called, tmp_path):
    code, _, errors = called(dashboard.main, run, "--html", tmp_path / "page.html")
    assert (code, errors) == (0, "")
    assert (tmp_path / "page.html").exists()


@pytest.mark.cluster
def test_going_on_with_a_run_unpickles_nothing(tmp_path):
    script, mark = "tune/run_search.py", tmp_path / "unpickled"
    run = ("--output", tmp_path, "--name", "run")
    options = ("--dataset", "digits", "--loss", "arcface", "--trials", 1, "--max-epochs", 1, "--grace-epochs", 1)
    assert command(script, *run, *options, "--no-confirm").returncode == 0
    plant(tmp_path / "run", mark)
    done = command(script, *run, "--extend", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    plant(tmp_path / "run", mark)
    done = command("tune/confirm.py", tmp_path / "run", "--confirm-seeds", 1, "--candidate-seeds", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not mark.exists()
