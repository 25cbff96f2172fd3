"""A user's own losses in a search: their spaces, going on with a run, its files, and the command that checks them."""

import json
import re
import sys
from dataclasses import replace

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import SEARCH_SPACES, Parameter, SearchSpace, log_uniform
from search_spaces.check import fault_in
from search_spaces.pml import PML_SPACES
from tests.trainables.own_losses import BROKEN, GOOD
from trainables import loss_code
from trainables.errors import UserError
from trainables.losses import LOSSES
from tune import check_loss, confirm, own_losses, run_search
from tune.own_losses import named_losses, with_known_code
from tune.run_config import write_config
from tune.settings import SearchSettings


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch, tmp_path):
    """What a test registers is gone after it; every test works in a folder of its own, with the good loss in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GOOD)
    monkeypatch.setattr(loss_code, "_registered", {})
    before = dict(LOSSES), dict(SEARCH_SPACES)
    yield
    for registry, known in zip((LOSSES, SEARCH_SPACES), before, strict=True):
        registry.clear()
        registry.update(known)


@pytest.fixture
def asked_for(monkeypatch, called):
    """Runs the search's command and returns what it would have searched with."""
    wanted = []
    monkeypatch.setattr(run_search, "_run", lambda asked, console: wanted.append(asked) or 0)
    monkeypatch.delenv("ADALOSS_DATA", raising=False)

    def ask(*options):
        code, _, err = called(run_search.main, *options)
        assert code == 0, err
        return wanted[-1]

    return ask


DIGITS = ("--dataset", "digits", "--name", "run", "--loss", "arcface", "--loss", "mine.py:Mine")


@pytest.fixture
def begun(asked_for, tmp_path):
    """A run with a loss in a file, which was interrupted."""
    settings = asked_for(*DIGITS).settings
    settings.folder.mkdir(parents=True)
    (settings.folder / "run.json").write_text(json.dumps({"settings": settings.to_dict()}))
    return settings


def refused(called, main, *options):
    code, out, err = called(main, *options)
    assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
    return err


def test_a_loss_gets_its_name_its_space_and_its_place_among_the_others(asked_for):
    settings = asked_for(*DIGITS, "--reference", "mine.py:Mine").settings
    assert (settings.losses, settings.reference) == (("arcface", "mine"), "mine")
    assert [code.reference for code in settings.own_losses] == ["mine.py:Mine"]
    names = [parameter.name for parameter in SEARCH_SPACES["mine"].parameters]
    assert names[-2:] == ["scale", "margin"]
    assert SEARCH_SPACES["mine"].first_points[0]["scale"] == 16.0  # the middle of log[4, 64]
    assert SEARCH_SPACES["mine"].first_points[1]["margin"] == 0.2  # of U[0, 0.4]
    assert asked_for(*DIGITS[:-2], "--loss", "pml:CosFaceLoss").settings.losses == ("arcface", "pml_CosFaceLoss")


def test_a_loss_that_takes_no_label_smoothing_is_not_tuned_over_it(tmp_path):
    text = GOOD.replace(", label_smoothing=0.0)", ")").replace(", label_smoothing=label_smoothing", "")
    (tmp_path / "mine.py").write_text(text.replace(", label_smoothing=self.label_smoothing", ""))
    named_losses(["mine.py:Mine"])
    assert "label_smoothing" not in SEARCH_SPACES["mine"].first_points[0]
    assert all("label_smoothing" in point for point in SEARCH_SPACES["arcface"].first_points)


def test_a_class_without_a_space_has_the_shared_parameters_and_its_own_name(tmp_path):
    text = GOOD.replace("*, scale, margin,", "*, scale=8.0, margin=0.1,").replace("    search_space =", "    unused =")
    (tmp_path / "mine.py").write_text(text)
    names, (code,) = named_losses(["mine.py:Mine"])
    assert names == ("Mine",) == (code.name,)
    assert SEARCH_SPACES["Mine"].parameters == SEARCH_SPACES["softmax"].parameters


