"""The runs of a study by data set: the one whose paired seeds are compared, and the one that has the random draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.findings import Findings
from analysis.report.settings import LossSettings, settings_that_matter
from analysis.statistics.claims import CLAIMED, PUBLISHED
from analysis.statistics.robustness import DrawDifference
from analysis.statistics.stats import MIN_SEEDS
from analysis.statistics.unplanned import ArmDifference, arm_difference
from analysis.statistics.verdict import Verdict
from tune.records import RecordError
from tune.records.roles import GATED

__all__ = ["TITLES", "DataSet", "arranged", "missing_data"]

TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


@dataclass(frozen=True)
class DataSet:
    """What a study has on a data set.

    Args:
        name: of it.
        main: the run whose paired seeds are compared.
        drawn: the run with the random draws, which may be the same one; None without any.
    """

    name: str
    main: Findings
    drawn: Findings | None

    @property
    def title(self) -> str:
        """The name for people."""
        return TITLES.get(self.name, self.name)

    @property
    def drawn_title(self) -> str:
        """The name for people, with the number of training images where the random draws had a part of them."""
        images = self.drawn.run.info["dataset"] if self.drawn else {"partial": False}
        return f"{self.title}, {images['train_images']:,} images" if images["partial"] else self.title

    @property
    def runs(self) -> tuple[Findings, ...]:
        """The runs, each once."""
        return (self.main,) if self.drawn is None or self.drawn is self.main else (self.main, self.drawn)

    def verdict(self, first: str, second: str) -> Verdict | None:
        """Return a verdict, None where there is none or no common seed."""
        found = (v for v in self.main.verdicts if (v.first, v.second) == (first, second) and v.result)
        return next(found, None)

    @property
    def primary(self) -> Verdict | None:
        """AdaLoss against ArcFace, tuned."""
        return self.verdict(*CLAIMED)

    def draws(self, first: str, second: str) -> DrawDifference | None:
        """Return how the draws of two arms differ, None where they were not compared."""
        robust = self.drawn.robustness if self.drawn else None
        found = (d for d in (robust.differences if robust else ()) if (d.first, d.second) == (first, second))
        return next(found, None)

    @cached_property
    def untuned(self) -> ArmDifference | None:
        """AdaLoss against ArcFace at the published defaults."""
        return arm_difference(self.main.run, ("untuned", CLAIMED[0]), ("untuned", CLAIMED[1]))

    @cached_property
    def start(self) -> ArmDifference | None:
        """A margin that rises from 0 against one that is as large from the first step on as that one is at its end."""
        return arm_difference(self.main.run, ("control", "linear_ramp"), ("control", "final_margin"))

    @cached_property
    def gate_for_arcface(self) -> ArmDifference | None:
        """ArcFace with the gate, at AdaLoss's settings, against ArcFace as it was tuned."""
        return arm_difference(self.main.run, ("control", GATED), ("winner", CLAIMED[1]))

    @cached_property
    def settings(self) -> tuple[LossSettings, ...]:
        """The settings that matter most of each loss that has draws enough."""
        if self.drawn is None:
            return ()
        winners = self.main.run.winners
        found = (
            settings_that_matter(self.drawn.run, loss, winners.get(loss, {}).get("config"))
            for loss in self.drawn.run.losses
        )
        return tuple(settings for settings in found if settings)


def arranged(all_found: Sequence[Findings]) -> list[DataSet]:
    """Return the data sets of a study: those of the claim, then others in the order of their runs.

    A run that is planned with fewer paired seeds than can decide anything is there for its random draws.

    Raises:
        RecordError: a data set has no run to compare, or several, or several with draws.
    """
    data_sets = []
    names = dict.fromkeys(found.run.dataset for found in all_found)
    for name in sorted(names, key=lambda name: list(PUBLISHED).index(name) if name in PUBLISHED else len(PUBLISHED)):
        runs = [found for found in all_found if found.run.dataset == name]
        main = [found for found in runs if ((found.run.confirmation or {}).get("seeds") or 0) >= MIN_SEEDS]
        drawn = [found for found in runs if found.robustness]
        if len(main) != 1:
            raise RecordError(f"{name}: {len(main)} runs with {MIN_SEEDS} paired seeds or more; results are of one")
        if len(drawn) > 1:
            folders = ", ".join(str(found.run.folder) for found in drawn)
            raise RecordError(f"{name}: several runs have random draws ({folders}); results are of one")
        data_sets.append(DataSet(name, main[0], drawn[0] if drawn else None))
    return data_sets


def missing_data(data_sets: Sequence[DataSet]) -> list[str]:
    """Return the titles of the data sets that the claim was made on and that are not there."""
    there = {data.name for data in data_sets}
    return [TITLES[name] for name in PUBLISHED if name not in there]
