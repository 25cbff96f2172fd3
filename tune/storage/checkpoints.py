"""Where Ray left the trials' checkpoints, on a local disk, a shared file system or an object store."""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow.fs

from trainables.errors import UserError
from trainables.trainable import CHECKPOINT_INDEX, STATE_FILE, WEIGHTS_FILE
from tune.records import write_file
from tune.study import Checkpoint

__all__ = ["CheckpointStore", "folders_to_make", "remove_empty"]


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        root: absolute path or URI of the folder in which all of the run's checkpoints are.

    Raises:
        UserError: `root` is no path or URI of a kind that is known.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            self._filesystem, self._path = pyarrow.fs.FileSystem.from_uri(root)
        except (OSError, ValueError) as error:
            raise UserError(f"--storage {root}: not a usable path or URI ({error})") from None

    def check_writable(self) -> None:
        """Raise UserError unless files can be written under the root; leaves nothing there."""
        probe = f"{self._path}/.writable"
        made: list[Path] = []
        try:
            made = folders_to_make(self.root)
            self._filesystem.create_dir(self._path)
            with self._filesystem.open_output_stream(probe) as file:
                file.write(b"")
            self._filesystem.delete_file(probe)
        except OSError as error:
            raise UserError(f"--storage {self.root}: cannot be written ({error})") from None
        finally:
            remove_empty(made)

    def newest(self) -> dict[str, Checkpoint]:
        """Return each trial's newest complete checkpoint, by trial id; what a kill left half-written is passed over."""
        newest: dict[str, Checkpoint] = {}
        for index_path in self._indices():
            index = self._read_index(index_path)
            if index is None or (index["trial_id"] in newest and newest[index["trial_id"]].epoch >= index["epoch"]):
                continue
            folder = PurePosixPath(index_path).parent
            if hashlib.sha256(self._read(f"{folder}/{STATE_FILE}")).hexdigest() == index["sha256"]:
                newest[index["trial_id"]] = Checkpoint(index["epoch"], self._uri(str(folder)))
        return newest

    def copy_weights(self, trial_id: str, target: Path) -> bool:
        """Copy the weights of a trial that reached its full length to a local file; False where there are none."""
        for index_path in self._indices():
            index = self._read_index(index_path)
            if index is None or index["trial_id"] != trial_id or "weights_sha256" not in index:
                continue
            content = self._read(f"{PurePosixPath(index_path).parent}/{WEIGHTS_FILE}")
            if hashlib.sha256(content).hexdigest() == index["weights_sha256"]:
                write_file(target, content)
                return True
        return False

    def remove_all_but(self, trial_ids: Collection[str]) -> None:
        """Delete the checkpoints of all other trials."""
        for index_path in self._indices():
            index = self._read_index(index_path)
            if index is None or index["trial_id"] not in trial_ids:
                self._filesystem.delete_dir(str(PurePosixPath(index_path).parent))

    def remove_if_empty(self) -> None:
        """Delete everything that Ray left, unless a checkpoint is there; only when Ray writes no more."""
        if self._filesystem.get_file_info(self._path).type == pyarrow.fs.FileType.Directory and not self._indices():
            self._filesystem.delete_dir(self._path)

    def _indices(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._path, recursive=True, allow_not_found=True)
        return [info.path for info in self._filesystem.get_file_info(selector) if info.base_name == CHECKPOINT_INDEX]

    def _read_index(self, path: str) -> dict[str, Any] | None:
        try:
            with self._filesystem.open_input_stream(path) as file:
                index: dict[str, Any] = json.loads(file.read())
        except (OSError, ValueError):
            return None
        is_index = isinstance(index, dict) and {"trial_id", "epoch", "sha256"} <= index.keys()
        return index if is_index else None

    def _read(self, path: str) -> bytes:
        """Return a file's content, nothing where there is none."""
        try:
            with self._filesystem.open_input_stream(path) as file:
                return bytes(file.read())
        except OSError:
            return b""

    def _uri(self, path: str) -> str:
        scheme, separator, rest = self.root.partition("://")
        _, mark, options = rest.partition("?")
        return f"{scheme}://{quote(path)}{mark}{options}" if separator else path


def folders_to_make(root: str) -> list[Path]:
    """Return the folders on the way to a path that do not exist, the deepest first; of a URI, none."""
    if "://" in root:
        return []
    return [folder for folder in (Path(root), *Path(root).parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Delete folders, the deepest first, that nothing has been written into."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it is in use by now
            folder.rmdir()