def test_what_is_no_space_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD.replace("search_space = ", "search_space = 3 #"))
    with pytest.raises(UserError, match="search_space must be a SearchSpace, got int; such as SearchSpace"):
        named_losses(["mine.py:Mine"])
    space = 'SearchSpace("mine", own=(SCALE,), own_points=({"scale": "large"}, {}))#'
    (tmp_path / "mine.py").write_text(GOOD.replace("search_space = ", f"search_space = {space} "))
    with pytest.raises(UserError, match=r"in its search space own_points gives 'large' to scale log\[4, 64\]"):
        named_losses(["mine.py:Mine"])


@pytest.mark.parametrize("name", ["gated", "mean_margin", "candidate", "all", "AdaLoss", "SOFTMAX"])
def test_a_name_that_would_be_taken_for_another_is_refused(tmp_path, name):
    (tmp_path / "mine.py").write_text(GOOD.replace('"mine"', f'"{name}"'))
    with pytest.raises(UserError, match=f"the name {name} would be taken for"):
        named_losses(["mine.py:Mine"])


MARGIN = Parameter("margin", FloatDistribution(0.0, 0.4))
FAULTS = {
    "own must hold objects of the class Parameter, got ('x', 1)": {"own": (("x", 1),)},
    "margin is there twice": {"own": (MARGIN, Parameter("margin", FloatDistribution(0.0, 0.6)))},
    "learning_rate is there twice": {"own": (Parameter("learning_rate", FloatDistribution(0.0, 0.6)),)},
    "two parameters set margin": {"own": (MARGIN, Parameter("other", FloatDistribution(0, 1), argument="margin"))},
    "'sub margin' cannot be the name": {"own": (Parameter("sub margin", FloatDistribution(0.0, 0.6)),)},
    "'loss' cannot be the name": {"own": (Parameter("loss", FloatDistribution(0.0, 0.6)),)},
    "steps_per_epoch sets steps_per_epoch, which is the trial's": {
        "own": (Parameter("steps_per_epoch", FloatDistribution(1, 2)),)
    },
    "kind has the choice (1, 2)": {"own": (Parameter("kind", CategoricalDistribution(((1, 2), (3, 4)))),)},
    "margin must have a FloatDistribution": {"own": (Parameter("margin", (0.0, 1.0)),)},
    "margin depends on kind, which is not drawn before it": {
        "own": (Parameter("margin", FloatDistribution(0.0, 0.4), when=("kind", "a")),)
    },
    "own_points must hold 2 points": {"own": (MARGIN,), "own_points": ({"margin": 0.1},)},
    "own_points gives 5.0 to margin U[0, 0.4]": {"own": (MARGIN,), "own_points": ({"margin": 5.0}, {})},
    "own_points gives zz, which is none of": {"own": (MARGIN,), "own_points": ({"zz": 5.0}, {})},
}


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_space_that_a_run_would_stumble_over_is_refused(fault):
    assert fault_in(SearchSpace("mine", **FAULTS[fault])).startswith(fault)


@pytest.mark.parametrize("space", [*SEARCH_SPACES.values(), *PML_SPACES.values()], ids=lambda space: space.loss)
def test_no_space_of_this_project_has_a_fault(space):
    assert fault_in(space) is None


def test_the_same_loss_twice_and_unknown_names_are_refused(called):
    assert "there are two losses called mine" in refused(called, run_search.main, *DIGITS, "--loss", "mine.py:Mine")
    assert "unknown loss 'nosuch'" in refused(called, run_search.main, *DIGITS, "--loss", "nosuch")


