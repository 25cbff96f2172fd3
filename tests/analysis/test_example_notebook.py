"""The example notebook runs as it is, and what its cells show is what a comparison says."""

import json
import re

import nbclient
import nbformat
import pytest

from analysis.compare import main as compare
from tests.test_project import PROJECT

NOTEBOOK = PROJECT / "analysis" / "example.ipynb"
RUN = {"dataset": "cifar10", "seeds": 6, "trials": 6, "max_epochs": 4}


def primary(run):
    return run["confirmation"]["verdicts"][0]


def best(run):
    return max(loss["best"]["val_accuracy"] for loss in run["losses"])


# Of each cell that shows something: a number in it, by an expression of the cell's result `_`, and the same number in
# what `analysis/compare.py --json` prints.
NUMBERS = {
    "load": ("_.records[0].folder.name", lambda run: run["dataset"]),
    "tables": ("len(_)", lambda run: 10),
    "columns": ("_.loc['best_val_accuracy', 'dtype']", lambda run: "float64"),
    "search": ("_['best_val_accuracy'].max()", best),
    "trials": ("int(_['adaloss'])", lambda run: run["losses"][1]["epochs"]),
    "sentence": ("_", lambda run: primary(run)["sentence"]),
    "verdicts": ("_.loc[0, 't_low']", lambda run: primary(run)["result"]["t_interval"]["low"]),
    "figure": (
        "[t.x[0] for t in _.data if t.name == 'mean' and len(t.x) == 1][0]",
        lambda run: round(100 * primary(run)["result"]["mean"], 4),
    ),
    "images": ("_.loc['mean', 'adaloss']", lambda run: primary(run)["first_accuracy"]),
    "difference": ("_", lambda run: primary(run)["result"]["mean"]),
    "apart": (
        "_.iloc[:, 0].sum() + difference[difference.abs() < 0.5].sum()",
        lambda run: primary(run)["result"]["mean"] * primary(run)["images_too"]["images"],
    ),
    "balance": (
        "_['first ahead'] + _['second ahead'] + int((difference == 0).sum())",
        lambda run: primary(run)["images_too"]["images"],
    ),
}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_results_and_in_order(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert {cell.id for cell in cells} == {"setup", "parameters", *NUMBERS}
    assert "/work" not in NOTEBOOK.read_text()
    assert re.search(r"/(?:home|Users|root)/\w", NOTEBOOK.read_text()) is None


def test_its_numbers_are_those_of_a_comparison(notebook, example_run, tmp_path, monkeypatch, called):
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))  # nothing of the user's, and nothing left there
    folder = example_run(**RUN)
    cells = []
    for cell in notebook.cells:
        if cell.id == "parameters":
            cell.source = f"folder = {str(folder)!r}"
        cells.append(cell)
        if cell.id in NUMBERS:
            expression = NUMBERS[cell.id][0]
            probe = f"import json; print(json.dumps({expression}, default=float))"
            cells.append(nbformat.v4.new_code_cell(probe, id=f"probe-{cell.id}"))
    asked = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    nbclient.NotebookClient(asked, timeout=240, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()

    code, out, _ = called(compare, "--json", folder)
    assert code == 0
    (run,) = json.loads(out)
    shown = {cell.id: cell for cell in asked.cells}
    for name, (_, known) in NUMBERS.items():
        (printed,) = (output.text for output in shown[f"probe-{name}"].outputs)
        value = known(run)
        expected = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
        assert json.loads(printed) == expected, name
        kind = "display_data" if name == "figure" else "execute_result"
        assert [output.output_type for output in shown[name].outputs] == [kind], name
    assert primary(run)["sentence"] in shown["load"].outputs[0].data["text/plain"]
    assert "application/vnd.plotly.v1+json" in shown["figure"].outputs[0].data
