"""The results as Markdown: every number in the tables recomputed from the files, without the code that made it."""

import base64
import json

import numpy as np
import pytest
from markdown_it import MarkdownIt
from scipy import stats

from analysis.findings import load_findings
from analysis.report.results import results_markdown
from analysis.report.study import arranged

LOSSES = ("arcface", "adaloss", "adaloss_per_class", "softmax")
NAMES = {
    **{"arcface": "ArcFace", "adaloss": "AdaLoss", "adaloss_per_class": "AdaLoss per class", "softmax": "softmax"},
    **{"mean_margin": "mean-margin ArcFace", "final_margin": "final-margin ArcFace", "gated": "gated ArcFace"},
    **{"linear_ramp": "linear-ramp ArcFace", "yoked_replay": "yoked-replay ArcFace", "gate_off": "ungated AdaLoss"},
}
ARMS = {name: arm for arm, name in NAMES.items()}
TITLES = {"MNIST": "mnist", "CIFAR-10": "cifar10"}
OPTIONS = [
    {"dataset": "mnist", "losses": LOSSES, "robustness": 24, "max_epochs": 6},
    {"dataset": "cifar10", "losses": LOSSES, "max_epochs": 8, "seed": 1},
]
DRAWS = {
    "dataset": "cifar10",
    "losses": LOSSES,
    "robustness": 12,
    "seeds": 1,
    "trials": 1,
    "controls": False,
    "seed": 2,
}


@pytest.fixture(scope="module")
def folders(example_run):
    return [example_run(**options) for options in (*OPTIONS, DRAWS)]


@pytest.fixture(scope="module")
def markdown(folders):
    return results_markdown(arranged(load_findings(folders)), [])


@pytest.fixture(scope="module")
def tables(markdown):
    """Every table by its first heads, as rows of texts."""
    found, row = [], None
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            row = []
            found[-1].append(row)
        elif token.type == "inline" and token.level > 3:
            row.append("".join(child.content for child in token.children))
    return {tuple(table[0][:3]): [dict(zip(table[0], row, strict=True)) for row in table[1:]] for table in found}


@pytest.fixture(scope="module")
def records(folders):
    """The lines of confirm.jsonl, by data set; those of the run for draws by its own key."""
    return {
        key: [json.loads(line) for line in (folder / "confirm.jsonl").read_text().splitlines()]
        for key, folder in zip(("mnist", "cifar10", "draws"), folders, strict=True)
    }


def of(records, role, arm):
    """The lines of an arm, by pair."""
    return {line["pair"]: line for line in records if (line["role"], line["arm"]) == (role, arm)}


def accuracies(records, role, arm):
    lines = of(records, role, arm)
    return np.array([lines[pair]["test_accuracy"] for pair in sorted(lines)])


def images(records, role, arm):
    """Whether each image was right, a row a pair."""
    rows = []
    for _, line in sorted(of(records, role, arm).items()):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(line["correct_bits"]), np.uint8))
        rows.append(bits[: np.sum(line["confusion"])])
    return np.array(rows, dtype=float)


def ends(mean, half):
    return "[{:.2f}, {:.2f}]".format(*(round(100 * end, 2) + 0.0 for end in (mean - half, mean + half)))


def interval(differences):
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"[{100 * (differences.mean() - half):.2f}, {100 * (differences.mean() + half):.2f}]".replace(
        "-0.00", "0.00"
    )


def interval_with_images(first, second):
    """By the variances of a table of seeds and images, each written out."""
    d = first - second
    n, m = d.shape
    seeds = m * d.mean(axis=1).var(ddof=1)
    per_image = n * d.mean(axis=0).var(ddof=1)
    rest = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    both = (rest**2).sum() / ((n - 1) * (m - 1))
    parts = [(seeds, n - 1), (per_image, m - 1), (both, (n - 1) * (m - 1))] if per_image > both else [(seeds, n - 1)]
    variance = seeds + per_image - both if per_image > both else seeds
    freedom = variance**2 / sum(square**2 / of_it for square, of_it in parts)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance / (n * m))
    return ends(d.mean(), half)


def sign_flips(differences):
    n = len(differences)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return float((np.abs(signs @ differences) >= np.abs(differences.sum()) - 1e-12).mean())


def number(value):
    """A difference in percentage points, as it is written."""
    return f"{round(100 * value, 2) + 0.0:+.2f}"


# --- The tables ------------------------------------------------------------------------------------------------------


