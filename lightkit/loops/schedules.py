"""When schedulers move: after optimizer steps, at the end of epochs, or when the metric they wait for is there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from torch import Tensor

from lightkit.errors import ConfigError
from lightkit.hooks import method_of
from lightkit.module import LightModule
from lightkit.optimizers import step_schedulers

if TYPE_CHECKING:
    from lightkit.loops.training import TrainingLoop
    from lightkit.optimizer_forms import LRSchedulerConfig
    from lightkit.run.fit import FitRun


class Schedules:
    """The schedulers of a training loop."""

    def __init__(self, run: FitRun, loop: TrainingLoop):
        self.run, self.loop, self.counters = run, loop, loop.position.counters
        # with manual optimization the module moves them
        configs = [] if run.manual is not None else run.optimization.schedulers
        self.by_step = [c for c in configs if c.interval == "step"]
        self.by_epoch = [c for c in configs if c.interval == "epoch"]
        self.scaler = run.precision.scaler
        self.scale = self.scaler.get_scale() if self.scaler is not None else 1.0
        self.step_schedulers = run.timing.timed("schedulers", step_schedulers)

    def move_step(self) -> None:
        """After an optimizer step; those that watch a metric wait for the validation that comes next."""
        if self.by_step and self._has_updated():
            p = self.counters
            is_due = p.batches_done >= self.loop.next_validation and self.run.data.plan.seconds is None
            p.schedulers_wait = is_due
            self._move(self.by_step, "step", p.global_step, wait_for_metric=False if is_due else None)

    def _has_updated(self) -> bool:
        """Whether the step changed the weights: the scaler leaves out one whose gradients overflow, and scales less."""
        if self.scaler is None:
            return True
        before, self.scale = self.scale, self.scaler.get_scale()
        return self.scale >= before

    def move_validated(self) -> None:
        """After a validation: those that waited for it."""
        p = self.counters
        if p.schedulers_wait:
            p.schedulers_wait = False
            self._move(self.by_step, "step", p.global_step, wait_for_metric=True)

    def move_epoch(self) -> None:
        """After the last optimizer step of an epoch: those that wait for no metric."""
        p = self.counters
        if self.by_epoch and p.epochs_scheduled <= p.epoch:  # not again where the epoch's end is resumed
            p.epochs_scheduled = p.epoch + 1
            self._move(self.by_epoch, "epoch", p.epoch + 1, wait_for_metric=False)

    def move_waiting(self) -> None:
        """At the end of an epoch, when its metrics are there: those that wait for one."""
        if self.by_epoch:
            self._move(self.by_epoch, "epoch", self.counters.epoch + 1, wait_for_metric=True)

    def _move(
        self, configs: list[LRSchedulerConfig], interval: str, count: int, wait_for_metric: bool | None = None
    ) -> None:
        self.loop.results.enter("lr_scheduler_step")
        step = method_of(self.run.module, LightModule, "lr_scheduler_step")
        self.step_schedulers(configs, interval, count, step, self._metric_of, wait_for_metric)

    def _metric_of(self, config: LRSchedulerConfig) -> Tensor | None:
        """The monitored value; None before the first validation, or where a missing one is allowed."""
        available = self.run.callback_metrics()
        if config.monitor in available:
            return available[config.monitor]
        if self.run.data.enable_validation and self.counters.validated_at < 0:
            return None  # it may be logged there
        from lightkit.monitoring import missing_metric_message

        who = f"configure_optimizers: {type(config.scheduler).__name__}(monitor={config.monitor!r})"
        message = missing_metric_message(str(config.monitor), available, who)
        if config.strict:
            raise ConfigError(message)
        warnings.warn(message, stacklevel=2)
        return None
