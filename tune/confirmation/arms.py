"""What a confirmation runs: candidates, winners, and what they are held against.

Every function here is a function of what is on record, so a resumed confirmation asks for the same runs.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import optuna

from search_spaces import SEARCH_SPACES
from search_spaces.published import PUBLISHED
from trainables.seeds import stream_seed
from tune.confirmation.arm_study import SeedRun, accuracy_of
from tune.records import LossRecords, RecordError
from tune.records.roles import ADAPTIVE, CONTROLS, CONTROLS_OF, GATED, PERMUTED, RELATIVE

__all__ = [
    "ADAPTIVE",
    "CONTROLS",
    "CONTROLS_OF",
    "Candidate",
    "WinnerRecords",
    "all_control_runs",
    "candidate_runs",
    "control_runs",
    "robustness_runs",
    "top_trials",
    "untuned_runs",
    "winner_of",
    "winner_runs",
]

# Random streams of a run's seed; the ones below 10 belong to the training itself.
_CANDIDATE_STREAM, _WINNER_STREAM, _DRAW_STREAM = 11, 12, 13


_TRIAL_ID = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class Candidate:
    """A configuration that the search found: the trial's id and its drawn configuration."""

    trial_id: str
    config: dict[str, Any]


def top_trials(records: LossRecords, count: int) -> list[Candidate]:
    """Return the best configurations by validation accuracy, best first.

    Trials that were stopped early have seen a part of their schedule only: they count only where too few were finished,
    after those, the longest first.
    """
    events = records.read_events()
    configs = {event["trial_id"]: event["config"] for event in events if event["event"] == "started"}
    endings = [event for event in events if event["event"] in {"finished", "stopped"}]
    endings = [event for event in endings if event["val_accuracy"] is not None]
    for event in endings:
        if not _TRIAL_ID.fullmatch(event["trial_id"]):  # it becomes the name of a folder
            raise RecordError(f"trials.jsonl: {event['trial_id']!r} is no trial's id; the file was damaged or edited")
    endings.sort(key=lambda e: (e["event"] == "stopped", -e["epoch"], -e["val_accuracy"], e["trial_id"]))
    return [Candidate(event["trial_id"], configs[event["trial_id"]]) for event in endings[:count]]


def _seed(run_seed: int, stream: int, index: int) -> int:
    return stream_seed(run_seed, stream, index) % 2**31


def candidate_runs(loss: str, candidates: Sequence[Candidate], seeds: int, run_seed: int) -> list[SeedRun]:
    """Return the runs that choose among a loss's best configurations: each on the same fresh seeds."""
    return [
        SeedRun(
            run_id=f"candidate-{candidate.trial_id}-{pair:03d}",
            role="candidate",
            arm=loss,
            pair=pair,
            seed=_seed(run_seed, _CANDIDATE_STREAM, pair),
            config=candidate.config,
            trial_id=candidate.trial_id,
        )
        for pair in range(seeds)
        for candidate in candidates
    ]


def winner_of(
    candidates: Sequence[Candidate], results: Mapping[str, Mapping[str, Any]], seeds: int, chance: float
) -> tuple[Candidate, list[float]]:
    """Return the candidate with the best mean over the fresh seeds, and every candidate's mean.

    Of equal ones the search's better wins.
    """
    means = [
        fmean(accuracy_of(results[f"candidate-{candidate.trial_id}-{pair:03d}"], chance) for pair in range(seeds))
        for candidate in candidates
    ]
    return candidates[means.index(max(means))], means


def _tested(run_id: str, role: str, arm: str, pair: int, run_seed: int, **rest: Any) -> SeedRun:
    """Return a run on one of the paired seeds; all that are tested share them."""
    seed = _seed(run_seed, _WINNER_STREAM, pair)
    return SeedRun(run_id=f"{run_id}-{pair:03d}", role=role, arm=arm, pair=pair, seed=seed, **rest)


def winner_runs(loss: str, winner: Candidate, seeds: int, run_seed: int) -> list[SeedRun]:
    """Return the paired runs of a loss's chosen configuration."""
    return [
        _tested(
            f"winner-{winner.trial_id}", "winner", loss, pair, run_seed, config=winner.config, trial_id=winner.trial_id
        )
        for pair in range(seeds)
    ]


def untuned_runs(loss: str, seeds: int, run_seed: int) -> list[SeedRun]:
    """Return the paired runs of a loss at published default settings."""
    return [
        _tested(f"untuned-{loss}", "untuned", loss, pair, run_seed, config=PUBLISHED[loss]) for pair in range(seeds)
    ]


def robustness_runs(losses: Sequence[str], draws: int, run_seed: int) -> dict[str, list[SeedRun]]:
    """Return independent random draws of configurations by arm, paired by draw.

    A value depends on the seed, the draw and the parameter's name alone, so what two losses both have is equal.
    """
    arms: dict[str, list[SeedRun]] = {loss: [] for loss in losses}
    if ADAPTIVE in losses:
        arms[GATED] = []
    for draw in range(draws):
        seed = _seed(run_seed, _DRAW_STREAM, draw)
        for arm, runs in arms.items():
            config = _drawn(ADAPTIVE if arm == GATED else arm, seed)
            runs.append(
                SeedRun(
                    run_id=f"robustness-{arm}-{draw:04d}",
                    role="robustness",
                    arm=arm,
                    pair=draw,
                    seed=seed,
                    config=_with_loss_args(config, **_STILL) if arm == GATED else config,
                )
            )
    return arms


