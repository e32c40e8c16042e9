"""When schedulers move: after optimizer steps, at the end of epochs, or when the metric they wait for is there."""

from __future__ import annotations

import warnings
from typing import Any

from lightkit.callbacks.base import missing_metric_message
from lightkit.errors import ConfigError
from lightkit.optimizers import LRSchedulerConfig, step_schedulers


class Schedules:
    """The schedulers of a training loop."""

    def __init__(self, loop: Any):
        self.loop = loop
        # with manual optimization the module moves them
        configs: list[LRSchedulerConfig] = [] if loop.manual is not None else loop.trainer.lr_scheduler_configs
        self.by_step = [c for c in configs if c.interval == "step"]
        self.by_epoch = [c for c in configs if c.interval == "epoch"]
        self.scaler: Any = getattr(loop.precision, "scaler", None)
        self.scale = self.scaler.get_scale() if self.scaler is not None else 1.0

    def move_step(self) -> None:
        """After an optimizer step; those that watch a metric wait for the validation that comes next."""
        if self.by_step and self._has_updated():
            loop, p = self.loop, self.loop.progress
            is_due = p.batches_done >= loop.next_validation and loop.trainer.validation_plan.seconds is None
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
        p = self.loop.progress
        if p.schedulers_wait:
            p.schedulers_wait = False
            self._move(self.by_step, "step", p.global_step, wait_for_metric=True)

    def move_epoch(self) -> None:
        """After the last optimizer step of an epoch: those that wait for no metric."""
        p = self.loop.progress
        if self.by_epoch and p.epochs_scheduled <= p.epoch:  # not again where the epoch's end is resumed
            p.epochs_scheduled = p.epoch + 1
            self._move(self.by_epoch, "epoch", p.epoch + 1, wait_for_metric=False)

    def move_waiting(self) -> None:
        """At the end of an epoch, when its metrics are there: those that wait for one."""
        if self.by_epoch:
            self._move(self.by_epoch, "epoch", self.loop.progress.epoch + 1, wait_for_metric=True)

    def _move(
        self, configs: list[LRSchedulerConfig], interval: str, count: int, wait_for_metric: bool | None = None
    ) -> None:
        results, module = self.loop.results, self.loop.module
        results.enter("lr_scheduler_step")
        step_schedulers(configs, interval, count, module.lr_scheduler_step, self._metric_of, wait_for_metric)

    def _metric_of(self, config: LRSchedulerConfig) -> Any:
        """The monitored value; None before the first validation, or where a missing one is allowed."""
        trainer, monitor = self.loop.trainer, config.monitor
        available = trainer.callback_metrics
        if monitor in available:
            return available[monitor]
        if trainer.enable_validation and self.loop.progress.validated_at < 0:
            return None  # it may be logged there
        name = type(config.scheduler).__name__
        message = missing_metric_message(str(monitor), available, f"configure_optimizers: {name}(monitor={monitor!r})")
        if config.strict:
            raise ConfigError(message)
        warnings.warn(message, stacklevel=2)
        return None
