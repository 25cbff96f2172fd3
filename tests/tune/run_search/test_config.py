"""`--config`: a file gives options, the command line counts more, and a run's own file repeats the run."""

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import SEARCH_SPACES
from tests.tune.run_search.conftest import TEAM, WITH_SECRET, write_json_run
from trainables.config import PRECISIONS
from tune import run_search
from tune.records import read_json
from tune.run_config import options_of, write_config
from tune.settings import ConfirmSettings, SearchSettings

# Not of what a run is.
PLACES = {"output": "elsewhere", "name": "other", "storage": None, "address": None, "again": None}


@pytest.fixture
def config(empty_folder):
    """Writes a file of options and returns its name."""

    def write(text):
        Path("run.yaml").write_text(text)
        return "run.yaml"

    return write


def test_an_option_is_called_as_on_the_command_line():
    app = typer.Typer(add_completion=False)
    app.command()(run_search.main)
    declared = {parameter.opts[0] for parameter in typer.main.get_command(app).params} - {"--help"}
    assert {f"--{name.replace('_', '-')}" for name in options_of(run_search.main)} == declared
    assert {option.kind for option in options_of(run_search.main).values()} == {str, int, float, bool}


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_a_file_gives_what_the_command_line_does_not(command, searched, config):
    file = config("dataset: digits\nloss: [softmax, norm_softmax]\nmax-epochs: 4\nseed: 7\nconfirm_seeds: 6\n")
    assert command("--config", file, "--name", "one", "--seed", 8)[0] == 0
    asked = searched.asked
    assert (asked.dataset, asked.losses, asked.max_epochs) == ("digits", ("softmax", "norm_softmax"), 4)
    assert (asked.seed, asked.name, searched.confirmed) == (8, "one", ConfirmSettings(seeds=6))
    assert asked.trials == 12  # the data set's own: nobody said otherwise
    assert command("--config", file, "--name", "two", "--loss", "arcface")[0] == 0
    assert searched.asked.losses == ("arcface",)


def test_the_order_on_the_command_line_does_not_matter(command, searched, config):
    assert command("--trials", 3, "--config", config("dataset: digits\ntrials: 5\n"), "--name", "one")[0] == 0
    assert searched.asked.trials == 3


def test_variables_count_more_than_a_file_and_less_than_the_command_line(command, searched, config, monkeypatch):
    file = config("dataset: digits\ndata-dir: of the file\n")
    assert command("--config", file)[0] == 0
    assert searched.asked.data_dir == "of the file"
    monkeypatch.setenv("ADALOSS_DATA", "of this machine")
    assert command("--config", file, "--name", "two")[0] == 0
    assert searched.asked.data_dir == "of this machine"


@pytest.mark.parametrize(
    ("text", "words", "seeds"),
    [
        ("confirm-seeds: 6\ncontrols: true\n", ["--no-confirm"], None),
        ("no-confirm: true\n", ["--confirm-seeds", 4], 4),
        ("no-confirm: true\n", [], None),
        ("no-confirm: false\nconfirm-seeds: 5\n", [], 5),
        ("confirm-seeds: 5\n", ["--confirm-seeds", 4], 4),
    ],
)
def test_what_is_said_of_a_confirmation_on_the_command_line_counts_more(command, searched, config, text, words, seeds):
    assert command("--config", config(f"dataset: digits\n{text}"), *words)[0] == 0
    assert (searched.confirmed.seeds if searched.confirmed else None) == seeds


def test_one_loss_needs_no_list_and_nothing_is_a_default(command, searched, config):
    assert command("--config", config("dataset: digits\nloss: softmax\nmodel:\ntrain-size: null\n"))[0] == 0
    assert (searched.asked.losses, searched.asked.model, searched.asked.train_size) == (("softmax",), "", None)


