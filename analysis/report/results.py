"""The results of a study as Markdown for a README: every number and every sentence that has one, from the records."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from analysis.arms import name_of
from analysis.formatting import duration, interval_pp, listed, p_value, percent, points
from analysis.report.document import Block, Items, Paragraph, Table, to_markdown
from analysis.report.losses import accuracy_cells
from analysis.report.outcome import contributions, draws_say, gap_says, headline, holds, open_questions, plan_says
from analysis.report.settings import FEWEST, MOST, WORSE, Setting
from analysis.report.study import DataSet
from analysis.statistics.claims import CLAIMED, PUBLISHED, Claim
from analysis.statistics.generality import ImagesToo
from analysis.statistics.stats import Interval
from analysis.statistics.unplanned import ArmDifference
from analysis.statistics.verdict import Verdict
from analysis.statistics.work import pflop

__all__ = ["PictureFile", "results_markdown"]

PictureFile = tuple[str, str, str]  # paths in light and in dark colours, and the caption


def results_markdown(data_sets: Sequence[DataSet], pictures: Sequence[PictureFile]) -> str:
    """Return the results, the answer first.

    Args:
        data_sets: of the study.
        pictures: to show, with paths as the README has to name them.
    """
    parts = [
        *map(_bold, headline(data_sets)),
        to_markdown(_claim(data_sets)),
        *_paragraphs(data_sets),
        *map(_picture, pictures),
        *(_folded(title, blocks) for title, blocks in _tables(data_sets) if blocks),
    ]
    return "\n\n".join(parts)


def _picture(picture: PictureFile) -> str:
    light, dark, caption = picture
    alt = caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{alt}" src="{light}" width="700"></picture>\n\n{to_markdown([Paragraph(caption)])}'
    )


def _folded(title: str, blocks: Sequence[Block]) -> str:
    return f"<details><summary>{title}</summary>\n\n{to_markdown(blocks)}\n\n</details>"


# --- Beside the published numbers ------------------------------------------------------------------------------------


def _claim(data_sets: Sequence[DataSet]) -> list[Block]:
    columns = ("data set", "settings", "AdaLoss", "ArcFace", "difference, pp", *_INTERVALS, "n", "outcome")
    rows = [row for data in data_sets for row in _claim_rows(data)]
    text = (
        "Test accuracy, published and here: means over paired seeds, with 95 % intervals of the difference for other "
        "seeds, and for other seeds and other test images. The published numbers are of single untuned runs whose test "
        "accuracy was watched."
    )
    return [Paragraph(text), Table(columns, tuple(rows), left=2)]


_INTERVALS = ("other seeds", "other seeds and images")


def _claim_rows(data: DataSet) -> Iterator[tuple[str, ...]]:
    if published := PUBLISHED.get(data.name):
        ours = (percent(published[loss]) for loss in CLAIMED)
        gap = points(published[CLAIMED[0]] - published[CLAIMED[1]])
        yield (data.title, "published", *ours, gap, "-", "-", "-", "-")
    for claim in data.main.claims:
        tuned = claim.settings == "winner"
        images = (
            data.primary.images_too if tuned and data.primary else data.untuned.images_too if data.untuned else None
        )
        yield (
            data.title,
            "tuned" if tuned else "published defaults",
            percent(claim.adaloss),
            percent(claim.arcface),
            points(claim.result.mean),
            *_both(claim.result.t_interval, images),
            str(claim.result.n),
            _claim_outcome(claim, data.primary if tuned else None),
        )


def _claim_outcome(claim: Claim, verdict: Verdict | None) -> str:
    gap = "" if claim.published_gap is None else f"published gap {_GAP.get(claim.outcome, claim.outcome)}"
    return "; ".join(part for part in (verdict.decision if verdict else "", gap) if part) or "-"


_GAP = {"smaller": "in part reproduced", "larger": "exceeded", "uncertain": "uncertain"}


def _both(interval: Interval | None, images: ImagesToo | None) -> tuple[str, str]:
    return interval_pp(interval) or "-", interval_pp(images.interval) if images else "-"


# --- Paragraphs ------------------------------------------------------------------------------------------------------


def _paragraphs(data_sets: Sequence[DataSet]) -> Iterator[str]:
    gaps = [gap for data in data_sets if (gap := gap_says(data))]
    yield to_markdown([Paragraph(" ".join([plan_says(data_sets), *gaps]))])
    decided, undecided = _by_data(data_sets, holds), _by_data(data_sets, open_questions)
    if decided or undecided:
        yield _led("What holds.", decided or "No comparison of losses is decided.")
        yield _led("What is open.", undecided or "Every comparison of losses is decided.")
    yield _led("Under which budget.", " ".join(_budget(data) for data in data_sets))
    for data in data_sets:
        if parts := " ".join(contributions(data)):
            yield _led(f"Gate, start and rates on {data.title}.", parts)
        if drawn := " ".join(draws_say(data)):
            yield _led(f"Without tuning on {data.title}.", drawn)
    if notes := [f"{data.title}: {note}" for data in data_sets for note in data.main.caveats]:
        yield to_markdown([Items(tuple(notes))])


def _led(lead: str, text: str) -> str:
    """Return a paragraph that begins with what it is about, in bold."""
    return f"{_bold(lead)} {to_markdown([Paragraph(text)])}"


def _bold(text: str) -> str:
    return f"**{to_markdown([Paragraph(text)])}**"


def _by_data(data_sets: Sequence[DataSet], say: Callable[[DataSet], list[str]]) -> str:
    said = ((data.title, say(data)) for data in data_sets)
    return " ".join(f"{title}: {'; '.join(parts)}." for title, parts in said if parts)


def _budget(data: DataSet) -> str:
    settings = data.main.run.info["settings"]
    asked = data.main.run.confirmation or {}
    images = data.main.run.info["dataset"]
    seconds = sum(row.search_seconds + row.run_seconds for found in data.runs for row in found.spent)
    work = _total_pflop(data)
    spent = f"{duration(seconds)} of training" + ("" if work is None else f" and {work:.2g} PFLOP")
    return (
        f"{data.title}: {settings['model']} on {images['train_images']:,} images, {settings['trials']} trials of at "
        f"most {settings['max_epochs']} epochs for each of {listed(map(name_of, data.main.run.losses))}, "
        f"{asked.get('candidates')} candidates on {asked.get('candidate_seeds')} seeds, {asked.get('seeds')} paired "
        f"seeds; {spent} in all."
    )


def _total_pflop(data: DataSet) -> float | None:
    """Return what all runs of a data set took, None where one of them does not tell."""
    works = [pflop(found.run) for found in data.runs]
    return sum(sum(work.values()) for work in works) if all(works) else None


# --- Tables ----------------------------------------------------------------------------------------------------------


def _tables(data_sets: Sequence[DataSet]) -> Iterator[tuple[str, list[Block]]]:
    yield "Test accuracy of every arm", _accuracies(data_sets)
    yield "Every comparison of losses", _comparisons(data_sets, controls=False)
    yield "AdaLoss against its controls", _comparisons(data_sets, controls=True)
    yield "Random draws", _draws(data_sets)
    yield "The settings that matter most", _settings(data_sets)
    yield "What it took", _spent(data_sets)


_SETTINGS = {"winner": "tuned", "untuned": "published defaults", "control": "control"}


def _accuracies(data_sets: Sequence[DataSet]) -> list[Block]:
    columns = ("data set", "arm", "settings", "mean", "sd, pp", "lowest", "highest", "seeds", "failed")
    rows = [
        (
            data.title,
            name_of(row.arm),
            _SETTINGS[row.role],
            *accuracy_cells(row),
        )
        for data in data_sets
        for row in data.main.accuracies
    ]
    return [Table(columns, tuple(rows), left=3)] if rows else []


def _comparisons(data_sets: Sequence[DataSet], *, controls: bool) -> list[Block]:
    columns = ("data set", "comparison", "pp", *_INTERVALS, "p_holm", "P(A>B)", "n", "verdict")
    rows = []
    for data in data_sets:
        verdicts = [v for v in data.main.verdicts if (v.kind == "control") == controls and v.result]
        rows += [_verdict_row(data, verdict) for verdict in verdicts]
        extra = (data.start, data.gate_for_arcface) if controls and verdicts else ()
        rows += [_difference_row(data, difference) for difference in extra if difference]
    if not rows:
        return []
    text = "p_holm is the exact sign-flip test's, corrected over all comparisons that ask the same on all data sets."
    if controls:
        text += " Rows without it are in no family: they were not planned, and are told by their intervals alone."
    return [Paragraph(text), Table(columns, tuple(rows), left=2)]


def _verdict_row(data: DataSet, verdict: Verdict) -> tuple[str, ...]:
    result = verdict.result
    assert result is not None
    assert verdict.p_holm is not None
    return (
        data.title,
        f"{name_of(verdict.first)} - {name_of(verdict.second)}",
        points(result.mean),
        *_both(result.t_interval, verdict.images_too),
        p_value(verdict.p_holm),
        f"{result.superiority.share:.2f}",
        str(result.n),
        verdict.decision,
    )


def _difference_row(data: DataSet, difference: ArmDifference) -> tuple[str, ...]:
    result = difference.result
    return (
        data.title,
        f"{name_of(difference.first[1])} - {name_of(difference.second[1])}",
        points(result.mean),
        *_both(result.t_interval, difference.images_too),
        "-",
        f"{result.superiority.share:.2f}",
        str(result.n),
        "-",
    )


def _draws(data_sets: Sequence[DataSet]) -> list[Block]:
    columns = ("data set", "loss", "draws", "collapsed", "lower quartile", "median", "upper quartile", "best")
    rows = [
        (
            data.drawn_title,
            name_of(arm.arm),
            str(arm.draws),
            f"{arm.collapsed} ({100 * arm.collapsed / arm.draws:.0f} %)",
            *map(percent, (arm.lower_quartile, arm.median, arm.upper_quartile, arm.best)),
        )
        for data in data_sets
        if data.drawn and data.drawn.robustness
        for arm in data.drawn.robustness.arms
    ]
    bounds = {percent(d.drawn.robustness.bound): None for d in data_sets if d.drawn and d.drawn.robustness}
    text = (
        "Random configurations, each trained to its end, by validation accuracy; shared values are the same for all. "
        f"Collapsed: at most {' and '.join(bounds)}."
    )
    return [Paragraph(text), Table(columns, tuple(rows), left=2)] if rows else []


def _settings(data_sets: Sequence[DataSet]) -> list[Block]:
    columns = ("data set", "loss", "setting", "share", "good values", "searched", "chosen")
    rows = [
        (
            data.drawn_title,
            f"{name_of(loss.loss)} ({loss.good} of {loss.draws} draws are good)",
            _setting_name(setting.name),
            f"{100 * setting.share:.0f} %",
            _good(setting),
            _searched(setting.searched),
            "-" if setting.chosen is None else _value(setting.chosen),
        )
        for data in data_sets
        for loss in data.settings
        for setting in loss.settings
    ]
    text = (
        f"The {MOST} settings of each loss that matter most over its random draws. Share: of the variance of "
        "validation accuracy that single settings explain, by fANOVA; rough with so few draws. Good values: from the "
        f"lowest to the highest among the draws that make at most {WORSE:g} times as many errors as the best one, and "
        f"among the {FEWEST} best in any case, whatever their other settings are. What only some draws have, as a "
        "target of the difficulty, is left out. Chosen: by the search, which may lie outside."
    )
    return [Paragraph(text), Table(columns, tuple(rows), left=3)] if rows else []


def _setting_name(name: str) -> str:
    for ending, unit in (("_rad_per_epoch", " (rad/epoch)"), ("_rad", " (rad)")):
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " ") + unit
    return name.replace("_", " ")


def _value(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, int | float) else str(value)


def _good(setting: Setting) -> str:
    if setting.low is None or setting.high is None:
        return ", ".join(map(_value, setting.choices))
    return f"{_value(setting.low)} to {_value(setting.high)}"


def _searched(distribution: BaseDistribution) -> str:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log):
            return f"{low:g} to {high:g}{', log' if log else ''}"
        case CategoricalDistribution(choices=choices):
            return ", ".join(map(_value, choices))
    return str(distribution)


def _spent(data_sets: Sequence[DataSet]) -> list[Block]:
    columns = ("data set", "loss", "trials", "runs", "failed", "epochs", "time", "PFLOP")
    rows = []
    for data in data_sets:
        for found in data.runs:
            works = pflop(found.run)
            title = data.title if found is data.main else f"{data.title}, draws"
            for row in found.spent:
                rows.append(
                    (
                        title,
                        name_of(row.name),
                        str(row.trials) if row.trials_asked else "-",
                        str(row.runs),
                        str(row.failed_trials + row.failed_runs),
                        f"{row.search_epochs + row.run_epochs:,}",
                        duration(row.search_seconds + row.run_seconds),
                        f"{works[row.name]:.2g}" if row.name in works else "-",
                    )
                )
    text = (
        "Trials of the search and runs of the confirmation, what they trained, and the time of training and judging, "
        f"summed over runs that go side by side, on {listed(_hardware(data_sets))}. PFLOP: 10^15 operations of the "
        "model, a multiplication and an addition being two."
    )
    return [Paragraph(text), Table(columns, tuple(rows), left=2)] if rows else []


def _hardware(data_sets: Sequence[DataSet]) -> list[str]:
    """Return the machines of the runs, each once."""
    machines = [
        invocation.get("hardware") or {}
        for data in data_sets
        for found in data.runs
        for invocation in found.run.info["invocations"]
    ]
    named = [f"{machine.get('cpu')} ({machine.get('cpus')} cores)" for machine in machines if machine.get("cpu")]
    return list(dict.fromkeys(named)) or ["a machine that is not on record"]
