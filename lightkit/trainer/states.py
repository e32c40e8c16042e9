"""The words for where a Trainer is, under the name that Lightning has for their file."""

from lightkit.states import RunningStage, TrainerFn, TrainerState, TrainerStatus

__all__ = ["RunningStage", "TrainerFn", "TrainerState", "TrainerStatus"]
