"""From a finished search to numbers that can be compared: candidates on fresh seeds, winners and controls on paired."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainables.errors import UserError
from trainables.trial_data import TrialData
from tune.confirmation import arms
from tune.confirmation.arm_study import ArmStudy, ConfirmRecords
from tune.confirmation.arms import ADAPTIVE, CONTROLS_OF, Candidate
from tune.confirmation.stages import Arms, candidate_stage, paired_stage, plan_of, run_count, tested_share
from tune.execution.progress import Progress
from tune.execution.stages import Stage, StageGenerator
from tune.execution.time_left import Later, TimeLeft
from tune.records import LossRecords, read_json, read_records, write_json
from tune.records.schema import ENDINGS, TRIALS_FILE, winner_file, winner_weights_file
from tune.run_file import add_confirmation
from tune.session import Session
from tune.settings import ConfirmSettings, SearchSettings
from tune.storage.checkpoints import CheckpointStore
from tune.trials import test_data, trial_config

__all__ = ["ConfirmOutcome", "check_finished", "confirmation_stages"]


@dataclass(frozen=True)
class ConfirmOutcome:
    """How a confirmation ended.

    Args:
        interrupted: the signal's name, or None.
        broken: error by run, of runs that have no result; a resume tries them again.
        left_out: losses of which the search found no configuration that works.
    """

    interrupted: str | None
    broken: dict[str, str]
    left_out: list[str]


def confirmation_stages(session: Session, asked: ConfirmSettings) -> StageGenerator[ConfirmOutcome]:
    """Confirm what a search found, or go on with it, stage after stage, until it is done or interrupted.

    Args:
        session: connected.
        asked: of the confirmation.

    Raises:
        UserError: the search is not finished, or its data is not what it was started with.
    """
    settings = session.settings
    check_finished(settings)
    invocation = add_confirmation(settings, asked, session.data, session.command)
    confirmation = _Confirmation(session, asked, invocation)
    yield from confirmation.stages()
    return ConfirmOutcome(
        interrupted=session.interruption.name,
        broken=confirmation.broken,
        left_out=[loss for loss in settings.losses if loss not in confirmation.candidates],
    )


def check_finished(settings: SearchSettings) -> None:
    """Raise UserError unless every trial of a run's search has ended."""
    for loss in settings.losses:
        events = read_records(settings.folder / loss / TRIALS_FILE)
        ended = {event["trial_id"] for event in events if event["event"] in ENDINGS}
        open_ = {event["trial_id"] for event in events} - ended
        if open_ or (len(ended) < settings.trials and settings.time_budget_min is None):
            raise UserError(
                f"the search in {settings.folder} is not finished ({loss}: {len(ended)} of {settings.trials} trials); "
                "go on with it by tune/run_search.py --resume"
            )