def test_whole_numbers_are_numbers(command, searched, config):
    assert command("--config", config("dataset: digits\nreduction-factor: 4\ntime-budget: 2\n"))[0] == 0
    assert (searched.asked.reduction_factor, searched.asked.time_budget_min) == (4.0, 2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trails: 3", ["unknown option 'trails'", "did you mean trials?"]),
        ("max_epoch: 3", ["unknown option 'max_epoch'", "did you mean max-epochs?"]),
        ("Dataset: digits", ["unknown option 'Dataset'", "did you mean dataset?"]),
        ("3: 4", ["unknown option 3"]),
        ("yes: no", ["unknown option True"]),
        ("? [a, b]\n: 4", ["unknown option"]),
        ("trials: many", ["trials must be a whole number, got 'many'"]),
        ("trials: 1.5", ["trials must be a whole number, got 1.5"]),
        ("trials: true", ["trials must be a whole number, got True"]),
        ("trials: [3]", ["trials must be a whole number, got [3]"]),
        ("reduction-factor: 3e0", ["reduction-factor must be a number, got '3e0'"]),
        ("controls: 1", ["controls must be true or false, got 1"]),
        ("controls: 'yes'", ["controls must be true or false, got 'yes'"]),
        ("name: 2026", ["name must be text, got 2026", "quotes"]),
        ("name: 2026-11-28", ["name must be text", "quotes"]),
        ("loss: [softmax, 3]", ["loss must be text, or a list of it, got 3"]),
        ("loss: {softmax: 1}", ["loss must be text, or a list of it, got {'softmax': 1}"]),
        ("loss: &l [*l]", ["line 1", "recursive"]),
        ("resume: true", ["resume is for the command line alone"]),
        ("dry-run: true", ["dry-run is for the command line alone"]),
        ("add_loss: softmax", ["add-loss is for the command line alone"]),
        ("config: other.yaml", ["config is for the command line alone"]),
        ("trials: 3\ntrials: 4", ["trials is given twice"]),
        ("max-epochs: 3\nmax_epochs: 4", ["max-epochs is given twice"]),
        ("seed: [1", ["run.yaml, line 1: expected"]),
        ("a: b: c", ["line 1", "mapping values"]),
        ("seed: !!python/object/apply:os.getcwd []", ["line 1", "could not determine a constructor"]),
        ("seed: 2026-13-40", ["month"]),
        ("", ["holds no options"]),
        ("- dataset", ["holds no options"]),
        ("digits", ["holds no options"]),
        ("--- {a: 1}\n--- {b: 2}", ["line 2", "another document"]),
        ("[" * 1500, ["run.yaml"]),
        ("trials: 0", ["--trials must be positive"]),
        ("loss: adalos", ["unknown loss 'adalos'", "did you mean adaloss?"]),
        ("no-confirm: true\ncontrols: true", ["--no-confirm", "what --controls asks"]),
        ("study-storage: postgresql://u:s%40cret@h/db", ["study-storage in run.yaml holds a password", "PGPASSWORD"]),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(error_of, config, text, words):
    message = error_of("--config", config(text), *([] if "dataset" in text else ["--dataset", "digits"]))
    for word in words:
        assert word in message
    assert "cret" not in message
    assert len(message) < 300
    assert [path.name for path in Path().iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "long", "NUL"])
def test_what_is_no_file_of_options_is_said_in_one_line(error_of, empty_folder, kind):
    path = empty_folder / "x.yaml"
    if kind == "folder":
        path.mkdir()
    if kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    if kind == "long":
        path.write_text("#" * 1_000_001)
    assert "x.yaml" in error_of("--config", "x\0.yaml" if kind == "NUL" else path) or kind == "NUL"


def test_aliases_that_unfold_to_gigabytes_are_refused_at_once(error_of, config):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 20)
    ]
    message = error_of("--dataset", "digits", "--config", config("loss: &l\n- " + "\n".join(lines)[4:]))
    assert len(message) < 300


def test_an_existing_run_goes_on_with_its_own_file_but_not_as_another(command, error_of, searched, existing, config):
    file = config("dataset: digits\nseed: 3\ncpus-per-trial: 2\n")
    assert command("--resume", "--name", "one", "--config", file)[0] == 0
    assert searched.asked == replace(existing, cpus_per_trial=2.0)
    assert "--seed 4 differs from the run's 3" in error_of("--resume", "--config", config("seed: 4\n"))


# --- Writing ---------------------------------------------------------------------------------------------------------


def recorded(asked: SearchSettings, confirmation: ConfirmSettings | None, **invocation):
    """What run.json holds, as far as the file is made of it."""
    run = {
        "settings": asked.to_dict(),
        "dataset": {},
        "invocations": [{"time": 1.8e9, "versions": {"adaloss-search": "0.1.0"}, "git": {}, **invocation}],
    }
    return run if confirmation is None else {**run, "confirmation": {**asdict(confirmation), "history": []}}


SETTINGS = st.builds(
    SearchSettings,
    dataset=st.just("digits"),
    data_dir=st.none() | st.text(min_size=1).filter(lambda text: text.isprintable()),
    losses=st.lists(st.sampled_from(sorted(SEARCH_SPACES)), min_size=1, unique=True).map(tuple),
    model=st.sampled_from(["DigitsCNN", "resnet9"]),
    trials=st.integers(1, 10**6),
    max_epochs=st.integers(20, 100),
    grace_epochs=st.integers(1, 20),
    reduction_factor=st.floats(1.1, 1e20),
    time_budget_min=st.none() | st.floats(1e-20, 1e20),
    train_size=st.none() | st.integers(2, 10**9),
    batch_size=st.integers(2, 10**4),
    precision=st.sampled_from(PRECISIONS),
    cpus_per_trial=st.none() | st.floats(1e-7, 100),
    gpus_per_trial=st.none() | st.floats(0, 1),
    max_concurrent=st.none() | st.integers(1, 100),
    output=st.just("elsewhere"),
    name=st.just("other"),
    storage=st.none(),
    address=st.none(),
    seed=st.integers(0, 2**31),
    study_storage=st.none() | st.just("postgresql://u@h:5433/db?sslmode=require"),
    checkpoint_interval_s=st.floats(0, 1e6),
    niceness=st.integers(0, 19),
)
CONFIRMATION = st.none() | st.builds(
    ConfirmSettings,
    seeds=st.integers(1, 100),
    candidates=st.integers(1, 9),
    candidate_seeds=st.integers(1, 9),
    controls=st.just(False),
    robustness=st.integers(0, 100),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=SETTINGS, confirmation=CONFIRMATION, with_reference=st.booleans())
