"""Measure how long training takes, and stop it when its time is up."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["Timer", "parse_duration"]

_STAGES = ("train", "validate", "test", "predict")
_UNITS_S = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip


def parse_duration(
    duration: str | timedelta | dict[str, float], who: str = "Timer(duration={!r})"
) -> timedelta:
    """Return a duration given as "DD:HH:MM:SS", "10min", "1.5 h", a timedelta, or `dict(days=1, hours=2)`.

    Raises:
        ConfigError: anything else; `who`, with the duration filled in, begins the message.
    """
    if isinstance(duration, timedelta):
        return duration
    problem = "expected 'DD:HH:MM:SS', a number with a unit ('10min', '1.5h'), a timedelta or a dict for one."
    try:
        if isinstance(duration, dict):
            return timedelta(**duration)
        if match := re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", duration.strip()):
            days, hours, minutes, seconds = map(int, match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", duration.strip().lower()):
            return timedelta(seconds=float(match[1]) * _UNITS_S[match[2]])
    except (TypeError, AttributeError, KeyError):
        pass
    raise ConfigError(f"{who.format(duration)}: {problem}")


class Timer(Callback):
    """Tells how long each stage took, and stops training after `duration`.

    Arguments and methods are those of Lightning 2.6. A resumed run goes on with the time that is left.

    Args:
        duration: "DD:HH:MM:SS", "10min", a timedelta, or a dict of its arguments. Default: no limit.
        interval: "step" or "epoch": when to look at the clock.
        verbose: say so when the time is up.
    """

    def __init__(
        self,
        duration: str | timedelta | dict[str, float] | None = None,
        interval: str = "step",
        verbose: bool = True,
    ) -> None:
        if interval not in ("step", "epoch"):
            raise ConfigError(f"Timer(interval={interval!r}): expected 'step' or 'epoch'.")
        self._duration_s = None if duration is None else parse_duration(duration).total_seconds()
        self._interval = interval
        self._verbose = verbose
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

    def _begin(self, stage: str) -> None:
        self._start_s[stage], self._end_s[stage] = time.monotonic(), None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop at once where a resumed run has no time left."""
        if self._duration_s is not None:
            self._check(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of training."""
        self._begin("train")

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock."""
        if self._duration_s is not None and self._interval == "step":
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Look at the clock."""
        if self._duration_s is not None and self._interval == "epoch":
            self._check(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock of training."""
        self._end_s["train"] = time.monotonic()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the validation."""
        self._begin("validate")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock of the validation."""
        self._end_s["validate"] = time.monotonic()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the test."""
        self._begin("test")

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock of the test."""
        self._end_s["test"] = time.monotonic()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the prediction."""
        self._begin("predict")

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock of the prediction."""
        self._end_s["predict"] = time.monotonic()

    def _check(self, trainer: Any) -> None:
        assert self._duration_s is not None
        elapsed_s = self.time_elapsed()
        if elapsed_s < self._duration_s or trainer.should_stop:
            return
        trainer.should_stop = True
        if self._verbose:
            trainer.print(f"Timer: the time is up after {timedelta(seconds=int(elapsed_s))}; stopping.")

    def state_dict(self) -> dict[str, Any]:
        """Return how many seconds each stage took."""
        return {"time_elapsed": {stage: self.time_elapsed(stage) for stage in _STAGES}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count the seconds trained before the resume."""
        self._offset_s = state_dict.get("time_elapsed", {}).get("train", 0.0)


def _known(stage: str) -> str:
    if stage not in _STAGES:
        expected = f"expected one of {', '.join(_STAGES)}{did_you_mean(stage, _STAGES)}"
        raise ConfigError(f"Timer: unknown stage {stage!r}; {expected}")
    return stage