def test_the_first_table_has_the_published_numbers_beside_ours(tables, records):
    rows = tables["data set", "settings", "AdaLoss"]
    assert [(row["data set"], row["settings"]) for row in rows] == [
        (title, settings) for title in TITLES for settings in ("published", "published defaults", "tuned")
    ]
    published = [row for row in rows if row["settings"] == "published"]
    assert [(row["AdaLoss"], row["ArcFace"], row["difference, pp"]) for row in published] == [
        ("99.11 %", "97.86 %", "+1.25"),
        ("68.13 %", "62.35 %", "+5.78"),
    ]
    for row in rows:
        role = {"published defaults": "untuned", "tuned": "winner"}.get(row["settings"])
        if role is None:
            continue
        mine = records[TITLES[row["data set"]]]
        adaloss, arcface = (accuracies(mine, role, loss) for loss in ("adaloss", "arcface"))
        assert row["AdaLoss"] == f"{100 * adaloss.mean():.2f} %"
        assert row["ArcFace"] == f"{100 * arcface.mean():.2f} %"
        assert row["difference, pp"] == number((adaloss - arcface).mean())
        assert row["other seeds"] == interval(adaloss - arcface)
        both = [images(mine, role, loss) for loss in ("adaloss", "arcface")]
        assert row["other seeds and images"] == interval_with_images(*both)
        assert row["n"] == "10"


@pytest.mark.parametrize("controls", [False, True])
def test_comparisons_and_controls_are_those_of_the_files(markdown, tables, records, controls):
    text = markdown.partition("AdaLoss against its controls")[2 if controls else 0]
    rows = _table_in(text if controls else text.partition("Every comparison of losses")[2])
    assert len(rows) == (16 if controls else 10)
    families = {}
    for row in rows:
        first, second = (ARMS[name] for name in row["comparison"].split(" - "))
        mine = records[TITLES[row["data set"]]]
        sides = [("winner" if arm in LOSSES else "control", arm) for arm in (first, second)]
        a, b = (accuracies(mine, *side) for side in sides)
        assert row["pp"] == number((a - b).mean())
        assert row["other seeds"] == interval(a - b)
        assert row["other seeds and images"] == interval_with_images(*(images(mine, *side) for side in sides))
        assert row["P(A>B)"] == f"{((a > b) + 0.5 * (a == b)).mean():.2f}"
        if row["p_holm"] != "-":
            family = second if second in ("arcface", "softmax") else "control"
            families.setdefault(family, []).append((sign_flips(a - b), row["p_holm"]))
    assert {len(found) for found in families.values()} == ({12} if controls else {4, 6})
    for found in families.values():
        raw = sorted(p for p, _ in found)
        corrected = np.minimum(np.maximum.accumulate([(len(raw) - i) * p for i, p in enumerate(raw)]), 1)
        shown = sorted((text for _, text in found), key=lambda text: float(text.strip("<")))
        assert shown == [f"{p:.3f}" if p >= 0.0005 else "<0.001" for p in corrected]


