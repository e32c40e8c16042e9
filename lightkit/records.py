"""Where what a run measures is written: the loggers of its Trainer, and `metrics.csv` where none of them writes one.

Imported where there is a logger.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightkit.checkpoint import contents
from lightkit.loggers.calls import LoggerCalls

if TYPE_CHECKING:
    from lightkit.loggers.csv import RunMetrics
    from lightkit.settings import OnLogError
    from lightkit.trainer import Trainer


class Records:
    """The loggers as they are now: user code may replace them while a run goes on."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._calls: list[LoggerCalls] = []
        self._own: RunMetrics | None = None  # the run's own table
        self._where: tuple[Path, OnLogError] | None = None

    def open(self, run_dir: Path, on_log_error: OnLogError) -> None:
        """A run begins, which writes to this directory."""
        self._where = run_dir, on_log_error
        self._calls = []
        if self._own is not None:
            LoggerCalls(self._own).open(run_dir, on_log_error)
        self.targets()

    def targets(self) -> list[LoggerCalls]:
        """All that is written to."""
        loggers: Sequence[object] = self._trainer.loggers
        calls = self._calls
        if len(calls) != len(loggers) or any(c.logger is not x for c, x in zip(calls, loggers, strict=True)):
            known = {id(c.logger) for c in calls}
            self._calls = calls = [LoggerCalls(logger) for logger in loggers]
            if self._where is not None:
                for call in calls:
                    if id(call.logger) not in known:
                        call.open(*self._where)
            self._choose_own(loggers)
        return calls if self._own is None else [*calls, LoggerCalls(self._own)]

    def _choose_own(self, loggers: Sequence[object]) -> None:
        has_table = any("CSVLogger" in (kind.__name__ for kind in type(x).__mro__) for x in loggers)
        if self._where is None or has_table or not loggers:
            if self._own is not None:
                self._own.finalize("success")
            self._own = None
        elif self._own is None:
            from lightkit.loggers.csv import RunMetrics

            self._own = RunMetrics()
            LoggerCalls(self._own).open(*self._where)

    def write(self, metrics: Mapping[str, float], step: int, epoch: int | None) -> None:
        """Write metrics at a step. epoch: stands beside them; a metric `step` is the x-axis instead. None: neither."""
        if epoch is not None:
            metrics = {**metrics}
            own_step = metrics.pop("step", None)
            if own_step is None:
                metrics.setdefault("epoch", epoch)
            else:
                step = int(own_step)
        for target in self.targets():
            target.log_metrics(metrics, step)

    def set_aside(self) -> None:
        """See Logger."""
        for target in self.targets():
            target.set_aside()

    def parts(self) -> contents.Each[LoggerCalls]:
        """Their positions, as a checkpoint keeps them."""
        return contents.Each(self.targets())

    def state_dict(self) -> list[dict[str, Any]]:
        """The positions now."""
        return [target.state_dict() for target in self.targets()]

    def finalize(self, status: str) -> Exception | None:
        """Each gets its end, also after one that fails; -> what to raise; a warning where the run failed before."""
        found = None
        for target in self.targets():
            try:
                target.finalize(status)
            except Exception as error:
                if found is None and status == "success":
                    found = error
                else:
                    warnings.warn(f"{type(target.logger).__name__}.finalize: {error}", stacklevel=2)
        return found
