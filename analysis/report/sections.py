"""Findings as a report: what is said, in which order and in which words."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.arms import name_of
from analysis.findings import Accuracy, Findings
from analysis.formatting import duration, interval_pp, listed, p_value, percent, points
from analysis.report.document import Block, Heading, Items, Paragraph, Table
from analysis.report.losses import SETTINGS, accuracy_cells, classes_blocks, ranking_blocks
from analysis.statistics.claims import PUBLISHED
from analysis.statistics.convergence import Lead
from analysis.statistics.robustness import Robustness
from analysis.statistics.verdict import Verdict
from tune.records.roles import CONTROLS_OF

__all__ = ["details", "head", "images_line", "no_verdict", "overall", "verdict_blocks"]

_MANY = 5  # main comparisons; beyond it intervals and remarks of each are left to the exports


def head(found: Findings) -> list[Block]:
    """Return what was searched, and what the search came to."""
    run, settings = found.run, found.run.info["settings"]
    images = run.info["dataset"]["train_images"]
    part = f", a part of it ({images} training images)" if run.info["dataset"]["partial"] else ""
    title = (
        f"{run.dataset}{part}, {settings['model']}: {settings['trials']} trials per loss, "
        f"at most {settings['max_epochs']} epochs"
    )
    columns = ("loss", "best val. acc.", "trial", "trials", "finished", "stopped", "failed", "epochs", "time")
    lines = []
    for loss in found.search:
        if loss["best"] and not found.is_confirmed:  # else the chosen ones are named
            lines.append(f"best {loss['loss']}: {_config(loss['best']['config'])}")
        if loss["first_error"]:
            lines.append(f"{loss['loss']}: {loss['failed']} failed; the first: {loss['first_error']}")
    if not found.is_confirmed:
        if found.run.confirmation is not None:
            lines.append(_waiting(found))
        lines.append("validation accuracy of single runs, the best of many: not yet a comparison of the losses")
    table = Table(columns, tuple(_search_row(loss) for loss in found.search))
    return [Paragraph(title), table, *([Items(tuple(lines))] if lines else [])]


def _search_row(loss: Mapping[str, Any]) -> tuple[str, ...]:
    best = loss["best"]
    return (
        loss["loss"],
        percent(best["val_accuracy"]) if best else "-",
        best["trial_id"] if best else "-",
        f"{loss['trials']}" + (f" ({loss['unfinished']} unfinished)" if loss["unfinished"] else ""),
        *(str(loss[key]) for key in ("finished", "stopped", "failed", "epochs")),
        f"{loss['seconds'] / 60:.1f} min",
    )


def _config(config: Mapping[str, Any]) -> str:
    arguments = config.get("loss_args")
    flat = {key: value for key, value in config.items() if key not in {"loss", "loss_args"}}
    flat |= arguments if isinstance(arguments, dict) else {}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in flat.items()
    )


def _waiting(found: Findings) -> str:
    done = len(found.run.seed_runs)
    return f"the confirmation has {done} runs behind it, none of them of a paired seed: there is no verdict yet"


def verdict_blocks(found: Findings) -> list[Block]:
    """Return the verdict: the main comparisons a line each, the others, the controls, and what limits it all."""
    blocks: list[Block] = [Heading(f"Verdict on {found.run.dataset}"), *_main_blocks(found)]
    said = {pair.kind for pair in found.main_pairs}
    titles = {
        ("baseline", ""): "Against losses without a margin",
        **{("control", loss): f"Against {name_of(loss)}'s controls" for loss in CONTROLS_OF},
    }
    for (kind, loss), title in titles.items():
        group = [verdict for verdict in found.verdicts if verdict.kind == kind and loss in ("", verdict.first)]
        if group and kind not in said:
            family = max(verdict.family for verdict in group)
            intro = f"{title}, p_holm corrected over {family} comparison{'s' if family != 1 else ''}:"
            blocks += [Paragraph(intro), _comparisons(group), *_notes(group)]
    if found.adaptivity:
        blocks.append(Paragraph(found.adaptivity))
    if found.claims:
        blocks += _claim_blocks(found)
    if found.caveats:
        blocks.append(Items(tuple(f"Note: {caveat}" for caveat in found.caveats)))
    return blocks


def _main_blocks(found: Findings) -> list[Block]:
    """Return what the run asks and its answers: of a few all that there is to say, of many a line and the remarks."""
    answers = found.main_verdicts
    if len(answers) > _MANY:
        return [Items(tuple(verdict.sentence for verdict in answers)), *_notes(answers)]
    lines = [line for verdict in answers for line in _main_lines(verdict)] or [no_verdict(found)]
    return [Items(tuple(lines))]


def _main_lines(verdict: Verdict) -> list[str]:
    lines = [verdict.sentence]
    if verdict.result and verdict.result.bca_interval:
        share = verdict.result.superiority
        lines.append(
            f"    BCa bootstrap interval {interval_pp(verdict.result.bca_interval)}, P(A>B) {share.share:.2f} "
            f"[{share.interval.low:.2f}, {share.interval.high:.2f}], p {p_value(verdict.result.p)} before Holm's "
            f"correction over {verdict.family}"
        )
    lines += [f"    {line}" for line in (images_line(verdict),) if line]
    return lines + [f"    {note}" for note in verdict.notes]


def images_line(verdict: Verdict) -> str:
    """Return how far the difference holds beyond the test images, and what pairing by seed did."""
    parts = []
    if verdict.images_too is not None:
        parts.append(
            f"for other test images as well as other seeds {interval_pp(verdict.images_too.interval)} "
            f"({verdict.images_too.images:,} images)"
        )
    if verdict.correlation is not None:
        parts.append(f"correlation within pairs {verdict.correlation:+.2f}")
    return ", ".join(parts)


def no_verdict(found: Findings) -> str:
    """Return why there is nothing to say of the losses."""
    losses = [loss for loss in found.run.losses if loss in found.run.arms("winner")]
    if not losses:
        return "no paired seed is finished: there is no verdict"
    if len(losses) == 1:
        return f"only {name_of(losses[0])} has paired seeds: there is nothing to compare it with"
    asked = found.main_pairs
    missing = dict.fromkeys(loss for pair in asked for loss in (pair.first, pair.second) if loss not in losses)
    pairs = listed(f"{name_of(pair.first)} - {name_of(pair.second)}" for pair in asked)
    return f"{pairs}: not compared, no paired seed of {listed(map(name_of, missing))}"


def _comparisons(group: Sequence[Verdict]) -> Table:
    columns = ("comparison", "pp", "95 % interval", "p_holm", "P(A>B)", "n", "verdict", "seeds needed")
    return Table(columns, tuple(_comparison_row(verdict) for verdict in group))


def _comparison_row(verdict: Verdict) -> tuple[str, ...]:
    name = f"{name_of(verdict.first)} - {name_of(verdict.second)}"
    result = verdict.result
    if result is None or verdict.p_holm is None:
        return (name, "-", "-", "-", "-", "0", verdict.decision, "-")
    return (
        name,
        points(result.mean),
        interval_pp(result.t_interval) or "-",
        p_value(verdict.p_holm),
        f"{result.superiority.share:.2f}",
        str(result.n),
        verdict.decision,
        f"{verdict.seeds_needed:,}" if verdict.seeds_needed else "-",
    )


def _notes(group: Sequence[Verdict]) -> list[Block]:
    """Return the remarks on several comparisons, each once with those that it is about."""
    about: dict[str, list[str]] = {}
    for verdict in group:
        for note in verdict.notes:
            about.setdefault(note, []).append(f"{name_of(verdict.first)} - {name_of(verdict.second)}")
    lines = [note if len(names) == len(group) else f"{'; '.join(names)}: {note}" for note, names in about.items()]
    return [Items(tuple(lines))] if lines else []


def _claim_blocks(found: Findings) -> list[Block]:
    published = PUBLISHED.get(found.run.dataset)
    if published is None:
        intro = "AdaLoss and ArcFace; on this data set no accuracies are published to check:"
        return [Paragraph(intro), Items(tuple(claim.sentence for claim in found.claims))]
    gap = points(published["adaloss"] - published["arcface"])
    intro = (
        f"The published claim: AdaLoss {percent(published['adaloss'])}, ArcFace {percent(published['arcface'])}, "
        f"difference {gap} pp, of single untuned runs. The study names no settings; its defaults are taken to be "
        "ArcFace's own, scale 64 and margin 0.5 rad (arXiv:1801.07698), and an AdaLoss that starts from them."
    )
    return [Paragraph(intro), Items(tuple(claim.sentence for claim in found.claims))]


def details(found: Findings) -> list[Block]:
    """Return what the verdict rests on: accuracies, speed, random draws, and what it all cost."""
    blocks: list[Block] = []
    if found.accuracies:
        blocks += [
            Heading("Test accuracy"),
            Paragraph(
                "Trained on train + validation, read once after the last epoch, over the paired seeds. Validation: "
                "with which the configuration was chosen."
            ),
            _accuracies(found.accuracies),
            *ranking_blocks(found.ranking),
            *classes_blocks(found.classes),
        ]
    return [*blocks, *_speed_blocks(found), *_robustness_blocks(found), *_budget_blocks(found)]


def _accuracies(rows: Sequence[Accuracy]) -> Table:
    columns = ("arm", "settings", "mean", "sd, pp", "lowest", "highest", "seeds", "failed", "validation")
    return Table(
        columns,
        tuple(
            (
                name_of(row.arm),
                SETTINGS[row.role],
                *accuracy_cells(row),
                "-" if row.validation is None else percent(row.validation),
            )
            for row in rows
        ),
        left=2,
    )


def _speed_blocks(found: Findings) -> list[Block]:
    speed = found.speed
    if speed is None:
        return []
    reached = {arrival.threshold for arrival in speed.arrivals if arrival.reached}
    never = sorted({arrival.threshold for arrival in speed.arrivals} - reached)
    rows = [
        (
            percent(arrival.threshold),
            name_of(arrival.loss),
            f"{arrival.reached} of {arrival.seeds}",
            "never" if arrival.epochs is None else f"{arrival.epochs:g}",
            "-" if arrival.seconds is None else duration(arrival.seconds),
        )
        for arrival in speed.arrivals
        if arrival.threshold in reached
    ]
    how = "90, 95 and 99 % of the lowest final accuracy" if speed.derived else "fixed for the data set"
    text = (
        f"Epochs and training time until the chosen configuration first has a validation accuracy ({how}): medians "
        "over the seeds on which it was chosen; a seed that never gets there counts as longer than any."
    )
    if never:
        text += f" Reached by none: {listed(map(percent, never))}."
    columns = ("accuracy", "loss", "seeds", "epochs", "time")
    leads = [lead for lead in speed.leads if lead.pairs or lead.only_first or lead.only_second]
    return [
        Heading("Convergence speed"),
        Paragraph(text),
        Table(columns, tuple(rows), left=2),
        *([_leads(leads)] if leads else []),
    ]


def _leads(leads: Sequence[Lead]) -> Table:
    rows = []
    for lead in leads:
        interval, seconds = lead.epochs_interval, lead.seconds_interval
        rows.append(
            (
                percent(lead.threshold),
                f"{name_of(lead.first)} - {name_of(lead.second)}",
                str(lead.pairs),
                f"{lead.only_first} / {lead.only_second}",
                "-" if lead.epochs is None else f"{lead.epochs:+.1f}",
                "-" if interval is None else f"[{interval.low:.1f}, {interval.high:.1f}]",
                "-" if lead.seconds is None else f"{lead.seconds:+.3g} s",
                "-" if seconds is None else f"[{seconds.low:.3g}, {seconds.high:.3g}]",
            )
        )
    columns = ("accuracy", "A - B by seed", "both", "only A / B", "epochs", "95 % interval", "time", "95 % interval")
    return Table(columns, tuple(rows), left=2)


def _robustness_blocks(found: Findings) -> list[Block]:
    robust = found.robustness
    if robust is None:
        return []
    spread = tuple(
        (
            name_of(arm.arm),
            str(arm.draws),
            str(arm.failed),
            f"{arm.collapsed} ({100 * arm.collapsed / arm.draws:.0f} %)",
            *map(percent, (arm.lower_quartile, arm.median, arm.upper_quartile, arm.best)),
        )
        for arm in robust.arms
    )
    draws = sorted({k for arm in robust.arms for k in arm.expected.draws})
    best_of = []
    for arm in robust.arms:
        values = dict(zip(arm.expected.draws, arm.expected.values, strict=True))
        best_of.append((name_of(arm.arm), *(percent(values[k]) if k in values else "-" for k in draws)))
    compared = tuple(
        (
            f"{name_of(d.first)} - {name_of(d.second)}",
            points(d.median),
            points(d.result.mean),
            interval_pp(d.result.t_interval) or "-",
            p_value(d.result.p),
            f"{d.result.superiority.share:.2f}",
            str(d.result.n),
            f"{d.only_first_collapsed} / {d.only_second_collapsed}",
            p_value(d.collapse_p),
        )
        for d in robust.differences
    )
    intro = (
        "Random configurations, each run to its full length, judged on validation; shared values are the same for all "
        f"losses. Collapsed: at most {percent(robust.bound)}, chance being {percent(found.run.chance)}; a draw that "
        "failed counts at chance."
    )
    blocks: list[Block] = [
        Heading("Robustness to tuning"),
        Paragraph(intro),
        Table(("loss", "draws", "failed", "collapsed", "lower quartile", "median", "upper quartile", "best"), spread),
        Paragraph("Expected best of so many independent draws (unbiased):"),
        Table(("loss", *map(str, draws)), tuple(best_of)),
    ]
    if compared:
        columns = ("paired by draw", "median", "mean, pp", "95 % interval", "p", "P(A>B)", "n", "fell A / B", "p")
        text = "Differences by draw; p is not corrected; fell: only that one collapsed, with p of McNemar's exact test:"
        blocks += [Paragraph(text), Table(columns, compared)]
    return [*blocks, *_luck_blocks(robust)]


def _luck_blocks(robust: Robustness) -> list[Block]:
    """Return how much luck is in tuning: with few trials, and with early stopping."""
    blocks: list[Block] = []
    counts = sorted({k for difference in robust.differences for k in difference.best_of})
    if counts:
        rows = []
        for difference in robust.differences:
            share = dict(zip(difference.best_of, difference.ahead, strict=True))
            name = f"{name_of(difference.first)} - {name_of(difference.second)}"
            rows.append((name, *(f"{100 * share[k]:.0f} %" if k in share else "-" for k in counts)))
        text = "How often the best of so many draws of the first loss is ahead of the best of as many of the second:"
        blocks += [Paragraph(text), Table(("tuned by", *map(str, counts)), tuple(rows))]
    rungs = sorted({foresight.epoch for foresight in robust.foresight})
    if rungs:
        known = {(f.arm, f.epoch): f.rank_correlation for f in robust.foresight}
        rows = [(name_of(arm.arm), *(_signed(known[arm.arm, epoch]) for epoch in rungs)) for arm in robust.arms]
        text = "Rank correlation of the accuracy at a rung, where a search stops trials, with the one at the end:"
        blocks += [Paragraph(text), Table(("loss", *(f"epoch {epoch}" for epoch in rungs)), tuple(rows))]
    return blocks


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _budget_blocks(found: Findings) -> list[Block]:
    columns = ("loss", "dimensions", "trials", "epochs", "time", "runs", "failed", "their epochs", "their time")
    rows = tuple(
        (
            name_of(row.name),
            "-" if row.dimensions is None else str(row.dimensions),
            f"{row.trials} of {row.trials_asked}" if row.trials_asked else "-",
            f"{row.search_epochs:,}",
            duration(row.search_seconds),
            str(row.runs),
            str(row.failed_runs),
            f"{row.run_epochs:,}",
            duration(row.run_seconds),
        )
        for row in found.spent
    )
    text = "Dimensions of the search space; trials of the search and runs of the confirmation, with what they trained."
    blocks: list[Block] = [Heading("Budget"), Paragraph(text), Table(columns, rows)]
    chosen = found.run.winners
    lines = tuple(
        f"chosen {loss}: {winner['trial_id']}, {_config(winner['config'])}" for loss, winner in chosen.items()
    )
    return [*blocks, Items(lines)] if lines else blocks


def overall(all_found: Sequence[Findings]) -> list[Block]:
    """Return the main verdicts of several runs in one place; nothing for a single one."""
    lines = tuple(f"{found.run.dataset}: {verdict.sentence}" for found in all_found for verdict in found.main_verdicts)
    if len({found.run.folder for found in all_found if found.verdicts}) < 2 or not lines:
        return []
    return [Heading("All verdicts"), Items(lines)]