def _table_in(text):
    lines = [line for line in text.partition("</details>")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("\\", "") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_every_arm_has_its_accuracies(tables, records):
    rows = tables["data set", "arm", "settings"]
    assert len(rows) == 2 * (4 + 2 + 6)
    for row in rows:
        role = {"tuned": "winner", "published defaults": "untuned", "control": "control"}[row["settings"]]
        values = accuracies(records[TITLES[row["data set"]]], role, ARMS[row["arm"]])
        assert (row["mean"], row["sd, pp"]) == (f"{100 * values.mean():.2f} %", f"{100 * values.std(ddof=1):.2f}")
        assert (row["lowest"], row["highest"]) == (f"{100 * values.min():.2f} %", f"{100 * values.max():.2f} %")
        assert (row["seeds"], row["failed"]) == ("10", "0")


def test_draws_that_collapse_are_counted(tables, records):
    rows = tables["data set", "loss", "draws"]
    assert len(rows) == 2 * (4 + 1)
    for row in rows:
        lines = records["mnist" if row["data set"] == "MNIST" else "draws"]
        found = of(lines, "robustness", ARMS[row["loss"]]).values()
        values = np.array([0.1 if line["val_accuracy"] is None else line["val_accuracy"] for line in found])
        collapsed = int((values <= 0.15).sum())
        assert row["draws"] == str(len(values))
        assert row["collapsed"] == f"{collapsed} ({100 * collapsed / len(values):.0f} %)"
        assert (row["median"], row["best"]) == (f"{100 * np.median(values):.2f} %", f"{100 * values.max():.2f} %")
    assert any(not row["collapsed"].startswith("0 ") for row in rows)


def test_what_it_took_is_the_sum_of_all_epochs(tables, records, folders):
    rows = tables["data set", "loss", "trials"]
    totals = {}
    for row in rows:
        key = {"MNIST": "mnist", "CIFAR-10": "cifar10", "CIFAR-10, draws": "draws"}[row["data set"]]
        totals[key] = totals.get(key, 0) + int(row["epochs"].replace(",", ""))
    for key, folder in zip(("mnist", "cifar10", "draws"), folders, strict=True):
        searched = sum(len((folder / loss / "epochs.jsonl").read_text().splitlines()) for loss in LOSSES)
        assert totals[key] == searched + sum(line["epochs"] for line in records[key])


def test_settings_are_three_a_loss_and_lie_in_their_range(tables):
    rows = tables["data set", "loss", "setting"]
    assert len(rows) == 2 * 4 * 3
    for row in rows:
        assert 0 <= int(row["share"].removesuffix(" %")) <= 100
        if " to " in row["good values"]:
            low, high = map(float, row["good values"].split(" to "))
            least, most = map(float, row["searched"].removesuffix(", log").split(" to "))
            assert least * 0.95 <= low <= high <= most * 1.05


# --- The whole -------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_first_thing_that_is_said(markdown):
    assert markdown.startswith("**AdaLoss ")


def test_one_data_set_alone_has_results_too(folders):
    text = results_markdown(arranged(load_findings(folders[:1])), [])
    assert "CIFAR-10 is not there yet.**" in text.partition("\n")[0]
    assert "| CIFAR-10 |" not in text


def test_a_study_without_controls_and_draws_says_nothing_of_them(example_run):
    found = load_findings([example_run(dataset="mnist", controls=False)])
    text = results_markdown(arranged(found), [])
    for part in (
        "controls</summary>",
        "draws</summary>",
        "settings that matter most",
        "Gate, start and rates",
        "Random draws",
    ):
        assert part not in text
    assert "Test accuracy of every arm" in text


def test_a_search_that_is_not_confirmed_yet_has_no_results_but_its_cost(new_run):
    run = new_run("run", ("arcface", "adaloss"), dataset="mnist")
    run.rewrite(confirmation={"seeds": 10, "candidates": 3, "candidate_seeds": 3, "history": []})
    run.trial("arcface", 0, [0.9, 0.95, 0.97])
    text = results_markdown(arranged(load_findings([run.folder])), [])
    assert text.startswith("**There is no verdict on AdaLoss and ArcFace yet.")
    assert "What holds." not in text
    assert "Of 10 paired seeds, ArcFace has 0 and AdaLoss has 0 so far" in text
    assert "| MNIST | ArcFace | 1 | 0 | 0 | 3 | 6 s | - |" in text
    assert text.count("<details>") == 1


@pytest.mark.parametrize(("partial", "title"), [(True, "MNIST, 100 images"), (False, "MNIST")])
def test_draws_on_a_part_of_the_images_are_told_as_such(new_run, partial, title):
    run = new_run("run", ("arcface", "adaloss"), dataset="mnist", partial=partial)
    run.rewrite(confirmation={"seeds": 10, "candidates": 3, "candidate_seeds": 3, "history": []})
    run.seed_runs("robustness", "arcface", [0.1, 0.2, 0.9, None])
    text = results_markdown(arranged(load_findings([run.folder])), [])
    assert f"| {title} | ArcFace | 4 | 2 (50 %) | 10.00 % | 15.00 % |" in text


def test_results_do_not_depend_on_the_order_of_runs(folders, markdown):
    assert results_markdown(arranged(load_findings(folders[::-1])), []) == markdown


def test_pictures_are_shown_light_and_dark_with_a_text_that_html_takes(folders):
    caption = 'Accuracy "here" < there & elsewhere.'
    text = results_markdown(arranged(load_findings(folders[:1])), [("a-light.png", "a-dark.png", caption)])
    assert '<source media="(prefers-color-scheme: dark)" srcset="a-dark.png">' in text
    assert '<img alt="Accuracy &quot;here&quot; &lt; there &amp; elsewhere." src="a-light.png" width="700">' in text
