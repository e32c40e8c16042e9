"""The words for where a run is: enums that are equal to their text, `trainer.state.fn == "fit"`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrainerFn(StrEnum):
    """Which call of the Trainer's runs."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class RunningStage(StrEnum):
    """What goes on in it: a fit trains, validates and checks its validation before."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether metrics are computed without training."""
        return self not in ("train", "predict")

    @property
    def dataloader_prefix(self) -> str:
        """The stage as loaders and limits are called: "train", "val", "test", "predict"."""
        return "val" if self in ("validate", "sanity_check") else self.value


class TrainerStatus(StrEnum):
    """How far a run is. FAILED is an error's, INTERRUPTED that of Ctrl-C or a signal."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether nothing goes on any more."""
        return self not in ("initializing", "running")


@dataclass(frozen=True)
class TrainerState:
    """What a Trainer does: the `fn` that runs, or ran last; the running `stage`, None afterwards; its `status`."""

    status: TrainerStatus = TrainerStatus.INITIALIZING
    fn: TrainerFn | None = None
    stage: RunningStage | None = None

    @property
    def finished(self) -> bool:
        """Whether the last run came to its end."""
        return self.status == "finished"

    @property
    def stopped(self) -> bool:
        """Whether the last run is over, however it ended."""
        return self.status.stopped
