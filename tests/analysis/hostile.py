"""A run whose every text tries to be more than text."""

import json
from pathlib import Path

from tests.analysis.example_run import write_example_run
from tune.records import LossRecords

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<b>bold</b>",
    '<a href="http://elsewhere.invalid/x">link</a>',
    "%{x} %{customdata}",
    "a&lt;b&amp;",
    "\"quoted' --> <!--",
    "</title><img src=http://elsewhere.invalid/y onerror=alert(4)>",
    "x" * 300,
    "\u202eright to left\n\n<br>new line\x00",
)

TRIAL = "arcface-'\"<i onload=alert(7)>"


def write_hostile_run(folder: Path) -> Path:
    """Write an example run with hostile names of classes, data set, model, folder and provenance; return its folder."""
    run = write_example_run(
        folder / "evil <img src=x onerror=alert(5)>",
        losses=("arcface", "adaloss", "adaloss_per_class"),
        seeds=2,
        trials=12,
        max_epochs=6,
    )
    path = run / "run.json"
    info = json.loads(path.read_text())
    info["dataset"] |= {"classes": list(HOSTILE), "name": "/data/<i>birds</i> %{x} &amp;"}
    info["settings"]["model"] = "<svg onload=alert(3)>"
    info["invocations"][-1] = {
        "command": "</script> rm -rf <b>/</b>",
        "versions": {"torch": ["<u>"], "ray": {"a": "</script>"}},
        "git": {"revision": "<i>" * 5, "dirty": "<b>"},
        "hardware": {"cpu": "<b>", "cpus": "<i>", "gpus": [{"name": "</script>"}]},
    }
    path.write_text(json.dumps(info))
    records = LossRecords(run / "arcface")
    config = {"loss": "arcface", "<img src=x onerror=alert(6)>": "<b>&amp;</b>", "loss_args": {"</script>": HOSTILE[1]}}
    records.event(TRIAL, "started", config=config)
    records.epoch(TRIAL, {"epoch": 1, "val_accuracy": 0.5, "seconds": 1.0, "node_ip": HOSTILE[0]})
    records.event(TRIAL, "failed", error="\n".join(HOSTILE))
    return run
