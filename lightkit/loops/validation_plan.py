"""When validation runs inside a fit."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from lightkit.errors import ConfigError
from lightkit.intervals import ValidationInterval
from lightkit.loops.position import Counters
from lightkit.settings import Controls


@dataclass(frozen=True)
class Steps:
    """An interval of `count` optimizer steps, of `accumulate` batches each but for the epoch's last."""

    count: int
    accumulate: int
    num_batches: float

    def next(self, p: Counters, *, over_epochs: bool) -> float:
        """The count of batches in this epoch after which it is complete; inf: not in this epoch."""
        done = p.batches_done // self.accumulate
        goal = done + self.count - (p.global_step if over_epochs else done) % self.count
        batches = goal * self.accumulate
        is_short = self.num_batches < batches < self.num_batches + self.accumulate
        return self.num_batches if is_short else batches

    def is_complete(self, p: Counters, *, over_epochs: bool) -> bool:
        """Whether the step that was just taken completes it."""
        return (p.global_step if over_epochs else math.ceil(p.batches_done / self.accumulate)) % self.count == 0


class ValidationPlan:
    """When a fit validates whose epochs have `num_batches` training batches.

    `every`: batches between validations, or `steps`; `check_every`: epochs, or None to count over epochs.

    Raises:
        ConfigError: an interval that such an epoch cannot have.
    """

    def __init__(self, interval: ValidationInterval, controls: Controls, num_batches: float):
        number, unit = interval
        self.num_batches = num_batches
        self.check_every, self.accumulate = controls.check_val_every_n_epoch, controls.accumulate_grad_batches
        self.every = batches_between(interval, num_batches, self.accumulate, self.check_every is not None)
        if unit == "epoch":
            self.check_every = int(number)
        self.seconds = number if unit == "seconds" else None
        self.steps = None
        if unit == "step" and self.accumulate > 1:  # else a step is a batch
            self.steps = Steps(int(number), self.accumulate, num_batches)
        self.last, self.asked_at, self.is_time = time.monotonic(), -1, False

    def validates_in(self, epoch: int) -> bool:
        """Whether an epoch has validations at all."""
        return self.check_every is None or (epoch + 1) % self.check_every == 0

    def next(self, p: Counters) -> float:
        """The count of batches in this epoch at which to ask `is_due` next; inf: not in this epoch."""
        if not self.validates_in(p.epoch) or self.every == math.inf:
            return math.inf
        if self.seconds is not None:
            return p.batches_done + 1
        if self.steps is not None:
            return self.steps.next(p, over_epochs=self.check_every is None)
        done = p.total_batches if self.check_every is None else p.batches_done
        return p.batches_done + self.every - done % self.every

    def is_due(self, p: Counters) -> bool:
        """Whether the batch that was just finished is followed by a validation."""
        if not self.validates_in(p.epoch) or p.validated_at == p.total_batches or p.batches_done == 0:
            return False
        window = (p.batches_done - 1) % self.accumulate + 1
        if window < self.accumulate and p.batches_done < self.num_batches:
            return False  # it waits for the end of the accumulation window
        if self.seconds is not None:
            if self.asked_at != p.total_batches:  # who asks first and who asks next get one answer
                self.asked_at, self.is_time = p.total_batches, time.monotonic() - self.last >= self.seconds
                if self.is_time:
                    self.last = time.monotonic()
            return self.is_time
        if self.steps is not None:
            return self.steps.is_complete(p, over_epochs=self.check_every is None)
        done = p.total_batches if self.check_every is None else p.batches_done
        return self.every != math.inf and done // self.every > (done - window) // self.every


def batches_between(
    interval: ValidationInterval, num_batches: float, accumulate: int, check_every_epoch: bool
) -> float:
    """Training batches between two validations; inf: only at the end of epochs.

    Raises:
        ConfigError: more batches than an epoch has, where the count begins anew with each epoch.
    """
    count, unit = interval
    if unit == "seconds":
        return 1
    if unit == "epoch":
        return num_batches
    if unit != "share":
        value, size = (f"{count}step", accumulate) if unit == "step" else (count, 1)
        available = -(-num_batches // size)
        if check_every_epoch and count > available > 0:
            raise ConfigError(
                f"Trainer(val_check_interval={value!r}): an epoch has only {int(available)} "
                f"{'steps' if unit == 'step' else unit}; use at most that, or check_val_every_n_epoch=None to count "
                "over epochs"
            )
        return count * size
    if num_batches == math.inf:
        if count != 1.0:
            raise ConfigError(
                f"Trainer(val_check_interval={count}): the training loader has no length, so no share of it; "
                "give a count of batches"
            )
        return math.inf
    return max(1, int(num_batches * count))
