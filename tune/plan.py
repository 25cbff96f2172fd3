"""What a search would do, told before anything is begun: its trials and runs, its slots, its bytes, its time.

Rungs, runs and slots come from what the search itself goes by. Ray is started only where they cannot be known without:
for a cluster, and where this machine has a GPU whose memory decides.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from trainables.cost import TrialCost, measure_costs
from trainables.data import TrainingData
from tune.cluster.connection import connect, is_local
from tune.cluster.gpu_share import NoAnswerError, on_worker, slots_for
from tune.cluster.nodes import this_machine
from tune.cluster.slots import Slots, plan_slots
from tune.confirmation.arm_study import SeedRun
from tune.confirmation.stages import Plan, plan_of
from tune.execution.time_left import duration
from tune.search.rungs import Rungs
from tune.session import check_precision, loaded, object_bytes
from tune.settings import ConfirmSettings, SearchSettings, check_new
from tune.trials import first_config, search_data, trial_config

__all__ = ["RunPlan", "plan_run"]

_ROLES = {
    "candidate": "candidates",
    "robustness": "random draws",
    "winner": "finals",
    "untuned": "untuned",
    "control": "controls",
}
# Of a study in SQLite, as measured: its empty tables, and what a trial and an epoch of it add.
_STUDY_BYTES, _STUDY_TRIAL_BYTES, _STUDY_EPOCH_BYTES = 115_000, 1_500, 45
_PAGE_BYTES = 5_000_000  # report.html, which holds plotly


def plan_run(settings: SearchSettings, confirmation: ConfirmSettings | None, console: Console) -> "RunPlan":
    """Return what a new search with these settings would do. Nothing is written, but for a data set that is fetched.

    Args:
        settings: of the search.
        confirmation: what follows it, or None.
        console: where is said what is found out about GPUs.

    Raises:
        UserError: the search could not begin.
    """
    check_new(settings)
    is_tested = confirmation is not None
    data, settings = loaded(settings, is_tested=is_tested)
    unmeasured = None
    costs: list[TrialCost] = []
    configs = [trial_config(settings, data.spec, first_config(loss)).to_dict() for loss in settings.losses]
    here = this_machine() if is_local(settings.address) else None
    if here is not None and (settings.gpus_per_trial == 0 or not any(node.get("GPU") for node in here.all)):
        slots = plan_slots(
            settings.model, settings.cpus_per_trial, settings.gpus_per_trial, settings.max_concurrent, here
        )
        check_precision(settings, slots)
        costs = measure_costs(configs, search_data(data, settings.own_losses), slots.threads, 0)
    else:
        import ray

        with connect(settings.address, object_bytes(data, is_tested=is_tested)):
            slots = slots_for(settings, data, console)
            check_precision(settings, slots)
            share, images = slots.gpus_per_trial, ray.put(search_data(data, settings.own_losses))
            try:
                costs = on_worker(share, measure_costs, configs, images, slots.threads, share)
            except NoAnswerError as reason:
                unmeasured = str(reason)
    confirmed = None if confirmation is None else plan_of(settings, confirmation)
    return RunPlan(settings, data, slots, confirmed, dict(zip(settings.losses, costs, strict=False)), unmeasured)


@dataclass(frozen=True)
class RunPlan:
    """A search and its confirmation, before they are begun.

    Args:
        settings: of the search, with its model.
        data: of the search.
        slots: how trials share the hardware.
        confirmation: its runs, or None.
        costs: of a trial of each loss; empty where nothing could be measured.
        unmeasured: why, or None.
    """

    settings: SearchSettings
    data: TrainingData
    slots: Slots
    confirmation: Plan | None
    costs: Mapping[str, TrialCost]
    unmeasured: str | None = None

    @property
    def rungs(self) -> Rungs:
        """Those of each loss."""
        settings = self.settings
        return Rungs(settings.grace_epochs, settings.max_epochs, settings.reduction_factor)

    @property
    def expected_epochs(self) -> float:
        """Epochs that the trials of a loss may be expected to train."""
        return self.rungs.epochs_to_go({}, self.settings.trials)

    @property
    def search_s(self) -> float:
        """Seconds of training that the search may be expected to take."""
        train, judged = len(self.data.train.labels), len(self.data.validation.labels)
        whole = sum(self.expected_epochs * cost.epoch_s(train, judged) for cost in self.costs.values())
        limit = math.inf
        if self.settings.time_budget_min is not None:
            limit = 60 * self.settings.time_budget_min * len(self.settings.losses)
        return min(limit, whole / min(self.slots.concurrent, self.settings.trials * len(self.settings.losses)))

    @property
    def confirmation_s(self) -> float:
        """Seconds of training that the confirmation may be expected to take; its stages follow one another."""
        stages = self.confirmation.stages if self.confirmation is not None else ()
        runs = [[run for arm in stage.values() for run in arm] for stage in stages]
        return sum(sum(map(self._run_s, stage)) / min(self.slots.concurrent, len(stage)) for stage in runs if stage)

    def _run_s(self, run: SeedRun) -> float:
        costs = [self.costs[run.arm]] if run.arm in self.costs else list(self.costs.values())  # a control is of any
        train, judged = len(self.data.train.labels), len(self.data.validation.labels)
        if run.role in {"candidate", "robustness"}:
            seconds = [self.settings.max_epochs * cost.epoch_s(train, judged) for cost in costs]
        else:  # tested once, beside what the model was before it was trained
            test = 2 * self.data.spec.test_size
            seconds = [
                self.settings.max_epochs * cost.epoch_s(train + judged, 0) + test * cost.judged_s for cost in costs
            ]
        return sum(seconds) / len(seconds)

    def lines(self) -> list[str]:
        """Return the plan as text, a line a subject."""
        parts = {
            "data": self._data_line(),
            "search": self._search_line(),
            "confirmation": self._confirmation_line(),
            "slots": self.slots_line(),
            "memory": self._memory_line(),
            "disk": self._disk_line(),
            "time": self._time_line(),
        }
        return [*(f"{f'{subject}:':14}{line}" for subject, line in parts.items()), *self.data.remarks]

    def _data_line(self) -> str:
        settings, data = self.settings, self.data
        part = " (a part: --train-size)" if settings.train_size else ""
        return (
            f"{settings.dataset}, {len(data.train.labels):,} training{part} and {len(data.validation.labels):,} "
            f"validation images; {settings.model}, {settings.batch_size} images a step"
        )

    def _search_line(self) -> str:
        settings = self.settings
        most = settings.trials * settings.max_epochs
        milestones = ", ".join(map(str, self.rungs.milestones))
        expected = f", about {self.expected_epochs:.0f} with the rungs after {milestones}" if milestones else ""
        limit = ""
        if settings.time_budget_min is not None:
            limit = f"; at most {settings.time_budget_min * len(settings.losses):g} min for all losses"
        return (
            f"{', '.join(settings.losses)}: {settings.trials} trials each, at most {settings.max_epochs} epochs; "
            f"at most {most:,} epochs a loss{expected}{limit}"
        )

    def _confirmation_line(self) -> str:
        if self.confirmation is None:
            return "none"
        runs = self.confirmation.runs
        counted = Counter(run.role for run in runs)
        roles = ", ".join(f"{counted[role]:,} {name}" for role, name in _ROLES.items() if counted[role])
        epochs = self.settings.max_epochs
        return f"{roles}; {epochs} epochs each, {len(runs) * epochs:,} in all"

    def slots_line(self) -> str:
        """Return how many trials there are at a time, and with what."""
        slots = self.slots
        gpus = f" and {slots.gpus_per_trial:g} GPU" if slots.gpus_per_trial else ""
        nodes = f" on {slots.nodes} machines" if slots.nodes > 1 else ""
        threads = f"{slots.threads} thread{'s' if slots.threads > 1 else ''}"
        return f"{slots.concurrent} trials at a time{nodes}, each with {slots.cpus_per_trial:g} CPU{gpus}, {threads}"

    def _memory_line(self) -> str:
        held = object_bytes(self.data, is_tested=self.confirmation is not None)
        return f"{_size(held)} of images, one copy for all trials of a machine"

    def _disk_line(self) -> str:
        if not self.costs:
            return f"not measured: {self.unmeasured}"
        one = max(cost.checkpoint_bytes for cost in self.costs.values())
        # While a trial writes a checkpoint it has its last one too; the best of each loss stays.
        most = (2 * self.slots.concurrent + len(self.settings.losses)) * one
        records = _size(self._records())
        return f"at most {_size(most)} of checkpoints at a time, {_size(one)} each; in the end {records} of records"

    def _records(self) -> float:
        settings = self.settings
        trials = len(settings.losses) * settings.trials
        epochs = len(settings.losses) * self.expected_epochs
        study = 0.0
        if settings.study_storage is None:
            study = _STUDY_BYTES + _STUDY_TRIAL_BYTES * trials + _STUDY_EPOCH_BYTES * epochs
        runs = len(self.confirmation.runs) if self.confirmation is not None else 0
        record = max(cost.record_bytes for cost in self.costs.values())
        # An epoch of a confirmation is written as it happens, and once more in the curve of its run.
        return _PAGE_BYTES + study + record * (epochs + 2 * runs * settings.max_epochs)

    def _time_line(self) -> str:
        if not self.costs:
            return f"not measured: {self.unmeasured}"
        parts = f"search {duration(self.search_s)}"
        if self.confirmation is not None:
            parts += f", confirmation {duration(self.confirmation_s)}"
        whole = duration(self.search_s + self.confirmation_s)
        return f"about {whole} of training ({parts}), by a few steps of each loss; start and page come on top"


def _size(size: float) -> str:
    """Return a number of bytes as one would say it."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} TB"
