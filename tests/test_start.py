"""How little a command loads before it knows that there is something to do: help and wrong input come at once."""

import subprocess
import sys

import pytest

from tests.test_project import PROJECT
from tune.invocation import COMMANDS, module_of

HEAVY = {"torch", "ray", "pandas", "scipy", "sklearn", "plotly", "dash", "mlflow"}
PROGRAM = """
import contextlib, importlib, io, sys
sys.path.insert(0, {project!r})
command = importlib.import_module({module!r})
from tune.console import run_command
for arguments in {calls!r}:
    sys.argv = ["command", *arguments]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            command.main() if {module!r} == "tune.cli" else run_command(command.main)
        except SystemExit as end:
            code = end.code
    print(code, said.getvalue().count("\\n"), *sorted(set(sys.modules) & {heavy!r}))
"""
CONFIG = str(PROJECT / "tests" / "tune" / "run_search" / "digits.yaml")
WRONG = {
    "tune.run_search": [
        [],
        ["--no-such-option"],
        ["--dataset", "cifra10"],
        ["--dataset", "digits", "--trials", "0"],
        ["--dataset", "digits", "--loss", "adalos"],
        ["--dataset", "digits", "--loss", "nosuch.py:Mine"],
        ["--dataset", "digits", "--model", "resnet"],
        ["--dataset", "digits", "--confirm-seeds", "0"],
        ["--resume", "--name", "nosuch"],
        ["--resume", "--dry-run"],
        ["--dataset", "digits", "--dry-run", "--loss", "adalos"],
        ["--config", "nosuch.yaml"],
        ["--config", CONFIG, "--trials", "0"],
    ],
    "tune.check_loss": [[], ["adalos"], ["nosuch.py:Mine"], ["a/b:Mine"], ["nosuch.module:Mine"], [":Mine"]],
    "tune.confirm": [[], ["nosuch"], ["nosuch", "--confirm-seeds", "many"]],
    "tune.predict": [[], ["nosuch.pt", "."], [".", "."], ["nosuch.pt"], ["nosuch.pt", ".", "--json", "--csv"]],
    "tune.export": [[], ["nosuch.pt", "model.onnx"], [".", "model.onnx"]],
    "analysis.compare": [[], ["nosuch"], ["nosuch", "--json", "--csv"]],
    "analysis.dashboard": [[], ["nosuch", "--html", "page.html"], ["nosuch"], ["nosuch", "--port", "many"]],
    "analysis.publish": [[], ["nosuch"], ["nosuch", "--to", "."]],
    "analysis.results": [[], ["nosuch"], ["nosuch", "--readme", "nosuch.md", "--pictures"]],
}
WRONG["tune.cli"] = [
    ["nosuch"],
    ["--nosuch"],
    *([command, *call] for command in COMMANDS for call in WRONG[module_of(command)] if call),
]


@pytest.mark.parametrize("module", WRONG)
def test_help_and_wrong_input_load_nothing_heavy(module, tmp_path):
    calls = [["--help"], *WRONG[module]]
    program = PROGRAM.format(project=str(PROJECT), module=module, calls=calls, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (code, lines, *loaded), *wrong = (line.split() for line in done.stdout.splitlines())
    assert (code, loaded) == ("0", [])
    assert int(lines) > 10
    assert [(call, line) for call, line in zip(calls[1:], wrong, strict=True) if line != ["2", "1"]] == []


def test_the_driver_of_a_search_trains_nothing_and_loads_no_torch():
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(PROJECT)!r})
        import tune.run
        from trainables.config import TrialConfig
        TrialConfig(loss="arcface", loss_args={{}}, model="ArcFaceCNN", max_epochs=1)
        print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "False\n"
