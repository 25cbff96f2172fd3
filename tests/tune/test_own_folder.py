"""A user's own folder of images: what is not used of it, and what is there twice, is said and on record."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.tune.test_settings import GOOD
from trainables.data import load_training_data
from trainables.errors import UserError
from tune.plan import plan_run
from tune.run_file import write_run_file
from tune.search.run import _announce
from tune.session import Session

COMMAND = {"command": "", "versions": {}, "git": {}, "hardware": {}, "slots": {}}
LEFT_OUT = "left out of the data: 2 files in folders that are not read, such as val/cat/1.png"


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(value).integers(0, 256, (28, 28), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Images of two classes; 5 of the 8 that are tested are trained on as well, and two lie where none are read."""
    for label, name in enumerate(("cat", "dog")):
        for index in range(20):
            write_image(tmp_path / "images" / "train" / name / f"{index}.png", 100 * label + index)
        for index in range(4):
            write_image(tmp_path / "images" / "test" / name / f"{index}.png", 100 * label + index + 17 + label)
        write_image(tmp_path / "images" / "val" / name / "1.png", 1000)
    return tmp_path / "images"


@pytest.fixture
def settings(folder, tmp_path):
    return replace(GOOD, dataset=str(folder), train_size=None, output=str(tmp_path), name="run")


def said_by(do):
    console = Console(file=io.StringIO(), force_terminal=False, width=300)
    do(console)
    return console.file.getvalue()


def test_a_search_says_it_when_it_begins(settings):
    data = load_training_data(settings.dataset, None)
    slots = SimpleNamespace(gpus_per_trial=0, cpus_per_trial=1, concurrent=1)
    lines = []
    _announce(SimpleNamespace(settings=settings, data=data, slots=slots, say=lines.append), {}, ())
    assert LEFT_OUT in lines


def test_a_dry_run_says_it(settings):
    lines = []
    said_by(lambda console: lines.extend(plan_run(settings, None, console).lines()))
    assert LEFT_OUT in lines


def test_it_is_on_record_and_stays_there_when_the_run_goes_on(settings):
    settings.folder.mkdir()
    data = load_training_data(settings.dataset, None)
    write_run_file(settings, None, data, {}, COMMAND, resume=False)
    said = said_by(lambda console: Session(settings, is_tested=True, console=console, callbacks=()).read_test_split())
    assert said == "5 of the 8 test images are trained on as well, pixel for pixel\n"
    write_run_file(settings, None, data, {}, COMMAND, resume=True)
    recorded = json.loads((settings.folder / "run.json").read_text())["dataset"]
    assert recorded["left_out"] == [{"reason": "in folders that are not read", "files": 2, "example": "val/cat/1.png"}]
    assert recorded["repeats"] is None
    assert recorded["test_images_trained_on"] == 5


def test_a_class_without_a_test_image_is_told(settings, folder):
    shutil.rmtree(folder / "test" / "dog")
    settings.folder.mkdir()
    data = load_training_data(settings.dataset, None)
    write_run_file(settings, None, data, {}, COMMAND, resume=False)
    said = said_by(lambda console: Session(settings, is_tested=True, console=console, callbacks=()).read_test_split())
    assert said.endswith("1 of the 2 classes (dog) have no test image\n")


def test_it_may_have_moved_but_must_hold_the_same_images(settings, folder, tmp_path):
    settings.folder.mkdir()
    write_run_file(settings, None, load_training_data(settings.dataset, None), {}, COMMAND, resume=False)
    folder.rename(tmp_path / "moved")
    moved = settings.resumed({"dataset": str(tmp_path / "moved")}, None)
    write_run_file(moved, None, load_training_data(moved.dataset, None), {}, COMMAND, resume=True)
    assert json.loads((settings.folder / "run.json").read_text())["settings"]["dataset"] == str(tmp_path / "moved")
    write_image(tmp_path / "moved" / "train" / "cat" / "0.png", 4321)
    with pytest.raises(UserError, match="is not what the run was started with"):
        write_run_file(moved, None, load_training_data(moved.dataset, None), {}, COMMAND, resume=True)
