"""What is read from files is data: nothing of it is run, and nothing is unpickled that others may have written."""

import ast
import pickle
from pathlib import Path

import pytest

from analysis import compare, dashboard
from tests.analysis.example_run import write_example_run
from tests.pickles import Hostile, plant

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("analysis", "search_spaces", "trainables", "tune")
SOURCES = sorted(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))

# Modules that run what they read, and the places that have a reason: CIFAR's own files, checked against the MD5 that
# their authors publish before they are unpickled; an exported model, checked by who has just written it; and files of
# options, read by what of YAML makes plain values.
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
MAY_UNPICKLE = {
    "trainables/data/readers.py": {"pickle"},
    "trainables/exported.py": {"torch.jit.load"},
    "trainables/loss_code.py": {"exec", "compile"},  # of a file that the user names, never of one that a run names
    "tune/run_config.py": {"yaml"},
}
SAFE_YAML = {"yaml.SafeLoader", "yaml.safe_dump", "yaml.MappingNode", "yaml.YAMLError"}
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
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml" and ast.unparse(node) not in SAFE_YAML:
            found.append(f"uses {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom | ast.Import) and ast.unparse(node).startswith(
            ("from yaml", "import yaml ")
        ):
            found.append("imports parts of yaml, or under another name")
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if call in FORBIDDEN_CALLS - set(allowed):
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


@pytest.mark.parametrize(
    "source",
    [
        "import yaml\nyaml.load(text, yaml.SafeLoader)",
        "import yaml\nloader = yaml.Loader(text)",
        "import yaml\nyaml.unsafe_load(text)",
        "import yaml.constructor\nyaml.constructor.FullConstructor()",
        "import yaml as safe",
        "from yaml import Loader",
    ],
)
def test_a_file_of_options_is_read_by_what_makes_plain_values_alone(source):
    assert len(faults(source, {"yaml"})) == 1
    assert faults("import yaml\nyaml.safe_dump(yaml.SafeLoader(text).get_data())", {"yaml"}) == []


def test_what_is_excepted_is_still_there():
    for name, excepted in MAY_UNPICKLE.items():
        found = {fault.rpartition(" ")[2] for fault in faults((PROJECT / name).read_text())}
        assert found == excepted


# --- A run's folder with pickles of somebody else's ------------------------------------------------------------------


def test_such_a_pickle_would_be_seen(tmp_path):
    mark = tmp_path / "unpickled"
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


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
