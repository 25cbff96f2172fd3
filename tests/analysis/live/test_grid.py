"""The live table of trials: a browser is sent the rows that changed and has all of them in the end."""

from hypothesis import given
from hypothesis import strategies as st

from analysis.live.grid import GRID, GridRows, detail_component
from analysis.live.runs import Runs
from analysis.plots import PAGES

TRIALS = next(page for page in PAGES if page.key == "trials")

_ROWS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2), max_size=6)


class Table:
    """A table as a browser has it."""

    def __init__(self):
        self.rows = {}

    def take(self, properties):
        if "rowData" in properties:
            self.rows = {row["id"]: row for row in properties["rowData"]}
            return
        told = properties["rowTransaction"]
        for row in told["remove"]:
            self.rows.pop(row["id"], None)
        for row in told["update"]:
            assert row["id"] in self.rows
        self.rows |= {row["id"]: row for row in (*told["update"], *told["add"])}


@given(st.lists(_ROWS, min_size=1, max_size=8), st.data())
def test_whenever_a_browser_asks_it_has_all_rows_afterwards(states, data):
    rows, table, seen = GridRows(), Table(), None
    for state in states:
        rows.update({key: {"id": key, "value": value} for key, value in state.items()})
        if data.draw(st.booleans()):
            table.take(rows.all() if seen is None else rows.since(seen))
            seen = rows.version
            assert table.rows == {key: {"id": key, "value": value} for key, value in state.items()}


def test_what_did_not_change_is_not_sent():
    rows = GridRows()
    rows.update({str(number): {"id": str(number), "value": 0} for number in range(2000)})
    version = rows.version
    rows.update({str(number): {"id": str(number), "value": int(number == 7)} for number in range(2001)})
    told = rows.since(version)["rowTransaction"]
    assert [row["id"] for row in told["update"]] == ["7"]
    assert [row["id"] for row in told["add"]] == ["2000"]
    assert told["remove"] == []
    rows.update({str(number): {"id": str(number), "value": int(number == 7)} for number in range(2001)})
    assert rows.version == version + 1


def test_an_epoch_of_a_trial_is_a_row_that_is_sent(new_run):
    run = new_run()
    run.trial("arcface", 0, [0.5, 0.6], None)
    run.trial("arcface", 1, [0.5, 0.6])
    runs = Runs([run.folder], interval_s=0)
    (before,) = (block for block in runs.look(TRIALS).blocks if block.rows)
    run.epoch("arcface", 0, 3, 0.7)
    (after,) = (block for block in runs.look(TRIALS).blocks if block.rows)
    told = after.update_of(GRID, before.digests[GRID])["rowTransaction"]
    assert [(row["trial"], row["accuracy"], row["epochs"]) for row in told["update"]] == [("arcface-0000", 70.0, 3)]
    assert after.update_of(GRID, None) == after.rows.all()


def test_details_are_those_of_the_trial_that_is_meant_or_none(new_run):
    run = new_run(dataset="mnist")
    run.trial("arcface", 0, [0.5, 0.6], "failed", error="<b>broke</b>")
    runs = Runs([run.folder], interval_s=0)
    assert runs.look(TRIALS).detail == []
    detail = str(runs.look(TRIALS, opened="mnist/arcface-0000").detail)
    assert "Pre(children='<b>broke</b>'" in detail
    assert f"--again {run.folder}/arcface-0000" in detail
    for unknown in ("mnist/nosuch", "nosuch/arcface-0000", "", "mnist", "/"):
        assert runs.look(TRIALS, opened=unknown).detail == []
    assert detail_component([], "mnist/arcface-0000") == []
