"""Which runs each stage of a confirmation has, as soon as they are known; and how many there will be before that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.published import CLAIMED, PUBLISHED
from trainables.data import TrainingData
from tune.confirmation import arms
from tune.confirmation.arm_study import SeedRun
from tune.confirmation.arms import ADAPTIVE, Candidate
from tune.execution.time_left import Later
from tune.settings import ConfirmSettings, SearchSettings

__all__ = [
    "Arms",
    "Plan",
    "candidate_stage",
    "paired_stage",
    "plan_of",
    "run_count",
    "tested_share",
    "whole_confirmation",
]

Arms = Mapping[str, Sequence[SeedRun]]  # the runs of a stage, by what its progress calls them


def candidate_stage(
    settings: SearchSettings, asked: ConfirmSettings, candidates: Mapping[str, Sequence[Candidate]]
) -> Arms:
    """Return what is judged by validation images: candidates on fresh seeds, and random draws."""
    draws = arms.robustness_runs(list(settings.losses), asked.robustness, settings.seed)
    return {
        **{
            f"{loss} candidates": arms.candidate_runs(loss, of_loss, asked.candidate_seeds, settings.seed)
            for loss, of_loss in candidates.items()
        },
        **{f"{arm} random draws": runs for arm, runs in draws.items()},
    }


def paired_stage(settings: SearchSettings, asked: ConfirmSettings, winners: Mapping[str, Candidate]) -> Arms:
    """Return what is tested on paired seeds: the winners, and published settings where the claim is checked."""
    runs = {loss: arms.winner_runs(loss, winner, asked.seeds, settings.seed) for loss, winner in winners.items()}
    if asked.controls or settings.dataset in CLAIMED:
        runs |= {
            f"{loss} untuned": arms.untuned_runs(loss, asked.seeds, settings.seed)
            for loss in PUBLISHED
            if loss in winners
        }
    return runs


@dataclass(frozen=True)
class Plan:
    """The runs of a confirmation, stage after stage, before anybody knows which configurations they will have."""

    candidates: Arms
    paired: Arms
    controls: Arms

    @property
    def stages(self) -> tuple[Arms, Arms, Arms]:
        """In their order."""
        return self.candidates, self.paired, self.controls

    @property
    def runs(self) -> list[SeedRun]:
        """All of them."""
        return [run for stage in self.stages for arm in stage.values() for run in arm]


def plan_of(settings: SearchSettings, asked: ConfirmSettings, losses: Sequence[str] | None = None) -> Plan:
    """Return what a confirmation will run, with invented configurations.

    Args:
        settings: of the search.
        asked: of the confirmation.
        losses: of which there are candidates; by default all of the search.
    """
    config = {"loss_args": {"scale": 1.0}}
    found = {
        loss: [Candidate(f"{loss}-{number}", config) for number in range(min(asked.candidates, settings.trials))]
        for loss in (settings.losses if losses is None else losses)
    }
    winners = {loss: candidates[0] for loss, candidates in found.items()}
    controls: Arms = {}
    if asked.controls:
        adaptive = winners.get(ADAPTIVE)
        finished = arms.winner_runs(ADAPTIVE, adaptive, asked.seeds, settings.seed) if adaptive else []
        controls = arms.all_control_runs(winners, _AllSound(finished), asked.seeds, settings.seed, steps=1)
    return Plan(candidate_stage(settings, asked, found), paired_stage(settings, asked, winners), controls)


class _AllSound:
    """Stands in for the records of winners that all ended well."""

    def __init__(self, runs: Sequence[SeedRun]) -> None:
        self.results: dict[str, dict[str, Any]] = {
            run.run_id: {"run_id": run.run_id, "config": run.config, "error": None} for run in runs
        }

    def margin_steps_rad(self, run_id: str) -> list[float]:
        return [0.0]


def tested_share(data: TrainingData) -> float:
    """Return how many epochs of the search one of a tested run is: it trains on the validation images as well."""
    return 1 + len(data.validation.labels) / len(data.train.labels)


def whole_confirmation(settings: SearchSettings, asked: ConfirmSettings | None, data: TrainingData) -> Later | None:
    """Return what follows a search, in epochs of the search, or None."""
    if asked is None:
        return None
    plan = plan_of(settings, asked)
    runs = run_count(plan.candidates) + tested_share(data) * (run_count(plan.paired) + run_count(plan.controls))
    return Later("the confirmation", settings.max_epochs * runs)


def run_count(runs: Arms) -> int:
    """Return how many runs a stage has."""
    return sum(map(len, runs.values()))
