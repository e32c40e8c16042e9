"""When validation runs inside a fit."""

from __future__ import annotations

import math
import time
from typing import Any

from lightkit.loops.progress import Progress


class ValidationPlan:
    """`every`: batches between validations; `check_every`: epochs, or None to count batches over epochs."""

    def __init__(self, every: float, check_every: int | None, seconds: float | None, *, enabled: bool):
        self.every, self.check_every, self.seconds, self.enabled = every, check_every, seconds, enabled
        self.last = time.monotonic()

    def validates_in(self, epoch: int) -> bool:
        """Whether an epoch has validations at all."""
        return self.enabled and (self.check_every is None or (epoch + 1) % self.check_every == 0)

    def next(self, p: Progress) -> float:
        """The count of batches in this epoch at which to ask `is_due` next; inf: not in this epoch."""
        if not self.validates_in(p.epoch) or self.every == math.inf:
            return math.inf
        if self.seconds is not None:
            return p.batches_done + 1
        done = p.total_batches if self.check_every is None else p.batches_done
        return p.batches_done + self.every - done % self.every

    def is_due(self, p: Progress) -> bool:
        """Whether the batch that was just finished is followed by a validation."""
        if not self.validates_in(p.epoch) or p.validated_at == p.total_batches or p.batches_done == 0:
            return False
        if self.seconds is not None:
            if time.monotonic() - self.last < self.seconds:
                return False
            self.last = time.monotonic()
            return True
        done = p.total_batches if self.check_every is None else p.batches_done
        return self.every != math.inf and done % self.every == 0


def make_plan(trainer: Any, every: float) -> ValidationPlan:
    """The plan of a trainer, for `every` batches."""
    interval, check_every = trainer.validation_interval, trainer.check_val_every_n_epoch
    if interval.epochs is not None:
        check_every = interval.epochs
    return ValidationPlan(every, check_every, interval.seconds, enabled=trainer.enable_validation)