class _Confirmation:
    """One confirmation under way: stage after stage, each from what the last one left on record."""

    def __init__(self, session: Session, asked: ConfirmSettings, invocation: int) -> None:
        self._session, self._asked, self._invocation = session, asked, invocation
        self._settings = settings = session.settings
        self._records = ConfirmRecords(settings.folder)
        # Earlier versions kept the checkpoints of a confirmation apart.
        self._stores = [CheckpointStore(root) for root in (settings.confirm_checkpoint_root, settings.checkpoint_root)]
        self._chance = 1 / session.data.spec.num_classes
        self.broken: dict[str, str] = {}
        found = {
            loss: arms.top_trials(LossRecords(settings.folder / loss), asked.candidates) for loss in settings.losses
        }
        self.candidates = {loss: candidates for loss, candidates in found.items() if candidates}

    def stages(self) -> StageGenerator[None]:
        """Go through what is not yet on record."""
        settings, asked, data = self._settings, self._asked, self._session.data
        plan = plan_of(settings, asked, list(self.candidates))
        controls = Later("the controls", self._epochs_not_done(plan.controls, ("control",)))
        tested_runs = Later(
            "the paired seeds",
            tested_share(data) * (controls.epochs + self._epochs_not_done(plan.paired, ("winner", "untuned"))),
        )
        runs = candidate_stage(settings, asked, self.candidates)
        if not (yield from self._stage("candidates", runs, lambda: self._session.search_data, tested_runs)):
            return
        winners = self._choose()

        @functools.cache
        def tested() -> TrialData:  # only now that everything is chosen is the test split read
            return test_data(data, self._session.read_test_split(), self._session.settings.own_losses)

        if not (yield from self._stage("paired seeds", paired_stage(settings, asked, winners), tested, controls)):
            return
        self._keep_weights(winners)
        has_controls = asked.controls and not CONTROLS_OF.keys().isdisjoint(winners)
        if has_controls and not (yield from self._controls(winners, tested)):
            return
        for store in self._stores:
            store.remove_all_but(())

    def _keep_weights(self, winners: Mapping[str, Candidate]) -> None:
        """Copy the weights of each winner on its first pair, which were trained on all images and tested."""
        for loss, winner in winners.items():
            (run,) = arms.winner_runs(loss, winner, 1, self._settings.seed)
            weights = self._settings.folder / winner_weights_file(loss)
            for store in self._stores:
                if store.copy_weights(run.run_id, weights):
                    break

    def _epochs_not_done(self, planned: Arms, roles: tuple[str, ...]) -> int:
        """Return the epochs of runs that are planned, but for as many as are on record."""
        done = sum(result["role"] in roles for result in self._records.results.values())
        return self._settings.max_epochs * max(0, run_count(planned) - done)

    def _controls(self, winners: Mapping[str, Candidate], tested: Callable[[], TrialData]) -> StageGenerator[bool]:
        data = self._session.data
        images = len(data.train.labels) + len(data.validation.labels)
        steps_per_epoch = images // min(self._settings.batch_size, images)
        controls = arms.all_control_runs(
            winners,
            self._records,
            self._asked.seeds,
            self._settings.seed,
            steps_per_epoch * self._settings.max_epochs,
        )
        missing = [arm for arm in arms.CONTROLS if ADAPTIVE in winners and arm not in controls]
        if missing:
            self._session.say(f"no run to take margins from for {', '.join(missing)}: left out")
        return (yield from self._stage("controls", controls, tested))

    def _choose(self) -> dict[str, Candidate]:
        winners = {}
        for loss, candidates in self.candidates.items():
            winner, means = arms.winner_of(candidates, self._records.results, self._asked.candidate_seeds, self._chance)
            seeds = [
                run.seed
                for run in arms.candidate_runs(loss, [winner], self._asked.candidate_seeds, self._settings.seed)
            ]
            description = self._settings.folder / winner_file(loss)
            if description.exists() and read_json(description)["trial_id"] != winner.trial_id:
                (self._settings.folder / winner_weights_file(loss)).unlink(missing_ok=True)  # of an earlier winner
            write_json(
                description,
                {
                    "trial_id": winner.trial_id,
                    "config": winner.config,
                    "candidates": [
                        {"trial_id": candidate.trial_id, "val_accuracy": mean, "seeds": seeds}
                        for candidate, mean in zip(candidates, means, strict=True)
                    ],
                },
            )
            winners[loss] = winner
        return winners

    def _stage(
        self, name: str, runs: Arms, data: Callable[[], TrialData], later: Later | None = None
    ) -> StageGenerator[bool]:
        """Go through a stage, which is not the last if something comes later.

        Returns:
            Whether all its runs are on record.
        """
        checkpoints = {trial_id: found for store in self._stores for trial_id, found in store.newest().items()}
        studies = {
            arm: ArmStudy(
                of_arm,
                self._records,
                max_epochs=self._settings.max_epochs,
                num_classes=self._session.data.spec.num_classes,
                checkpoints=checkpoints,
            )
            for arm, of_arm in runs.items()
            if of_arm
        }
        total = sum(study.counts.asked for study in studies.values())
        left = total - sum(study.counts.done for study in studies.values())
        if not left:
            return True
        self._session.say(
            f"confirmation, {name}: {left} of {total} runs to go, {self._settings.max_epochs} epochs each"
        )
        by_id = {run.run_id: run for of_arm in runs.values() for run in of_arm}
        self._session.opened(left)
        yield Stage(
            name=f"{name.replace(' ', '-')}-{self._invocation:03d}",
            studies=studies,
            data=data(),
            to_trial=lambda suggestion: trial_config(
                self._settings, self._session.data.spec, suggestion.config, by_id[suggestion.trial_id].seed
            ),
            progress=Progress(
                studies,
                f"{self._settings.dataset}, {name} -> {self._settings.folder}",
                self._session.console,
                "confirmation",
                "mean acc.",
                TimeLeft(studies, later),
                self._settings.folder,
            ),
            is_followed=later is not None and later.epochs > 0,
        )
        for study in studies.values():
            self.broken |= study.broken
        return all(run_id in self._records.results for run_id in by_id)
