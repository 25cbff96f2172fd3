"""The commands that use a run's weights, without the run: what they print, and how they end."""

import csv
import io
import json
from functools import partial

import numpy as np
import pytest
import torch

from tests.trainables.photo_files import mixed, save, scene
from tests.trainables.untrained import write_weights
from trainables.exported import FORMATS
from trainables.predictions import image_files, predict
from trainables.trained import load_model
from tune import export
from tune import predict as predict_command
from tune.records import write_json

NAMES = ["cat", "dog", "bird"]
PHOTOS = {"model": "ArcFaceCNN_CIFAR10_w24", "shape": (32, 32, 3)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Works in a folder with weights, and seven photos of which one is broken."""
    monkeypatch.chdir(tmp_path)
    write_weights(tmp_path / "winner_adaloss.pt", **PHOTOS, class_names=NAMES, are_photos=True)
    torn = mixed(tmp_path / "photos", 7) / "c" / "002.jpg"
    torn.write_bytes(torn.read_bytes()[:-200])
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path


@pytest.fixture
def command(called):
    return partial(called, predict_command.main, "winner_adaloss.pt")


@pytest.fixture
def expected(folder):
    return list(predict(load_model("winner_adaloss.pt"), image_files(folder / "photos"), NAMES))


def test_a_folder_of_photos_has_a_line_each_and_the_broken_one_its_own(command, expected):
    code, out, err = command("photos")
    assert code == 1
    whole = [said for said in expected if said.error is None]
    assert out.splitlines() == [
        f"{said.file.relative_to(said.file.parents[2])}: {said.class_name} {said.probability:.3f}" for said in whole
    ]
    assert len(whole) == 6
    assert err.count("\n") == 1
    assert err.startswith("error: photos/c/002.jpg: the image cannot be decoded")


def test_files_that_are_named_are_read_and_all_is_well(command):
    code, out, err = command("photos/b/001.png", "photos/a/000.jpg")
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines()] == ["photos/b/001.png", "photos/a/000.jpg"]


def test_json_and_csv_say_the_same(command, expected):
    code, out, _ = command("photos", "--json")
    rows = json.loads(out)
    assert code == 1
    assert [row["label"] for row in rows] == [said.label for said in expected]
    assert [row["class_name"] for row in rows] == [said.class_name for said in expected]
    assert [row["probability"] for row in rows] == [said.probability for said in expected]
    (broken,) = [row for row in rows if row["error"] is not None]
    assert broken["file"] == "photos/c/002.jpg"
    code, out, _ = command("photos", "--csv")
    assert code == 1
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == [
        {name: line[name] for name in rows[0]} for line in lines
    ]


def test_names_stay_text(folder, called):
    write_weights(folder / "w.pt", **PHOTOS, class_names=["=1+1\x1b[31m"] * 3, are_photos=True)
    save(scene(40, 40, 1), folder / "a\x1b[2J.png")
    for options in ((), ("--csv",)):
        code, out, _ = called(predict_command.main, "w.pt", "a\x1b[2J.png", *options)
        assert code == 0
        assert "\x1b" not in out
    assert next(csv.DictReader(io.StringIO(out)))["class_name"].startswith("'=1+1")


def test_weights_from_before_they_had_names_take_those_of_their_run_or_numbers(folder, called):
    write_weights(folder / "best_arcface.pt", **PHOTOS)
    code, out, err = called(predict_command.main, "best_arcface.pt", "photos/a/000.jpg")
    assert code == 0
    assert out.split(": ")[1].split()[0] in {"0", "1", "2"}
    assert err == "best_arcface.pt was written before weights had the names of classes: these are numbers\n"
    label = int(out.split(": ")[1].split()[0])
    write_json(folder / "run.json", {"dataset": {"classes": NAMES}})
    assert called(predict_command.main, "best_arcface.pt", "photos/a/000.jpg")[1:] == (
        out.replace(f": {label} ", f": {NAMES[label]} "),
        "",
    )
    for content in ({"dataset": {"classes": NAMES[:2]}}, {"dataset": {}}, []):
        write_json(folder / "run.json", content)
        assert "these are numbers" in called(predict_command.main, "best_arcface.pt", "photos/a/000.jpg")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch.pt", "photos"], "nosuch.pt: there is no such file"),
        (["photos/notes.txt", "photos"], "photos/notes.txt: no weights of a trained model"),
        ([".", "photos"], "it has winner_adaloss.pt"),
        (["winner_adaloss.pt", "nosuch"], "nosuch: there is no such file or folder"),
        (["winner_adaloss.pt", "photos", "nosuch.png"], "nosuch.png: there is no such file or folder"),
        (["winner_adaloss.pt", "empty"], "empty holds no images"),
        (["winner_adaloss.pt", "photos", "--json", "--csv"], "--json and --csv exclude each other"),
        (["winner_adaloss.pt"], "IMAGES"),
    ],
)
def test_wrong_input_is_one_line(folder, called, arguments, said):
    (folder / "empty").mkdir()
    code, out, err = called(predict_command.main, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert said in err


# --- Export ----------------------------------------------------------------------------------------------------------


def test_a_model_is_exported_with_names_and_said_to_be_checked(folder, called):
    write_weights(folder / "old.pt", **PHOTOS)
    write_json(folder / "run.json", {"dataset": {"classes": NAMES}})
    code, out, err = called(export.main, "old.pt", "model.ts")
    assert (code, err) == (0, "")
    assert out.startswith("model.ts: TorchScript, ")
    assert "images uint8 (N, 32, 32, 3) in, logits float32 (N, 3) out; checked" in out
    names = {"classes": ""}
    script = torch.jit.load("model.ts", _extra_files=names)
    assert json.loads(names["classes"]) == NAMES
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))
    torch.testing.assert_close(script(images), load_model("old.pt")(images), atol=1e-4, rtol=1e-4)


def test_an_exported_model_is_not_taken_for_weights(called):
    assert called(export.main, "winner_adaloss.pt", "model.ts")[0] == 0
    code, out, err = called(predict_command.main, "model.ts", "photos")
    assert (code, out) == (2, "")
    assert err == "error: model.ts is an exported model, for other programs; give the weights that it was made from\n"


def test_the_command_knows_every_format():
    assert set(export._SUFFIXES) == set(FORMATS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch.pt", "model.onnx"], "nosuch.pt: there is no such file"),
        (["winner_adaloss.pt", "winner_adaloss.pt"], "its name must end in .onnx or .ts"),
        (["winner_adaloss.pt", "nosuch/model.ts"], "there is no folder nosuch"),
        (["winner_adaloss.pt", "folder.ts"], "folder.ts is a folder"),
        (["winner_adaloss.pt"], "FILE"),
    ],
)
def test_what_cannot_be_exported_is_one_line(folder, called, arguments, said):
    (folder / "folder.ts").mkdir()
    before = (folder / "winner_adaloss.pt").read_bytes()
    code, out, err = called(export.main, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert (folder / "winner_adaloss.pt").read_bytes() == before


def test_a_full_disk_or_a_folder_that_may_not_be_written_is_one_line(called, monkeypatch):
    def refuse(model, notes, path):
        raise PermissionError(13, "Permission denied")

    kind = FORMATS[".ts"]
    monkeypatch.setitem(FORMATS, ".ts", type(kind)(kind.name, refuse, kind.load))
    code, out, err = called(export.main, "winner_adaloss.pt", "model.ts")
    assert (code, out, err) == (2, "", "error: model.ts cannot be written: Permission denied\n")
