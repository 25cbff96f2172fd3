"""Where the code of a user's own loss is found, what goes on record of it, and that every process knows the same."""

import importlib
import pickle
import sys
import traceback

import pytest

from tests.trainables.own_losses import GOOD
from trainables import loss_code
from trainables.errors import UserError
from trainables.loss_code import LossCode, find_loss, load_loss, register_losses
from trainables.losses import LOSSES, ArcFaceLoss


@pytest.fixture(autouse=True)
def registry_as_before(monkeypatch):
    """What a test registers is gone after it."""
    before = dict(LOSSES)
    monkeypatch.setattr(loss_code, "_registered", {})
    yield
    LOSSES.clear()
    LOSSES.update(before)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The good loss in a file of the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    return "mine.py:Mine"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with that loss and an entry point; returns what makes a version of it."""
    place = tmp_path / "site"
    monkeypatch.syspath_prepend(str(place))

    def install(version="1.2", text=GOOD):
        (place / "stranger").mkdir(parents=True, exist_ok=True)
        (place / "stranger" / "__init__.py").write_text("")
        (place / "stranger" / "margins.py").write_text(text)
        about = place / "stranger_losses-1.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger-losses\nVersion: {version}\n")
        (about / "top_level.txt").write_text("stranger\n")
        (about / "RECORD").write_text("stranger/__init__.py,,\nstranger/margins.py,,\n")
        (about / "entry_points.txt").write_text("[adaloss.losses]\nstrange = stranger.margins:Mine\n")
        for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()

    install()
    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


def test_a_file_is_known_by_its_text_wherever_it_is_loaded(mine, tmp_path):
    code, cls = find_loss(mine)
    assert (code.name, code.kind, code.package, code.source) == ("mine", "file", None, GOOD)
    assert len(code.sha256) == 64
    there = pickle.loads(pickle.dumps(code))  # as it goes to a node
    (tmp_path / "mine.py").unlink()
    assert load_loss(there) is cls  # the process knows it already
    del sys.modules[cls.__module__]
    elsewhere = load_loss(there)
    assert elsewhere is not cls
    assert elsewhere.__name__ == "Mine"


def test_a_traceback_shows_the_lines_of_the_file(mine, tmp_path):
    (tmp_path / "mine.py").write_text(
        GOOD.replace("self.scale, self.margin = scale, margin", "raise OSError('thin ice')")
    )
    _, cls = find_loss(mine)
    (tmp_path / "mine.py").unlink()
    try:
        cls(2, 2, scale=1.0, margin=0.0)
    except OSError:
        assert "raise OSError('thin ice')" in traceback.format_exc()


@pytest.mark.parametrize("reference", ["stranger.margins:Mine", "strange"])
def test_an_installed_package_goes_on_record_with_its_version(package, reference):
    code, _ = find_loss(reference)
    kind = "entry point" if reference == "strange" else "package"
    assert (code.name, code.kind) == ("strange" if reference == "strange" else "mine", kind)
    assert code.package == "stranger-losses 1.2"
    assert code.source == GOOD
    assert code.must_be_named == (kind == "package")
    assert load_loss(code).__name__ == "Mine"


@pytest.mark.parametrize(("version", "text"), [("1.3", GOOD), ("1.2", GOOD.replace("0.4", "0.5"))])
def test_a_node_with_another_version_of_a_package_does_not_train(package, version, text):
    code, _ = find_loss("stranger.margins:Mine")
    package(version, text)
    with pytest.raises(UserError, match=r"stranger-losses .* is not the same as where the run was started"):
        load_loss(code)


def test_its_record_is_read_back_without_the_text(mine):
    code, _ = find_loss(mine)
    assert "source" not in code.to_dict()
    assert LossCode.from_dict(code.to_dict()) == code
    with pytest.raises(UserError, match="edited, or written by another version"):
        LossCode.from_dict({"name": "mine"})


def test_losses_are_registered_once_and_anew_when_their_code_is_other(mine, tmp_path):
    code, cls = find_loss(mine)
    register_losses([code, code])
    register_losses([code])
    assert LOSSES["mine"] is cls
    (tmp_path / "mine.py").write_text(GOOD.replace("0.4", "0.5"))
    other, other_class = find_loss(mine)
    register_losses([other])
    assert LOSSES["mine"] is other_class is not cls


def test_no_loss_of_this_project_is_replaced(mine, tmp_path):
    (tmp_path / "mine.py").write_text(GOOD.replace('"mine"', '"arcface"'))
    code, _ = find_loss(mine)
    with pytest.raises(UserError, match="there is a loss arcface in this project; give yours another name"):
        register_losses([code])
    assert LOSSES["arcface"] is ArcFaceLoss


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Mine(:\n", "line 1: SyntaxError: "),
        ("\nimport nosuch\nclass Mine: pass\n", "line 2: ModuleNotFoundError: No module named 'nosuch'; a file goes"),
        ("x = 1\n\n1 / 0\nclass Mine: pass\n", "line 3: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\nclass Mine: pass\n", "line 1: SystemExit: 3"),
        ("class Mina: pass\n", "has no class Mine (did you mean Mina?)"),
        ("Mine = 3\n", "Mine must be a class that inherits from trainables.losses.ClassifierLoss"),
        ("class Mine: pass\n", "Mine must be a class that inherits from trainables.losses.ClassifierLoss"),
        (
            "from trainables.losses import ClassifierLoss\nclass Mine(ClassifierLoss):\n    def forward(self): pass\n",
            "Mine has no logits; see ClassifierLoss",
        ),
        (GOOD.replace('"mine"', '"my loss"'), "a loss's name must be at most 40 letters, digits and '_'"),
        (GOOD.replace('"mine"', '"../mine"'), "a loss's name must be at most 40 letters, digits and '_'"),
        ("# Mine comes later\n", "there is no class Mine"),
    ],
)  # fmt: skip
def test_code_that_is_no_loss_is_refused_in_one_line(mine, tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError) as refused:
        find_loss(mine)
    assert str(refused.value).startswith("--loss mine.py:Mine: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nosuch.py:Mine", "nosuch.py cannot be read: No such file or directory"),
        (".py:Mine", ".py cannot be read"),
        ("bytes.py:Mine", "bytes.py is no text"),
        ("mine.py:", "must be FILE.py:CLASS, package.module:CLASS or pml:CLASS"),
        ("mine.py:1x", "must be FILE.py:CLASS"),
        (":Mine", "must be FILE.py:CLASS"),
        ("some/where:Mine", "some/where is neither a file that ends in .py nor the name of a module"),
        ("nosuch.module:Mine", "nosuch.module cannot be imported: ModuleNotFoundError: No module named 'nosuch'"),
        ("json:Mine", "there is no class Mine"),
        ("nosuch", "no installed package has an entry point of this name"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_in_one_line(mine, tmp_path, reference, said):
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe class Mine")
    with pytest.raises(UserError) as refused:
        find_loss(reference)
    assert str(refused.value).startswith(f"--loss {reference}: ")
    assert said in str(refused.value)


def test_ctrl_c_is_no_fault_of_the_code(mine, tmp_path):
    (tmp_path / "mine.py").write_text("raise KeyboardInterrupt\nclass Mine: pass\n")
    with pytest.raises(KeyboardInterrupt):
        find_loss(mine)
