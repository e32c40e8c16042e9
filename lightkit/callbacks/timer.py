"""Measure how long training takes, and stop it when its time is up."""

from __future__ import annotations

import time
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback
from lightkit.durations import parse_duration
from lightkit.errors import ConfigError, did_you_mean
from lightkit.monitoring import begins

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["Timer", "parse_duration"]

_STAGES = ("train", "validate", "test", "predict")


class Interval(StrEnum):
    """When a Timer looks at the clock."""

    step = "step"
    epoch = "epoch"


class Timer(Callback):
    """Tells how long each stage took, and stops training after `duration`.

    Arguments and methods are those of Lightning 2.6. A resumed run goes on with the time that is left.

    Args:
        duration: "DD:HH:MM:SS", "10min", a timedelta, or a dict of its arguments. Default: no limit.
        interval: "step" or "epoch": when to look at the clock.
        verbose: say so when the time is up.
    """

    def __init__(
        self, duration: str | timedelta | dict[str, float] | None = None, interval: str = "step", verbose: bool = True
    ) -> None:
        if interval not in ("step", "epoch"):
            raise ConfigError(f"Timer(interval={interval!r}): expected 'step' or 'epoch'.")
        self._duration_s = None if duration is None else parse_duration(duration).total_seconds()
        self._interval = interval
        self._verbose = verbose
        self._begin()

    def _begin(self) -> None:
        """No clock has run yet."""
        self._start_s: dict[str, float | None] = dict.fromkeys(_STAGES)
        self._end_s: dict[str, float | None] = dict.fromkeys(_STAGES)
        self._offset_s = 0.0  # trained before the resume

    def start_time(self, stage: str = "train") -> float | None:
        """Return when the stage began, in seconds of the monotonic clock; None before that."""
        return self._start_s[_known(stage)]

    def end_time(self, stage: str = "train") -> float | None:
        """Return when the stage ended, in seconds of the monotonic clock; None before that."""
        return self._end_s[_known(stage)]

    def time_elapsed(self, stage: str = "train") -> float:
        """Return how many seconds the stage took so far; training counts those before a resume."""
        start, end = self.start_time(stage), self.end_time(stage)
        before = self._offset_s if stage == "train" else 0.0
        if start is None:
            return before
        return before + (time.monotonic() if end is None else end) - start

    def time_remaining(self, stage: str = "train") -> float | None:
        """Return how many seconds are left; None without a limit."""
        return None if self._duration_s is None else self._duration_s - self.time_elapsed(stage)

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Forget the time of another Trainer's fit; a checkpoint brings its own."""
        if begins(trainer, stage):
            self._begin()

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Stop at once where a resumed run has no time left."""
        self._check(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Start the clock of training."""
        self._start_s["train"], self._end_s["train"] = time.monotonic(), None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock."""
        if self._duration_s is not None and self._interval == "step":
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look at the clock."""
        if self._interval == "epoch":
            self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Stop the clock of training."""
        self._end_s["train"] = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Start the clock of the validation, the test or the prediction."""
        stage = _evaluated(trainer)
        self._start_s[stage], self._end_s[stage] = time.monotonic(), None

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Stop the clock of the validation, the test or the prediction."""
        self._end_s[_evaluated(trainer)] = time.monotonic()

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end

    def _check(self, trainer: Trainer) -> None:
        if self._duration_s is None or (elapsed_s := self.time_elapsed()) < self._duration_s or trainer.should_stop:
            return
        trainer.should_stop = True
        if self._verbose:
            trainer.print(f"Timer: the time is up after {timedelta(seconds=int(elapsed_s))}; stopping.")

    def state_dict(self) -> dict[str, Any]:
        """Return how many seconds each stage took."""
        return {"time_elapsed": {stage: self.time_elapsed(stage) for stage in _STAGES}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count the seconds trained before the resume; StateError for what is no state of this callback."""
        from lightkit.schema import NUMBER, DictOf, Record

        Record({}, {"time_elapsed": DictOf(NUMBER)}).check(state_dict)
        self._offset_s = state_dict.get("time_elapsed", {}).get("train", 0.0)


def _evaluated(trainer: Trainer) -> str:
    fn = trainer.state.fn
    return fn if fn in ("test", "predict") else "validate"


def _known(stage: str) -> str:
    if stage not in _STAGES:
        expected = f"expected one of {', '.join(_STAGES)}{did_you_mean(stage, _STAGES)}"
        raise ConfigError(f"Timer: unknown stage {stage!r}; {expected}")
    return stage
