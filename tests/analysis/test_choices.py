"""Runs that are looked at together: p is corrected over these and no others, whichever way they were chosen."""

import itertools

import pytest

from analysis.findings import findings, together
from analysis.live.runs import Runs
from analysis.loading import load_run
from analysis.plots import PAGES
from analysis.plots.choices import choices_of

DATASETS = ("mnist", "cifar10", "digits", "fashion_mnist")


@pytest.fixture(scope="module")
def folders(example_run):
    return [example_run(dataset=name, seeds=8, controls=name == "mnist", trials=4, max_epochs=6) for name in DATASETS]


@pytest.fixture(scope="module")
def all_found(folders):
    return findings([load_run(folder) for folder in folders])


def plain_holm(values):
    """Holm, "A simple sequentially rejective multiple test procedure", 1979, written down as it is there."""
    order = sorted(range(len(values)), key=values.__getitem__)
    adjusted = {place: (len(values) - rank) * values[place] for rank, place in enumerate(order)}
    return [min(1.0, max(adjusted[other] for other in order[: order.index(place) + 1])) for place in range(len(values))]


@pytest.mark.parametrize("places", [(0,), (1, 3), (0, 1, 2), (0, 1, 2, 3)])
def test_p_is_corrected_over_the_chosen(all_found, places):
    chosen = together([all_found[place] for place in places])
    for kind in ("primary", "baseline", "control"):
        told = [verdict for found in chosen for verdict in found.verdicts if verdict.kind == kind]
        assert [v.p_holm for v in told] == pytest.approx(plain_holm([v.result.p for v in told]), abs=1e-12)
        assert {v.family for v in told} <= {len(told)}


def test_the_chosen_say_what_they_would_if_there_were_no_others(folders, all_found):
    for places in itertools.combinations(range(4), 2):
        chosen = together([all_found[place] for place in places])
        alone = findings([load_run(folders[place]) for place in places])
        for one, other in zip(chosen, alone, strict=True):
            assert one.verdicts == other.verdicts
            assert (one.adaptivity, one.caveats) == (other.adaptivity, other.caveats)


def test_the_static_page_has_every_choice_of_four_runs(all_found):
    choices = list(choices_of(all_found))
    assert len({choice.places for choice in choices}) == 15
    for choice in choices:
        chosen = together([all_found[place] for place in choice.places])
        sentences = [v.sentence for found in chosen for v in found.verdicts if v.kind != "control"]
        said = [line for card in choice.cards for line in card.statements]
        assert set(sentences) <= set(said)
        assert len(choice.paired.rows) == len(sentences)


def test_the_live_page_judges_what_a_browser_has_chosen(folders, all_found):
    runs = Runs(folders, interval_s=0)
    overview = PAGES[0]
    everything = runs.look(overview)
    one = runs.look(overview, frozenset({"cifar10", "digits", "fashion-mnist"}))
    (alone,) = together([all_found[0]])
    assert alone.verdicts[0].sentence in str(one.blocks[0].component)
    assert alone.verdicts[0].sentence not in str(everything.blocks[0].component)
    assert "cifar10" not in str(one.blocks)
    nothing = runs.look(overview, frozenset({"mnist", "cifar10", "digits", "fashion-mnist"}))
    assert str(nothing.blocks[0].component) == str(everything.blocks[0].component)  # there is always something to see


def test_a_run_that_grows_shows_what_it_would_when_read_anew(new_run):
    run = new_run("run", ("arcface", "adaloss", "softmax"))
    for loss in ("arcface", "adaloss", "softmax"):
        run.trial(loss, 0, [0.5, 0.6])
        run.seed_runs("winner", loss, [0.9, 0.91, 0.92])
    runs = Runs([run.folder], interval_s=0)
    runs.look(PAGES[0])
    before = runs._found[0].found
    run.epoch("arcface", 0, 3, 0.7)
    runs.look(PAGES[0])
    after = runs._found[0].found
    assert after.comparisons is before.comparisons  # no seed has come
    assert after.search[0]["epochs"] == 3
    (anew,) = findings([load_run(run.folder)])
    assert (after.verdicts, after.adaptivity, after.caveats) == (anew.verdicts, anew.adaptivity, anew.caveats)
    run.seed_run("winner", "adaloss", 3, 0.99)
    run.seed_run("winner", "arcface", 3, 0.9)
    runs.look(PAGES[0])
    (anew,) = findings([load_run(run.folder)])
    assert runs._found[0].found.verdicts == anew.verdicts != before.verdicts
