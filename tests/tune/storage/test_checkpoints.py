import hashlib
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from trainables.errors import UserError
from trainables.trainable import CHECKPOINT_INDEX, STATE_FILE, WEIGHTS_FILE
from tune.storage.checkpoints import CheckpointStore


@pytest.fixture(params=["path", "uri"])
def root(request, tmp_path):
    """The root of a store, as a path and as a URI of the same folder, whose name has a space."""
    folder = tmp_path / "a run" / "checkpoints"
    return str(folder) if request.param == "path" else folder.as_uri()


def local(place: str) -> Path:
    """The local path of a path or a file URI."""
    return Path(unquote(urlsplit(place).path) if "://" in place else place)


def save(root: str, trial_id: str, epoch: int, *, part: int = 1, weights: bytes | None = None) -> Path:
    """Write a checkpoint as a trial does, where Ray puts it."""
    folder = local(root) / f"part-{part:03d}" / trial_id / f"checkpoint_{epoch:06d}"
    folder.mkdir(parents=True)
    state = f"{trial_id} after {epoch}".encode()
    (folder / STATE_FILE).write_bytes(state)
    index = {"trial_id": trial_id, "epoch": epoch, "sha256": hashlib.sha256(state).hexdigest()}
    if weights is not None:
        (folder / WEIGHTS_FILE).write_bytes(weights)
        index["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / CHECKPOINT_INDEX).write_text(json.dumps(index))
    return folder


def found(root: str) -> dict[str, tuple[int, Path]]:
    newest = CheckpointStore(root).newest()
    return {trial_id: (checkpoint.epoch, local(checkpoint.path)) for trial_id, checkpoint in newest.items()}


# --- The newest of each trial ----------------------------------------------------------------------------------------


def test_a_store_that_nobody_wrote_to_has_none(root):
    assert CheckpointStore(root).newest() == {}


def test_the_highest_epoch_of_each_trial_is_found_whatever_part_it_is_in(root):
    save(root, "a", 9, part=1)
    last = save(root, "a", 10, part=2)
    save(root, "a", 2, part=3)
    only = save(root, "b", 1, part=2)
    assert found(root) == {"a": (10, last), "b": (1, only)}


def test_the_place_of_a_checkpoint_can_be_read_as_a_store_of_its_kind(root):
    save(root, "a", 1)
    place = CheckpointStore(root).newest()["a"].path
    assert ("://" in place) == ("://" in root)
    assert (local(place) / STATE_FILE).read_bytes() == b"a after 1"
    CheckpointStore(place).check_writable()


def test_options_of_a_uri_stay_with_its_checkpoints():
    options = "region=us-east-1&endpoint_override=localhost:9"
    store = CheckpointStore(f"s3://bucket/run?{options}")
    assert store._uri("bucket/run/a b") == f"s3://bucket/run/a%20b?{options}"


@pytest.mark.parametrize("damage", ["state cut", "state missing", "index torn", "index missing", "no index", "a list"])
def test_what_a_kill_left_half_written_is_passed_over(root, damage):
    whole = save(root, "a", 3)
    broken = save(root, "a", 4)
    match damage:
        case "state cut":
            (broken / STATE_FILE).write_bytes(b"a aft")
        case "state missing":
            (broken / STATE_FILE).unlink()
        case "index torn":
            (broken / CHECKPOINT_INDEX).write_text('{"trial_id": "a", "epo')
        case "index missing":
            (broken / CHECKPOINT_INDEX).unlink()
        case "no index":
            (broken / CHECKPOINT_INDEX).write_text('{"trial_id": "a", "epoch": 4}')
        case "a list":
            (broken / CHECKPOINT_INDEX).write_text("[]")
    assert found(root) == {"a": (3, whole)}


# --- Weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_copied_to_a_local_file(root, tmp_path):
    save(root, "a", 5, weights=b"weights of a")
    save(root, "b", 5, weights=b"weights of b")
    target = tmp_path / "best.pt"
    assert CheckpointStore(root).copy_weights("b", target)
    assert target.read_bytes() == b"weights of b"


@pytest.mark.parametrize("trial_id", ["stopped", "nosuch"])
def test_where_there_are_no_weights_nothing_is_copied(root, tmp_path, trial_id):
    save(root, "stopped", 2)
    save(root, "other", 5, weights=b"weights")
    assert not CheckpointStore(root).copy_weights(trial_id, tmp_path / "best.pt")
    assert not (tmp_path / "best.pt").exists()


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_weights_that_a_full_disk_left_half_written_are_passed_over(root, tmp_path, damage):
    broken = save(root, "a", 5, weights=b"weights of a") / WEIGHTS_FILE
    broken.write_bytes(b"weig") if damage == "cut" else broken.unlink()
    assert not CheckpointStore(root).copy_weights("a", tmp_path / "best.pt")
    assert list(tmp_path.glob("best.pt*")) == []
    save(root, "a", 5, part=2, weights=b"weights of a")
    assert CheckpointStore(root).copy_weights("a", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == b"weights of a"


# --- Tidying up ------------------------------------------------------------------------------------------------------


def test_only_what_is_still_needed_stays(root):
    kept = save(root, "a", 3)
    removed = save(root, "b", 3, weights=b"w")
    torn = save(root, "a", 4)
    (torn / CHECKPOINT_INDEX).write_text("{")
    CheckpointStore(root).remove_all_but({"a"})
    assert (kept.exists(), removed.exists(), torn.exists()) == (True, False, False)
    assert found(root) == {"a": (3, kept)}


def test_with_the_last_of_them_all_that_ray_left_goes(root):
    save(root, "a", 3)
    (local(root) / "part-001" / "tuner.pkl").touch()
    store = CheckpointStore(root)
    store.remove_if_empty()
    assert set(found(root)) == {"a"}
    store.remove_all_but(set())
    assert (local(root) / "part-001" / "tuner.pkl").exists()  # Ray may still write there
    store.remove_if_empty()
    assert not local(root).exists()
    assert local(root).parent.exists()
    store.remove_all_but(set())  # nothing is left, which is no error
    store.remove_if_empty()


# --- Places that are of no use ---------------------------------------------------------------------------------------


def test_the_check_for_writing_leaves_nothing(root):
    CheckpointStore(root).check_writable()
    assert list(local(root).glob("*")) == []
    assert "://" in root or not local(root).exists()
    local(root).mkdir(parents=True, exist_ok=True)
    CheckpointStore(root).check_writable()
    assert local(root).is_dir()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").touch()
    root = str(tmp_path / place)
    with pytest.raises(UserError, match="cannot be written") as error:
        CheckpointStore(root).check_writable()
    assert f"--storage {root}" in str(error.value)


@pytest.mark.parametrize("root", ["relative/path", "bogus://x/y", "file:///a b", ""])
def test_a_place_of_no_known_kind_is_named(root):
    with pytest.raises(UserError, match="not a usable path or URI") as error:
        CheckpointStore(root)
    assert f"--storage {root}" in str(error.value)