def test_going_on_with_a_run_needs_its_code_named_and_unchanged(begun, asked_for, called, tmp_path):
    assert list(begun.code_options) == ["--loss", "mine.py:Mine"]
    go_on = ("--resume", "--name", "run")
    said = refused(called, run_search.main, *go_on)
    assert "runs only where you name it: add --loss mine.py:Mine" in said
    resumed = asked_for(*go_on, "--loss", "mine.py:Mine")
    assert resumed.settings == begun
    assert resumed.go_on.endswith("--resume --output results --name run --loss mine.py:Mine")
    assert asked_for(*go_on, *DIGITS[4:]).settings == begun

    (tmp_path / "mine.py").rename(tmp_path / "moved.py")
    assert asked_for(*go_on, "--loss", "moved.py:Mine").settings.own_losses[0].reference == "moved.py:Mine"
    (tmp_path / "mine.py").write_text(GOOD.replace("0.4", "0.5"))
    said = refused(called, run_search.main, *go_on, "--loss", "mine.py:Mine")
    assert "the code of mine is not what the run was started with, which is kept in results/run/loss_mine.py" in said
    said = refused(called, run_search.main, *go_on, "--loss", "moved.py:Mine", "--loss", "softmax")
    assert "--loss mine, softmax differs from the run's arcface, mine" in said


def test_going_on_runs_nothing_that_only_the_record_names(begun, called, tmp_path):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{GOOD}")
    for command in ((run_search.main, "--resume", "--name", "run"), (confirm.main, "results/run")):
        refused(called, *command)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "own",
    [
        {"kind": "pml"},
        {"kind": "entry point"},
        {"kind": "zzz"},
        {"kind": []},
        {"kind": "pml", "reference": "this:d"},
        {"reference": 5},
        {"name": "../mine"},
        {"further": 1},
        None,
        5,
    ],
)
def test_a_record_that_was_edited_runs_nothing(begun, called, tmp_path, own):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{GOOD}")
    record = json.loads((begun.folder / "run.json").read_text())
    edited = record["settings"]["own_losses"][0]
    record["settings"]["own_losses"] = [{**edited, **own}] if isinstance(own, dict) else own
    (begun.folder / "run.json").write_text(json.dumps(record))
    for command in ((run_search.main, "--resume", "--name", "run"), (confirm.main, "results/run")):
        assert re.search("was edited, or written by|was written by another version", refused(called, *command))
    assert not (tmp_path / "ran").exists()
    assert "this" not in sys.modules


def test_a_further_loss_of_ones_own_is_added(begun, asked_for, tmp_path):
    (tmp_path / "other.py").write_text(GOOD.replace('"mine"', '"other"'))
    settings = asked_for("--resume", "--name", "run", "--loss", "mine.py:Mine", "--add-loss", "other.py:Mine").settings
    assert settings.losses == ("arcface", "mine", "other")
    assert [code.name for code in settings.own_losses] == ["mine", "other"]


def test_one_trial_again_needs_the_code_of_its_loss_alone(begun, asked_for, called):
    for loss, config in (("mine", {"scale": 8.0, "margin": 0.1}), ("arcface", {"scale": 8.0, "margin_rad": 0.1})):
        (begun.folder / loss).mkdir()
        shared = SEARCH_SPACES["softmax"].first_points[0]
        event = {"event": "started", "trial_id": f"{loss}-0000", "number": 0, "time": 1.0, "loss": loss}
        event |= {"config": {**shared, "loss": loss, "loss_args": config}}
        (begun.folder / loss / "trials.jsonl").write_text(json.dumps(event) + "\n")
    again = ("--again", "results/run/mine-0000", "--name", "once")
    assert "add --loss mine.py:Mine" in refused(called, run_search.main, *again)
    assert asked_for(*again, "--loss", "mine.py:Mine").settings.losses == ("mine",)
    settings = asked_for("--again", "results/run/arcface-0000", "--name", "twice").settings
    assert (settings.losses, settings.own_losses) == (("arcface",), ())


