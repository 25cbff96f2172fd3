"""Whether each node of the cluster has this code and reaches the checkpoints: asked when a node is met, so that nobody
finds out in the middle of a trial."""

import contextlib
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import pyarrow.fs

import trainables
from trainables.errors import UserError
from trainables.loss_code import LossCode, register_losses
from tune.storage.checkpoints import folders_to_make, remove_empty

__all__ = ["NodeCheck"]

ANSWER_TIMEOUT_S = 120.0  # for a first worker process on a busy node, or a network file system that wakes up
LOOK_INTERVAL_S = 5.0


class NodeCheck:
    """Asks each node once, from the node itself; where there is one node, nobody.

    Args:
        root: absolute path or URI of the folder to which checkpoints go.
        losses: code of those that are not part of this project; every node has to know them.
    """

    def __init__(self, root: str, losses: tuple[LossCode, ...] = ()) -> None:
        self._root, self._losses = root, losses
        self._token = f".reach-{secrets.token_hex(8)}"  # a file that all nodes should see
        self._asked: set[str] = set()
        self._open: dict[Any, str] = {}  # Ray's reference of a question -> address of the node
        self._looked = float("-inf")
        self._made: list[Path] = []  # folders that were not there before

    def __enter__(self) -> "NodeCheck":
        """Ask all nodes that are up, and wait for their answers.

        Raises:
            UserError: one of them has other code, does not see what this one writes, or does not answer.
        """
        try:
            self._ask()
            if problem := self._problem(ANSWER_TIMEOUT_S):
                raise UserError(problem)
            if self._open:
                late = ", ".join(sorted(self._open.values()))
                raise UserError(f"node {late} does not answer within {ANSWER_TIMEOUT_S:g} s; `ray status` may say why")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._asked:
            return
        with contextlib.suppress(OSError):
            filesystem, path = pyarrow.fs.FileSystem.from_uri(self._root)
            filesystem.delete_file(f"{path}/{self._token}")
        remove_empty(self._made)

    def problem(self) -> str | None:
        """Return what is wrong with a node that has joined since, or None; called often, it looks now and then."""
        now = time.monotonic()
        if now - self._looked < LOOK_INTERVAL_S:
            return None
        self._looked = now
        self._ask()
        return self._problem(0)

    def _ask(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) < 2 and not self._asked:
            return
        new = [node for node in nodes if node["NodeID"] not in self._asked]
        first = not self._asked
        self._asked |= {node["NodeID"] for node in new}
        if first:
            self._write_token()
        ask = ray.remote(num_cpus=0, max_retries=0)(answer)
        for node in new:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            question = ask.options(scheduling_strategy=there).remote(
                self._root, self._token, code_digest(), self._losses
            )
            self._open[question] = node["NodeManagerAddress"]

    def _write_token(self) -> None:
        try:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(self._root)
            self._made = folders_to_make(self._root)
            filesystem.create_dir(path)
            with filesystem.open_output_stream(f"{path}/{self._token}") as file:
                file.write(b"")
        except OSError as error:
            raise UserError(f"{self._root}, where checkpoints go, cannot be written: {error}") from None

    def _problem(self, wait_s: float) -> str | None:
        import ray

        if not self._open:
            return None
        answered, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=wait_s)
        for question in answered:
            address = self._open.pop(question)
            try:
                problem = ray.get(question)
            except ray.exceptions.RayTaskError as error:
                problem = f"cannot run this project: {error.cause}"
            except ray.exceptions.RayError:
                continue  # the node is gone again, and nothing of ours runs there
            if problem:
                return f"node {address} {problem}"
        return None


def answer(root: str, token: str, digest: str, losses: tuple[LossCode, ...] = ()) -> str | None:
    """Return what is wrong with the node on which this runs, or None."""
    if code_digest() != digest:
        return "has another version of this project; install the same everywhere (`ray up` does)"
    try:
        register_losses(losses)
    except UserError as error:
        return f"cannot take part: {error}"
    share = "give --storage, a folder that all nodes share or a URI such as s3://BUCKET/FOLDER"
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(root)
        if filesystem.get_file_info(f"{path}/{token}").type != pyarrow.fs.FileType.File:
            return f"does not see what this one writes to {root}, where checkpoints go; {share}"
        mine = f"{path}/{token}-{secrets.token_hex(4)}"
        with filesystem.open_output_stream(mine) as file:
            file.write(b"")
        filesystem.delete_file(mine)
    except OSError as error:
        return f"cannot write to {root}, where checkpoints go ({error}); {share}"
    return None


def code_digest() -> str:
    """Return a digest of the code that trains, as it is installed here."""
    root = Path(trainables.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
