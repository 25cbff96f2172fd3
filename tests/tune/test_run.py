"""A whole run: what follows what, on data that is loaded once and in one run of Ray's."""

import contextlib
import io
from types import SimpleNamespace

import pytest
from rich.console import Console

import tune.run as module
import tune.session
from trainables.errors import UserError
from tune.cluster.slots import Slots
from tune.confirmation.run import ConfirmOutcome
from tune.run import confirm_run, search_and_confirm
from tune.search.run import SearchOutcome
from tune.settings import ConfirmSettings, SearchSettings

CONFIRMED = ConfirmOutcome(None, {}, [])


@pytest.fixture
def settings(tmp_path):
    return SearchSettings(
        dataset="digits", data_dir=None, losses=("arcface", "softmax"), model="", trials=2, max_epochs=2,
        grace_epochs=1, reduction_factor=3.0, time_budget_min=None, train_size=320, batch_size=64, precision="auto",
        cpus_per_trial=None, gpus_per_trial=None, max_concurrent=None, output=str(tmp_path), name="run", storage=None,
        address=None, seed=0,
    )  # fmt: skip


@pytest.fixture
def stages(monkeypatch):
    """In the place of search and confirmation: what was asked of them, and how they shall end; Ray is counted."""
    stages = SimpleNamespace(search=SearchOutcome(None, {}), sessions=[], entered=[], loaded=[], is_listening=[])

    @contextlib.contextmanager
    def connect(address, data_bytes):
        stages.entered.append(data_bytes)
        yield

    def load(*arguments, **options):
        stages.loaded.append(arguments)
        return genuine(*arguments, **options)

    def search(session, place, confirmation, *, resume, later):
        stages.sessions.append(session)
        return stages.search
        yield

    def confirmation(session, asked):
        stages.sessions.append(session)
        return CONFIRMED
        yield

    genuine = tune.session.load_training_data
    monkeypatch.setattr(tune.session, "connect", connect)
    monkeypatch.setattr(tune.session, "load_training_data", load)
    monkeypatch.setattr(tune.session, "slots_for", lambda *_: Slots(1.0, 0.0, 2, 1))
    monkeypatch.setattr(tune.session, "NodeCheck", lambda root, losses: contextlib.nullcontext())
    monkeypatch.setattr(module, "search_stages", search)
    monkeypatch.setattr(module, "confirmation_stages", confirmation)
    return stages


def run(settings, confirmation=ConfirmSettings(), resume=False):  # noqa: B008  frozen
    return search_and_confirm(settings, confirmation, resume=resume, console=Console(file=io.StringIO()))


def test_search_and_confirmation_share_one_ray_and_data_that_is_loaded_once(settings, stages):
    outcome = run(settings)
    assert outcome.confirmation is CONFIRMED
    assert len(stages.entered) == len(stages.loaded) == 1
    first, second = stages.sessions
    assert first is second
    assert first.settings.model == "DigitsCNN"


def test_a_run_keeps_the_model_that_it_was_begun_with(settings, stages):
    """The digits had another default once; their runs have its name on record."""
    from dataclasses import replace

    run(replace(settings, model="ArcFaceCNN"))
    assert stages.sessions[0].settings.model == "ArcFaceCNN"


def test_ray_has_room_for_what_the_confirmation_reads_too(settings, stages):
    run(settings, None)
    run(settings)
    image = 28 * 28
    searched = (320 + 250) * image
    assert stages.entered == [searched, 2 * searched + 297 * image]


def test_a_search_alone_is_not_confirmed(settings, stages):
    assert run(settings, None).confirmation is None
    assert len(stages.sessions) == 1


@pytest.mark.parametrize(
    "ended",
    [
        SearchOutcome("SIGTERM", {}),
        SearchOutcome(None, {}, unreachable="Connection refused"),
        SearchOutcome(None, {"arcface": "no", "softmax": "no"}),
    ],
)
def test_what_has_not_come_to_its_end_or_has_no_winner_is_not_confirmed(settings, stages, ended):
    stages.search = ended
    outcome = run(settings)
    assert (outcome.search, outcome.confirmation) == (ended, None)


def test_losses_that_always_failed_are_named_before_the_others_are_confirmed(settings, stages, capsys):
    stages.search = SearchOutcome(None, {"softmax": "ValueError: [no]\x1b good"})
    assert run(settings).confirmation is CONFIRMED
    assert capsys.readouterr().err == "error: every trial of softmax failed; the first: ValueError: [no]  good\n"


def test_what_cannot_run_never_enters_ray(settings, stages):
    from dataclasses import replace

    (settings.folder).mkdir()
    (settings.folder / "run.json").touch()
    for bad, words in (
        (settings, "exists already"),
        (replace(settings, name="b", model="ArcFaceCNN_CIFAR10"), "does not take the 28x28x1 images"),
        (replace(settings, name="c", train_size=10**6), "train size"),
        (replace(settings, name="d", losses=("x",)), "unknown loss"),
    ):
        with pytest.raises(UserError, match=words):
            run(bad)
    assert stages.entered == []


def test_a_precision_that_needs_a_gpu_is_refused_where_there_is_none(settings, stages):
    from dataclasses import replace

    with pytest.raises(UserError, match="--precision fp16 needs GPUs"):
        run(replace(settings, precision="fp16"))
    assert stages.sessions == []
    assert not settings.folder.exists()


def test_a_confirmation_of_its_own_enters_ray_once_as_well(settings, stages, monkeypatch):
    monkeypatch.setattr(module, "check_finished", lambda settings: None)
    asked = confirm_run(settings, ConfirmSettings(), console=Console(file=io.StringIO()))
    assert asked is CONFIRMED
    assert len(stages.entered) == len(stages.loaded) == 1


def test_a_signal_is_heard_in_the_session_and_no_longer_after_it(settings, stages, monkeypatch):
    import os
    import signal

    before = signal.getsignal(signal.SIGTERM)

    def interrupted(session, place, confirmation, *, resume, later):
        os.kill(os.getpid(), signal.SIGTERM)
        return SearchOutcome(session.interruption.name, {})
        yield

    monkeypatch.setattr(module, "search_stages", interrupted)
    assert run(settings).search.interrupted == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before