def test_the_file_of_a_run_asks_for_the_same_run(command, searched, asked, confirmation, with_reference):
    asked = replace(asked, reference=asked.losses[-1] if with_reference else None)
    write_config(Path(), recorded(asked, confirmation))
    places = ("--output", "elsewhere", "--name", "other")
    code, _, err = command("--config", "run.yaml", *places)
    assert (code, err) == (0, "")
    assert searched.asked == asked
    assert searched.confirmed == confirmation


def test_every_setting_is_in_the_file_or_is_a_place():
    """An option that is added to a search later is missed here until the file has it."""
    from tune.run_config import _PARTS

    written = [name for names in _PARTS.values() for name in names]
    written.append("own_losses")  # as the names of the losses
    assert sorted([*written, *PLACES]) == sorted(field.name for field in fields(SearchSettings))


def test_the_file_says_what_it_is_and_names_real_options(command, searched):
    command("--dataset", "digits", "--name", "one", "--study-storage", TEAM)
    git = {"revision": "abc123", "dirty": True}
    slots = {"concurrent": 2, "cpus_per_trial": 1.0}
    run = recorded(searched.asked, ConfirmSettings(controls=True), git=git, slots=slots)
    write_config(Path(), {**run, "added_losses": {"softmax": {"time": 1.0}}})
    text = Path("run.yaml").read_text()
    assert {name.replace("-", "_") for name in yaml.safe_load(text)} <= options_of(run_search.main).keys()
    assert "\n# that was begun 2027-01-15 08:00:00 UTC\n" in text
    assert "revision abc123 with changes" in text
    assert "python tune/run_search.py --config run.yaml --name NEW" in text
    assert "2 trials at a time, each with 1.0 CPU." in text
    assert "Later than the others came: softmax." in text
    assert all(re.fullmatch(r"#.*|[a-z-]+: \S.*|", line) for line in text.splitlines())


def test_no_place_and_no_secret_is_written(command, searched, monkeypatch):
    monkeypatch.setenv("ADALOSS_STUDY_STORAGE", WITH_SECRET)
    places = ("--output", "/some/machine", "--storage", "s3://key:secret@bucket", "--address", "ray://head:10001")
    assert command("--dataset", "digits", "--name", "one", *places)[0] == 0
    Path("one").mkdir()
    write_json_run("one", searched.asked)
    write_config(
        Path("one"), recorded(searched.asked, None) | {"settings": read_json(Path("one/run.json"))["settings"]}
    )
    text = Path("one/run.yaml").read_text()
    assert f"study-storage: {TEAM}" in text
    assert not {word for word in ("cret", "/some/machine", "s3://", "ray://") if word in text}


def test_a_text_of_a_run_is_no_more_than_text_in_its_file(command, searched):
    command("--dataset", "digits", "--name", "one", "--data-dir", "a: b # c\n- d")
    run = recorded(searched.asked, None, versions={"adaloss-search": "1\nseed: 9"}, git={"revision": "x\r\nseed: 8"})
    write_config(Path(), run)
    found = yaml.safe_load(Path("run.yaml").read_text())
    assert (found["seed"], found["data-dir"]) == (0, "a: b # c\n- d")


@pytest.mark.parametrize(
    "invocations", [[], [{}], [None], [{"time": None, "git": 3, "slots": []}], [{"slots": {"a": 1}}]]
)
def test_a_run_that_says_little_of_itself_still_has_its_file(command, searched, invocations):
    command("--dataset", "digits", "--name", "one")
    write_config(Path(), recorded(searched.asked, None) | {"invocations": invocations})
    assert command("--config", "run.yaml", "--name", "one")[0] == 0


def test_a_full_disk_leaves_the_old_file(command, searched, monkeypatch):
    command("--dataset", "digits", "--name", "one")
    write_config(Path(), recorded(searched.asked, None))
    before = Path("run.yaml").read_text()

    def full(self, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            write_config(Path(), recorded(replace(searched.asked, seed=1), None))
    assert Path("run.yaml").read_text() == before
    assert [path.name for path in Path().iterdir()] == ["run.yaml"]
