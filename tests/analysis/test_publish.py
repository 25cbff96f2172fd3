"""The compact copy of a run: it says what the run says, takes little space, and nothing can go on in it."""

import json
import lzma
import shutil

import pytest

from analysis import publish as command
from analysis.compare import comparison, comparison_text
from analysis.findings import load_findings
from analysis.live.follow import FollowedRun
from analysis.loading import load_run
from analysis.publish import publish
from tune.records import RecordError, read_json
from tune.settings import UserError, load_settings


@pytest.fixture
def run(example_run, tmp_path):
    folder = shutil.copytree(example_run(robustness=6), tmp_path / "results" / "cifar10")
    (folder / "best_arcface.pt").write_bytes(b"weights")
    (folder / "report.html").write_text("page")
    (folder / "run.yaml").write_text("dataset: cifar10\n")
    return folder


def test_a_copy_says_what_the_run_says(run, tmp_path):
    size = publish(run, tmp_path / "copy")
    (of_run,), (of_copy,) = load_findings([run]), load_findings([tmp_path / "copy"])
    plain = [json.loads(json.dumps(comparison([found]))) for found in (of_run, of_copy)]
    assert json.dumps(plain[0]).replace(str(run), "") == json.dumps(plain[1]).replace(str(tmp_path / "copy"), "")
    assert comparison_text([of_run]) == comparison_text([of_copy])
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert size == sum(path.stat().st_size for path in files)
    assert size < sum(path.stat().st_size for path in run.rglob("*.jsonl")) / 3
    assert {path.suffix for path in files} == {".json", ".xz", ".yaml"}


def test_a_copy_tells_nobody_where_things_lay(run, tmp_path):
    description = read_json(run / "run.json")
    places = {"data_dir": "/srv/someone/data", "output": "/srv/someone", "storage": "/mnt/shared"}
    description["settings"] |= places | {"dataset": "/srv/someone/photos"}
    description["dataset"]["name"] = "/srv/someone/photos"
    description["invocations"][0]["command"] = "run_search.py --data-dir /srv/someone/data --output /srv/someone"
    (run / "run.json").write_text(json.dumps(description))
    (run / "run.yaml").write_text("dataset: /srv/someone/photos\ndata-dir: /srv/someone/data\n")
    publish(run, tmp_path / "copy")
    copied = read_json(tmp_path / "copy" / "run.json")
    assert {name: copied["settings"][name] for name in places} == dict(
        zip(places, ("DATA", "OUTPUT", "STORAGE"), strict=True)
    )
    assert copied["dataset"]["name"] == copied["settings"]["dataset"] == "photos"
    assert copied["invocations"][0]["command"] == "run_search.py --data-dir DATA --output OUTPUT"
    assert (tmp_path / "copy" / "run.yaml").read_text() == "dataset: photos\ndata-dir: DATA\n"


def test_the_live_page_reads_a_copy_too(run, tmp_path):
    publish(run, tmp_path / "copy")
    followed = FollowedRun(tmp_path / "copy")
    assert followed.update()
    assert followed.problem is None
    loaded = load_run(run)
    assert followed.run.epochs.equals(loaded.epochs)
    assert followed.run.trials.equals(loaded.trials)
    assert followed.run.seed_runs.equals(loaded.seed_runs)
    assert not followed.update()


def test_equal_records_make_equal_files_and_a_copy_is_brought_up_to_date(run, tmp_path):
    for name in ("one", "two"):
        publish(run, tmp_path / name)
    packed = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert packed == {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    with (run / "confirm.jsonl").open("ab") as file:
        file.write((run / "confirm.jsonl").read_bytes().splitlines()[0] + b"\n")
    publish(run, tmp_path / "one")
    assert lzma.decompress((tmp_path / "one" / "confirm.jsonl.xz").read_bytes()) == (run / "confirm.jsonl").read_bytes()


def test_no_search_goes_on_in_a_copy(run, tmp_path):
    publish(run, tmp_path / "copy")
    with pytest.raises(UserError, match="is a published copy"):
        load_settings(tmp_path / "copy")


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"no archive", lambda content: b""])
def test_a_damaged_copy_is_named(run, tmp_path, damage):
    publish(run, tmp_path / "copy")
    packed = tmp_path / "copy" / "confirm.jsonl.xz"
    packed.write_bytes(damage(packed.read_bytes()))
    with pytest.raises(RecordError, match=r"confirm\.jsonl\.xz: (cannot be unpacked|is cut off)"):
        load_run(tmp_path / "copy")


def test_what_unpacks_to_more_than_any_record_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tune.records.files._MOST_BYTES", 2**24)
    publish(run, tmp_path / "copy")
    (tmp_path / "copy" / "confirm.jsonl.xz").write_bytes(lzma.compress(bytes(2**25), preset=0))
    with pytest.raises(RecordError, match=r"confirm\.jsonl\.xz: "):
        load_run(tmp_path / "copy")


def test_the_command_names_each_copy(called, run, tmp_path):
    code, out, err = called(command.main, run, "--to", tmp_path / "published")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'published' / 'cifar10'}: ")
    copied, original = read_json(tmp_path / "published" / "cifar10" / "run.json"), read_json(run / "run.json")
    original["settings"]["output"] = "OUTPUT"
    assert copied == original


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{run}"], "--to"),
        (["{run}/nothing", "--to", "{run}/x"], "there is no such folder"),
        (["{run}", "--to", "{run}/.."], "would be its own copy"),
        (["{run}", "--to", "{run}/run.json"], "cannot be written"),
        (["{run}", "{run}", "--to", "{run}/x"], "given twice"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(called, run, arguments, says):
    code, out, err = called(command.main, *(argument.replace("{run}", str(run)) for argument in arguments))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
