"""How many optimizer steps a fit will take, as far as that is known before it."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from lightkit.run.data import FitData
    from lightkit.run.fit import FitRun


@runtime_checkable
class AccumulatesByEpoch(Protocol):
    """A callback that says how many micro-batches an update of an epoch has, as GradientAccumulationScheduler does."""

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """As many in this epoch."""


def stepping_batches(data: FitData) -> float:
    """See Trainer.estimated_stepping_batches; asks for the training loader where nobody has."""
    run = data.run
    max_epochs, max_steps = run.controls.max_epochs, run.controls.max_steps
    limit = math.inf if max_steps == -1 else max_steps
    if max_epochs in (None, -1):
        return limit
    assert max_epochs is not None
    data.load_training()
    if data.num_batches == math.inf:
        return limit
    windows = _windows(run, max(max_epochs, 1))
    return min(limit, sum(count * math.ceil(data.num_batches / size) for size, count in windows.items()))


def _windows(run: FitRun, num_epochs: int) -> dict[int, int]:
    """How many epochs have accumulation windows of each size."""
    for callback in run.callbacks:
        if isinstance(callback, AccumulatesByEpoch):
            return Counter(callback.get_accumulate_grad_batches(epoch) for epoch in range(num_epochs))
    return {run.controls.accumulate_grad_batches: num_epochs}