def test_settings_come_back_from_a_run_and_those_of_earlier_versions_have_none(begun):
    assert SearchSettings.from_dict(begun.to_dict()) == begun
    earlier = {key: value for key, value in begun.to_dict().items() if key != "own_losses"}
    assert SearchSettings.from_dict(earlier) == replace(begun, own_losses=())


def test_run_yaml_names_the_code_and_runs_none(begun, asked_for, called):
    write_config(begun.folder, {"settings": begun.to_dict()})
    written = yaml.safe_load((begun.folder / "run.yaml").read_text())
    assert written["loss"] == ["arcface", "mine.py:Mine"]
    again = ("--config", "results/run/run.yaml", "--name", "again")
    said = refused(called, run_search.main, *again)
    assert "which runs only where you name it: add --loss arcface --loss mine.py:Mine" in said
    (begun.folder / "run.yaml").rename("mine.yaml")  # a file of one's own, as a command line is
    for options in ((*again, "--loss", "arcface", "--loss", "mine.py:Mine"), ("--config", "mine.yaml", *again[2:])):
        write_config(begun.folder, {"settings": begun.to_dict()})
        settings = asked_for(*options).settings
        assert (settings.losses, settings.own_losses) == (begun.losses, begun.own_losses)


def test_an_installed_loss_of_a_run_need_not_be_named(asked_for):
    settings = asked_for("--dataset", "digits", "--name", "lib", "--loss", "pml:CosFaceLoss").settings
    known, values = with_known_code(SearchSettings.from_dict(settings.to_dict()), {"seed": 0})
    assert known == settings
    assert values == {"seed": 0}
    changed = replace(settings, own_losses=(replace(settings.own_losses[0], sha256="0" * 64),))
    with pytest.raises(UserError, match="the code of pml_CosFaceLoss is not what the run was started with"):
        with_known_code(changed, {})


def test_a_name_that_is_nowhere_is_no_entry_point(monkeypatch):
    monkeypatch.setattr(own_losses, "is_entry_point", lambda name: False)
    assert named_losses(["softmax", "nosuch"]) == (("softmax", "nosuch"), ())


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_says_of_each_rule_whether_it_is_kept(called):
    code, out, err = called(check_loss.main, "mine.py:Mine")
    assert (code, err) == (0, "")
    assert out.startswith("mine: Mine, 6 tuned parameters\n  learning_rate log[0.01, 1]\n")
    assert out.count("\nok ") > 10
    assert out.endswith("mine keeps the contract; search with it: --loss mine.py:Mine\n")


@pytest.mark.parametrize("problem", ["its loss is not a scalar", "its state is lost in a checkpoint: it goes on"])
def test_the_command_says_which_rule_is_broken_and_how(called, tmp_path, problem):
    (tmp_path / "mine.py").write_text(BROKEN[problem])
    code, out, err = called(check_loss.main, "mine.py:Mine")
    assert code == 1
    assert problem in out
    assert err.startswith("error: mine breaks ")


def test_the_command_knows_the_losses_of_this_project_too(called):
    assert called(check_loss.main, "adaloss")[0] == 0
    assert "unknown loss 'adalos' (did you mean adaloss?)" in refused(called, check_loss.main, "adalos")


def test_spaces_fill_in_what_their_first_points_leave_out():
    own = (
        Parameter("kind", CategoricalDistribution(("a", "b"))),
        Parameter("only_a", log_uniform(0.01, 1.0), when=("kind", "a")),
        Parameter("only_b", FloatDistribution(0.0, 3.0), when=("kind", "b")),
        Parameter("count", IntDistribution(1, 9, log=True)),
    )
    first, second = SearchSpace("mine", own=own, own_points=({}, {"kind": "b", "count": 7})).first_points
    assert {name: first[name] for name in first if name not in SEARCH_SPACES["softmax"].first_points[0]} == {
        "kind": "a",
        "only_a": pytest.approx(0.1),
        "count": 3,
    }
    assert (second["kind"], second["only_b"], second["count"], "only_a" in second) == ("b", 1.5, 7, False)
