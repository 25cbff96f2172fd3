"""What a run came to, at a glance: the verdict in plain words, the best loss, what was spent, what limits it."""

from dataclasses import dataclass

from analysis.arms import name_of
from analysis.findings import Accuracy, Findings
from analysis.formatting import duration, interval_pp, percent
from analysis.statistics.verdict import Verdict

__all__ = ["Card", "Headline", "card_of", "plain_verdict"]


@dataclass(frozen=True)
class Headline:
    """A verdict in plain words.

    Args:
        text: of it.
        decision: better, worse, equivalent, inconclusive, or none where there is no verdict yet.
        losses: that it speaks of.
    """

    text: str
    decision: str
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A run at a glance, as plain texts.

    Args:
        key: of the run, for ids.
        title: the data set, with the run's folder where two runs have the same one.
        headlines: the answers to what the run asks.
        facts: what there is to know beside them: a name and a text each.
        caveats: what limits all of it, each a sentence.
        statements: everything in full, in the exact words of the reports.
    """

    key: str
    title: str
    headlines: tuple[Headline, ...]
    facts: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]
    statements: tuple[str, ...]


def card_of(found: Findings, key: str, title: str, statements: tuple[str, ...], waiting: str) -> Card:
    """Return the card of a run.

    Args:
        found: what it shows.
        key: of the run.
        title: of the card.
        statements: what it says in full.
        waiting: why there is no verdict, where there is none.
    """
    told = [verdict for verdict in found.main_verdicts if verdict.result]
    headlines = tuple(Headline(plain_verdict(v), v.decision, (v.first, v.second)) for v in told)
    notes = dict.fromkeys(note for verdict in found.verdicts if verdict.kind != "control" for note in verdict.notes)
    return Card(
        key=key,
        title=title,
        headlines=headlines or (Headline(f"No verdict yet: {waiting}", "none"),),
        facts=(("Best loss", _best(found)), ("Spent", _spent(found)), *_seeds(told)),
        caveats=(*notes, *found.caveats),
        statements=statements,
    )


def plain_verdict(verdict: Verdict) -> str:
    """Return a verdict as one would tell it: "AdaLoss better than ArcFace by 0.27 pp [0.06, 0.48]"."""
    assert verdict.result is not None, "nothing was compared"
    first, second = name_of(verdict.first), name_of(verdict.second)
    mean, interval = 100 * verdict.result.mean, interval_pp(verdict.result.t_interval)
    if verdict.decision == "better":
        return f"{first} better than {second} by {abs(mean):.2f} pp {interval}"
    if verdict.decision == "worse":
        return f"{first} worse than {second} by {abs(mean):.2f} pp {interval}"
    numbers = f"{round(mean, 2) + 0.0:+.2f} pp {interval}".rstrip()
    if verdict.decision == "equivalent":
        return f"{first} and {second} equivalent: {numbers}, within ±{100 * verdict.bound:g} pp"
    return f"{first} or {second}: undecided, {numbers}"


def _best(found: Findings) -> str:
    tested = [row for row in found.accuracies if row.role == "winner"]
    if tested:
        return _tested(max(tested, key=lambda row: row.mean))
    searched = [(loss["best"]["val_accuracy"], loss["loss"]) for loss in found.search if loss["best"]]
    if not searched:
        return "no trial has ended yet"
    accuracy, loss = max(searched, key=lambda item: item[0])
    return f"{name_of(loss)}, {percent(accuracy)} validation accuracy, not confirmed"


def _tested(row: Accuracy) -> str:
    spread = f" ± {100 * row.sd:.2f}" if row.sd is not None else ""
    seeds = f"{row.seeds} seeds" if row.seeds > 1 else "one seed"
    return f"{name_of(row.arm)}, {100 * row.mean:.2f}{spread} % test accuracy, {seeds}"


def _spent(found: Findings) -> str:
    trials, runs = sum(row.trials for row in found.spent), sum(row.runs for row in found.spent)
    epochs = sum(row.search_epochs + row.run_epochs for row in found.spent)
    seconds = sum(row.search_seconds + row.run_seconds for row in found.spent)
    confirmed = f" and {runs:,} confirming runs" if runs else ""
    return f"{trials:,} trials{confirmed}, {epochs:,} epochs, {duration(seconds)} of training"


def _seeds(told: list[Verdict]) -> list[tuple[str, str]]:
    """Return how many more seeds undecided comparisons would take, where there are such."""
    needed = [verdict.seeds_needed for verdict in told if verdict.decision == "inconclusive"]
    if not needed:
        return []
    if None in needed:
        return [("To decide", "more than 10,000 paired seeds")]
    most = max(count for count in needed if count is not None)
    return [("To decide", f"about {most:,} paired seeds, if differences stay as they are")]