def _drawn(loss: str, seed: int) -> dict[str, Any]:
    space = SEARCH_SPACES[loss]
    values = {}
    for parameter in space.parameters:
        sampler: Any = optuna.samplers.RandomSampler(stream_seed(seed, zlib.crc32(parameter.name.encode())) % 2**32)
        # It looks at neither study nor trial: the draw is independent of all others.
        values[parameter.name] = sampler.sample_independent(None, None, parameter.name, parameter.distribution)
    return space.suggest(optuna.trial.FixedTrial(values))  # type: ignore[arg-type]


_STILL = {"rate_up_rad_per_epoch": 0.0, "rate_down_rad_per_epoch": 0.0}


def _with_loss_args(config: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    return {**config, "loss_args": {**config["loss_args"], **changed}}


def _as_arcface(config: Mapping[str, Any], loss: str, **loss_args: Any) -> dict[str, Any]:
    """Return AdaLoss's configuration for an ArcFace: all but the margin is the same."""
    return {**config, "loss": loss, "loss_args": {"scale": config["loss_args"]["scale"], **loss_args}}


class WinnerRecords(Protocol):
    """What controls take from the records of a confirmation."""

    results: dict[str, dict[str, Any]]

    def margin_steps_rad(self, run_id: str) -> list[float]:
        """Return the margin applied in every training step of a run."""


def all_control_runs(
    winners: Mapping[str, Candidate], records: WinnerRecords, seeds: int, run_seed: int, steps: int
) -> dict[str, list[SeedRun]]:
    """Return the paired runs of the controls of all losses that have any, by control.

    Args:
        winners: by loss; all runs of AdaLoss's are on record.
        records: of the confirmation.
        seeds: pairs.
        run_seed: of the run.
        steps: training steps of a whole run.
    """
    found: dict[str, list[SeedRun]] = {}
    if ADAPTIVE in winners:
        found |= control_runs(winners[ADAPTIVE], records, seeds, run_seed, steps)
    if RELATIVE in winners:
        found[PERMUTED] = _permuted_runs(winners[RELATIVE], seeds, run_seed)
    return found


def _permuted_runs(winner: Candidate, seeds: int, run_seed: int) -> list[SeedRun]:
    """Return the paired runs of the loss with relative margins, with each class's margin on another class."""
    name = f"control-{PERMUTED}-{winner.trial_id}"
    config = {**winner.config, "loss": PERMUTED}
    return [
        _tested(name, "control", PERMUTED, pair, run_seed, config=config, trial_id=winner.trial_id)
        for pair in range(seeds)
    ]


def control_runs(
    winner: Candidate, records: WinnerRecords, seeds: int, run_seed: int, steps: int
) -> dict[str, list[SeedRun]]:
    """Return the paired runs of AdaLoss' controls, by control.

    Margins come from the records of the winner's runs. A control that is on record already keeps the margin that it was
    begun with, also where seeds were added since.

    Args:
        winner: AdaLoss's, all of whose runs are on record.
        records: of the confirmation.
        seeds: pairs.
        run_seed: of the run.
        steps: training steps of a whole run.

    Returns:
        Nothing where every run of the winner diverged: there is no margin to hold anything against.
    """
    ids = [run.run_id for run in winner_runs(ADAPTIVE, winner, seeds, run_seed)]
    sound = [run_id for run_id in ids if not records.results[run_id]["error"]]
    if not sound:
        return {}
    margins = {run_id: records.margin_steps_rad(run_id) for run_id in sound}
    mean_rad = fmean(fmean(trajectory) for trajectory in margins.values())
    final_rad = fmean(trajectory[-1] for trajectory in margins.values())
    config = winner.config
    fixed = {
        "mean_margin": _as_arcface(config, "arcface", margin_rad=mean_rad),
        "final_margin": _as_arcface(config, "arcface", margin_rad=final_rad),
        "linear_ramp": _as_arcface(config, "arcface_schedule", ramp_to_rad=final_rad),
        GATED: _with_loss_args(config, **_STILL),
        "gate_off": _with_loss_args(config, competence_gate=False),
    }
    arms: dict[str, list[SeedRun]] = {}
    for arm in CONTROLS:
        name = f"control-{arm}-{winner.trial_id}"
        begun = next((r["config"] for r in records.results.values() if r["run_id"].startswith(f"{name}-")), None)
        runs = []
        for pair in range(seeds):
            if arm == "yoked_replay":
                partner = _partner(ids, pair, sound)
                if partner is None:
                    continue
                described = _as_arcface(config, "arcface_schedule", replay_of=partner)
                schedule: Sequence[float] | None = margins[partner]
            else:
                described = begun or fixed[arm]
                is_ramp = arm == "linear_ramp"
                schedule = _ramp(described["loss_args"]["ramp_to_rad"], steps) if is_ramp else None
            trained = None if schedule is None else {"scale": config["loss_args"]["scale"], "margins_rad": schedule}
            runs.append(
                _tested(
                    name, "control", arm, pair, run_seed, config=described, trial_id=winner.trial_id, loss_args=trained
                )
            )
        if runs:
            arms[arm] = runs
    return arms


def _partner(ids: Sequence[str], pair: int, sound: Sequence[str]) -> str | None:
    """Return the run whose margins a pair replays: the next one that did not diverge, never its own."""
    others = [*ids[pair + 1 :], *ids[:pair]]
    return next((run_id for run_id in others if run_id in sound), None)


def _ramp(to_rad: float, steps: int) -> list[float]:
    """Return margins that rise linearly from 0 at the first step to `to_rad` at the last."""
    return [float(margin) for margin in np.linspace(0.0, to_rad, steps)]
