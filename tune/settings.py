"""What a search is asked to do, in one frozen object, with defaults by data set."""

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from search_spaces import SEARCH_SPACES
from trainables.config import PRECISIONS
from trainables.data import DATASETS, check_dataset_name
from trainables.errors import UserError
from trainables.loss_code import LossCode
from trainables.registry import MODELS
from tune.records import read_json
from tune.records.roles import CONTROLS_OF, code_options, default_reference
from tune.records.schema import PACKED, RUN_FILE
from tune.storage.url import check_plain

__all__ = [
    "DEFAULT_LOSSES",
    "ConfirmSettings",
    "SearchSettings",
    "check_losses",
    "check_name",
    "check_new",
    "check_output",
    "load_confirm_settings",
    "load_settings",
]

DEFAULT_LOSSES = ("arcface", "adaloss", "softmax")


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean ...?)" for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def check_losses(losses: Iterable[str]) -> None:
    """Raise UserError unless there is a loss of each of these names."""
    for loss in losses:
        if loss not in SEARCH_SPACES:
            known = ", ".join(sorted(SEARCH_SPACES))
            raise UserError(f"unknown loss {loss!r}{_nearest(loss, SEARCH_SPACES)}; known: {known}")


@dataclass(frozen=True)
class SearchSettings:
    """A search, whole. `trials`, epochs and time are per loss; equal for all.

    Args:
        dataset: a name in DATASETS, or a folder.
        data_dir: where data sets lie; None for the default.
        losses: names in SEARCH_SPACES.
        model: a name in MODELS; "" for the data set's default.
        trials: configurations tried.
        max_epochs: length of a full trial.
        grace_epochs: epochs that every trial gets before it may be stopped.
        reduction_factor: of the rungs.
        time_budget_min: minutes of wall time per loss, or None.
        train_size: images to train on, or None for all.
        batch_size: images a step.
        precision: of the body, see TrialConfig.
        cpus_per_trial: or None for the machine's default.
        gpus_per_trial: likewise; fractions share a GPU.
        max_concurrent: trials at a time, or None for as many as fit.
        output: folder of all runs.
        name: of this run.
        storage: where checkpoints go, or None for the run's folder.
        address: of a Ray cluster, "auto", "local", or None to find out.
        seed: of draws, splits, weights, order and augmentation.
        study_storage: URL of a team's database for the studies, without its password, or None for the run's own file.
        reference: the loss against which the others are held, or None for ArcFace beside AdaLoss, else the first.
        checkpoint_interval_s: seconds at least between two checkpoints of a trial under way; its end always has one.
        niceness: of the processes of trials, see nice(2); 0 is that of any program.
        again: where the run is one trial of an earlier one once more: "trial", its folder and id, and "point", what its
            parameters were; else None.
        own_losses: the code of those among the losses that are not part of this project.
    """

    dataset: str
    data_dir: str | None
    losses: tuple[str, ...]
    model: str
    trials: int
    max_epochs: int
    grace_epochs: int
    reduction_factor: float
    time_budget_min: float | None
    train_size: int | None
    batch_size: int
    precision: str
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    max_concurrent: int | None
    output: str
    name: str
    storage: str | None
    address: str | None
    seed: int
    study_storage: str | None = None
    reference: str | None = None
    checkpoint_interval_s: float = 5.0
    niceness: int = 0
    again: dict[str, Any] | None = None
    own_losses: tuple[LossCode, ...] = ()

    # A resumed run may move to another machine, but not change what is compared.
    MOVABLE = frozenset(
        {
            "data_dir",
            "time_budget_min",
            "cpus_per_trial",
            "gpus_per_trial",
            "max_concurrent",
            "checkpoint_interval_s",
            "niceness",
            "output",
            "name",
            "address",
            "study_storage",  # to another server, not between a database and the run's own file
            "trials",  # only by --extend
        }
    )

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        return Path(self.output) / self.name

    @property
    def is_begun(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.folder / RUN_FILE).exists()

    @property
    def storage_root(self) -> str:
        """Where all that the nodes share goes: an absolute path or a URI."""
        return self._shared_place("", "")

    @property
    def checkpoint_root(self) -> str:
        """Where the run's checkpoints go: an absolute path or a URI."""
        return self._shared_place("checkpoints", self.name)

    @property
    def confirm_checkpoint_root(self) -> str:
        """Where the checkpoints of the run's confirmation go: an absolute path or a URI."""
        return self._shared_place("confirm/checkpoints", f"{self.name}-confirm")

    @property
    def code_options(self) -> tuple[str, ...]:
        """Words of a command line that name the code of losses which must be named each time."""
        return tuple(code_options(self.to_dict()))

    def _shared_place(self, in_folder: str, in_storage: str) -> str:
        if self.storage is None:
            return str(self.folder.resolve() / in_folder)
        if "://" in self.storage:
            place, mark, options = self.storage.partition("?")  # s3://bucket/folder?endpoint_override=...
            return f"{place.rstrip('/')}/{in_storage}".rstrip("/") + mark + options
        return str(Path(self.storage).resolve() / in_storage)

    def validate(self) -> None:
        """Raise UserError with one line on the first thing that cannot be."""
        check_dataset_name(self.dataset)
        check_losses(self.losses)
        if len(set(self.losses)) < len(self.losses):
            raise UserError(f"each --loss may be given once, got {', '.join(self.losses)}")
        if self.reference is not None and self.reference not in self.losses:
            nearest = _nearest(self.reference, self.losses)
            raise UserError(f"--reference {self.reference!r} is none of the losses{nearest}: {', '.join(self.losses)}")
        if self.model and self.model not in MODELS:
            raise UserError(f"unknown model {self.model!r}{_nearest(self.model, MODELS)}; known: {', '.join(MODELS)}")
        self._validate_numbers()
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        check_name(self.name)
        if self.again is not None and not isinstance(self.again.get("point"), dict):
            raise UserError(f"again in {self.folder / RUN_FILE} has no point; the file was edited")
        if self.study_storage is not None:
            check_plain(self.study_storage, f"study_storage in {self.folder / RUN_FILE}")

    def _validate_numbers(self) -> None:
        positive = (
            "trials",
            "max_epochs",
            "grace_epochs",
            "time_budget_min",
            "train_size",
            "cpus_per_trial",
            "max_concurrent",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                option = "time-budget" if name == "time_budget_min" else name.replace("_", "-")
                raise UserError(f"--{option} must be positive, got {value}")
        if not 0 <= self.checkpoint_interval_s < math.inf:
            raise UserError(f"--checkpoint-interval must be 0 or more seconds, got {self.checkpoint_interval_s:g}")
        if not 0 <= self.niceness <= 19:
            raise UserError(f"--niceness must be between 0 and 19, got {self.niceness}")
        if self.train_size == 1:
            raise UserError("--train-size must be at least 2 (batch norm needs two), got 1")
        if self.batch_size < 2:
            raise UserError(f"--batch-size must be at least 2 (batch norm needs two), got {self.batch_size}")
        gpus = self.gpus_per_trial
        if gpus is not None and not 0 <= gpus < math.inf:
            raise UserError(f"--gpus-per-trial must be 0 or more, got {gpus:g}")
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise UserError(f"--gpus-per-trial must be a fraction of one GPU or a whole number, got {gpus:g}")
        if self.grace_epochs > self.max_epochs:
            raise UserError(f"--grace-epochs {self.grace_epochs} is more than --max-epochs {self.max_epochs}; lower it")
        if not 1.1 <= self.reduction_factor < math.inf:
            raise UserError(f"--reduction-factor must be at least 1.1, got {self.reduction_factor:g}")
        if self.seed < 0:
            raise UserError(f"--seed must be 0 or more, got {self.seed}")

    def with_further(self, losses: Sequence[str]) -> "SearchSettings":
        """Return the settings with further losses, which get the budget, the split and the seeds of the others.

        The reference stays what it was.

        Raises:
            UserError: the run has one of them.
        """
        for loss in losses:
            if loss in self.losses:
                raise UserError(f"--add-loss {loss}: the run has it already")
        return replace(
            self,
            losses=(*self.losses, *dict.fromkeys(losses)),
            reference=self.reference or (default_reference(self.losses) if losses else None),
        )

    def resumed(self, given: dict[str, Any], extend: int | None) -> "SearchSettings":
        """Return the settings with which a run goes on.

        Args:
            given: the options that the user gave, by field.
            extend: more trials per loss.

        Raises:
            UserError: an option differs from what the run was started with.
        """
        movable = set(self.MOVABLE) - {"trials"}
        if not {self.dataset, given.get("dataset")} & set(DATASETS):
            movable.add("dataset")  # a folder may have moved; that it holds the same images is checked when it is read
        for name, value in given.items():
            mine = getattr(self, name)
            if value != mine and name not in movable:
                option = "--loss" if name == "losses" else "--" + name.replace("_", "-")
                hint = "; --extend N adds trials" if name == "trials" else "; leave the option out, or start a new run"
                hint += "; --add-loss NAME adds one" if name == "losses" else ""
                raise UserError(f"{option} {_shown(value)} differs from the run's {_shown(mine)}{hint}")
        if self.study_storage is None and given.get("study_storage") is not None:
            raise UserError(
                "--study-storage: the studies of this run are in its own study.db; leave the option out, or start a "
                "new run"
            )
        if extend is not None and extend <= 0:
            raise UserError(f"--extend must be positive, got {extend}")
        moved = {name: value for name, value in given.items() if name in movable}
        return replace(self, **{**moved, "trials": self.trials + (extend or 0)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        return {
            **asdict(self),
            "losses": list(self.losses),
            "own_losses": [code.to_dict() for code in self.own_losses],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SearchSettings":
        """Build from run.json; raises UserError where its settings are not those of this version."""
        names = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        if not needed <= set(values) <= names:
            differing = ", ".join(sorted((set(values) - names) | (needed - set(values))))
            raise UserError(f"run.json was written by another version (settings that differ: {differing})")
        recorded = values.get("own_losses", [])
        if not isinstance(recorded, list):
            raise UserError("run.json was written by another version (own_losses)")
        own = tuple(map(LossCode.from_dict, recorded))
        return cls(**{**values, "losses": tuple(values["losses"]), "own_losses": own})


def _shown(value: Any) -> str:
    if value is None:
        return "default"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def check_name(name: str) -> None:
    """Raise UserError unless a run can have this name: it is a folder's, and part of a URI."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UserError(f"--name must be at most 100 letters, digits, '.', '_' and '-', got {name!r}")


def check_output(settings: SearchSettings) -> None:
    """Raise UserError unless the run's folder can be made."""
    existing = settings.folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        is_folder = existing.is_dir()
    except OSError as error:  # a folder on the way may not be entered, or a name is too long
        raise UserError(f"--output: {existing} cannot be reached: {error.strerror}") from None
    if not is_folder:
        raise UserError(f"--output: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output: {existing} is not writable")


def check_new(settings: SearchSettings) -> None:
    """Raise UserError unless a new run can have its folder."""
    check_output(settings)
    if settings.is_begun:
        raise UserError(f"{settings.folder} exists already: add --resume to go on with it, or choose another --name")


def load_settings(folder: Path) -> SearchSettings:
    """Return the settings of an existing run.

    Raises:
        UserError: there is no such run.
    """
    if any(folder.glob(f"**/*.jsonl{PACKED}")):
        raise UserError(f"{folder} is a published copy, which can be looked at; go on in the folder of the run itself")
    if not (folder / RUN_FILE).is_file():
        raise UserError(f"there is no run in {folder} ({RUN_FILE} is missing); see --output and --name")
    settings = read_json(folder / RUN_FILE).get("settings")
    if not isinstance(settings, dict):
        raise UserError(f"{folder / RUN_FILE} was not written by this program (settings missing)")
    return SearchSettings.from_dict(settings)


@dataclass(frozen=True)
class ConfirmSettings:
    """What a confirmation is asked for.

    Args:
        seeds: paired seeds on which the winners are compared.
        candidates: best configurations of the search, of which one is chosen for each loss.
        candidate_seeds: fresh seeds on which each of them is retrained.
        controls: whether to run the controls of AdaLoss, and of its relative variant.
        robustness: random draws per loss, 0 for none.
    """

    seeds: int = 10
    candidates: int = 3
    candidate_seeds: int = 3
    controls: bool = False
    robustness: int = 0

    def validate(self, losses: Sequence[str]) -> None:
        """Raise UserError with one line on the first thing that cannot be."""
        for option, value in (
            ("--confirm-seeds", self.seeds),
            ("--candidates", self.candidates),
            ("--candidate-seeds", self.candidate_seeds),
        ):
            if value < 1:
                raise UserError(f"{option} must be at least 1, got {value}")
        if self.robustness < 0:
            raise UserError(f"--robustness must be 0 or more, got {self.robustness}")
        if self.controls and CONTROLS_OF.keys().isdisjoint(losses):
            raise UserError(
                f"--controls are variants of {' or '.join(CONTROLS_OF)}, which is not among the losses: "
                f"{', '.join(losses)}"
            )


def load_confirm_settings(folder: Path, given: Mapping[str, Any]) -> ConfirmSettings | None:
    """Return what a run's confirmation is asked for: what is given, else what is on record.

    None where nothing is given and the run was started without a confirmation.
    """
    recorded = read_json(folder / RUN_FILE).get("confirmation")
    if recorded is None and not given:
        return None
    names = {field.name for field in fields(ConfirmSettings)}
    return ConfirmSettings(**{**{key: value for key, value in (recorded or {}).items() if key in names}, **given})
