"""Whether each node has this code and sees the checkpoints: what a node answers, and what is made of the answers."""

import pyarrow.fs
import pytest
import ray

from trainables.errors import UserError
from trainables.loss_code import LossCode
from tune.cluster import node_check
from tune.cluster.node_check import NodeCheck, answer, code_digest

# --- What a node answers ---------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A folder in which there is what another node wrote."""
    (tmp_path / "token").touch()
    return tmp_path


def test_a_node_that_sees_and_writes_has_no_problem_and_leaves_nothing(root):
    assert answer(str(root), "token", code_digest()) is None
    assert answer(root.as_uri(), "token", code_digest()) is None
    assert [path.name for path in root.iterdir()] == ["token"]


@pytest.mark.parametrize("place", ["", "nosuch"])
def test_a_node_that_does_not_see_what_another_wrote(root, place):
    problem = answer(str(root / place), "other", code_digest())
    where = f"{root / place}, where checkpoints go"
    assert problem.startswith(f"does not see what this one writes to {where}; give --storage")


def test_a_node_that_cannot_write(root, monkeypatch):
    class ReadOnly:
        def get_file_info(self, path):
            return pyarrow.fs.LocalFileSystem().get_file_info(path)

        def open_output_stream(self, path):
            raise OSError("Read-only file system")

    monkeypatch.setattr(
        node_check.pyarrow.fs, "FileSystem", type("F", (), {"from_uri": lambda root: (ReadOnly(), root)})
    )
    assert "cannot write to" in answer(str(root), "token", code_digest())
    assert "Read-only file system" in answer(str(root), "token", code_digest())


def test_a_node_with_other_code(root):
    assert "another version of this project" in answer(str(root), "token", "0" * 64)


def test_the_digest_is_that_of_the_code(tmp_path, monkeypatch):
    before = code_digest()
    assert before == code_digest()
    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables" / "__init__.py").write_text("x = 1\n")
    monkeypatch.setattr(node_check.trainables, "__file__", str(tmp_path / "trainables" / "__init__.py"))
    other = code_digest()
    (tmp_path / "trainables" / "__init__.py").write_text("x = 2\n")
    assert len({before, other, code_digest()}) == 3


def test_a_node_on_which_a_loss_cannot_be_loaded_says_so(tmp_path):
    (tmp_path / "token").touch()
    text = "import nosuch\nclass Mine: pass\n"
    code = LossCode("mine", "mine.py:Mine", "file", "0" * 64, source=text)
    problem = answer(str(tmp_path), "token", code_digest(), (code,))
    assert problem.startswith("cannot take part: --loss mine.py:Mine: line 1: ModuleNotFoundError")


# --- What is made of the answers -------------------------------------------------------------------------------------


class Cluster:
    """Takes the place of Ray: nodes that answer what a test tells them to, or not yet."""

    def __init__(self, monkeypatch):
        self.alive, self.says, self.asked, self.late = ["a"], {}, [], set()
        monkeypatch.setattr(ray, "nodes", lambda: [self.node(name) for name in self.alive] + [self.node("z", False)])
        monkeypatch.setattr(ray, "remote", lambda **options: lambda function: self)
        monkeypatch.setattr(ray, "wait", self.wait)
        monkeypatch.setattr(ray, "get", self.get)
        clock = iter(range(0, 10**6, 10))
        monkeypatch.setattr(node_check.time, "monotonic", lambda: next(clock))

    @staticmethod
    def node(name, alive=True):
        return {"NodeID": name * 56, "NodeManagerAddress": f"10.0.0.{ord(name)}", "Alive": alive}

    def options(self, *, scheduling_strategy):
        assert scheduling_strategy.soft is False
        self.next = scheduling_strategy.node_id[0]
        return self

    def remote(self, root, token, digest, losses):
        assert losses == ()
        self.asked.append(self.next)
        return self.next

    def wait(self, questions, *, num_returns, timeout):
        assert num_returns == len(questions)
        return [name for name in questions if name not in self.late], []

    def get(self, name):
        said = self.says.get(name)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def cluster(monkeypatch):
    return Cluster(monkeypatch)


def test_one_node_needs_no_question(cluster, tmp_path):
    with NodeCheck(str(tmp_path / "run" / "checkpoints")) as found:
        assert found.problem() is None
    assert cluster.asked == []
    assert list(tmp_path.iterdir()) == []


def test_all_nodes_are_asked_once_and_nothing_stays(cluster, tmp_path):
    cluster.alive = ["a", "b"]
    with NodeCheck(str(tmp_path / "run" / "checkpoints")) as found:
        (token,) = (tmp_path / "run" / "checkpoints").iterdir()
        assert token.name.startswith(".reach-")
        assert found.problem() is None
    assert cluster.asked == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_search_wrote_stays(cluster, tmp_path):
    cluster.alive = ["a", "b"]
    with NodeCheck(str(tmp_path / "run" / "checkpoints")):
        (tmp_path / "run" / "checkpoints" / "part-001").mkdir()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["part-001"]


def test_a_problem_is_one_line_with_the_nodes_address(cluster, tmp_path):
    cluster.alive, cluster.says = ["a", "b"], {"b": "does not see"}
    with pytest.raises(UserError, match=r"^node 10\.0\.0\.98 does not see$"), NodeCheck(str(tmp_path / "run")):
        pytest.fail("entered")
    assert list(tmp_path.iterdir()) == []


def test_a_node_without_the_project_says_so(cluster, tmp_path):
    error = ray.exceptions.RayTaskError("answer", "traceback", ModuleNotFoundError("No module named 'tune'"))
    cluster.alive, cluster.says = ["a", "b"], {"b": error}
    expected = r"node 10\.0\.0\.98 cannot run this project: No module named 'tune'"
    with pytest.raises(UserError, match=expected), NodeCheck(str(tmp_path / "run")):
        pytest.fail("entered")


def test_a_node_that_is_gone_again_is_no_problem(cluster, tmp_path):
    cluster.alive, cluster.says = ["a", "b"], {"b": ray.exceptions.NodeDiedError("gone")}
    with NodeCheck(str(tmp_path)) as found:
        assert found.problem() is None


def test_a_node_that_does_not_answer_is_not_waited_for_for_ever(cluster, tmp_path):
    cluster.alive, cluster.late = ["a", "b"], {"b"}
    with pytest.raises(UserError, match=r"node 10\.0\.0\.98 does not answer within 120 s"), NodeCheck(str(tmp_path)):
        pytest.fail("entered")


def test_a_node_that_joins_is_asked_without_waiting_for_it(cluster, tmp_path):
    with NodeCheck(str(tmp_path / "run")) as found:
        cluster.alive, cluster.late, cluster.says = ["a", "b"], {"b"}, {"b": "does not see"}
        assert found.problem() is None
        assert cluster.asked == ["a", "b"]
        cluster.late = set()
        assert found.problem() == "node 10.0.0.98 does not see"
        assert found.problem() is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_from_here_is_said(cluster, tmp_path):
    (tmp_path / "file").touch()
    cluster.alive = ["a", "b"]
    with (
        pytest.raises(UserError, match="where checkpoints go, cannot be written"),
        NodeCheck(str(tmp_path / "file" / "x")),
    ):
        pytest.fail("entered")
