"""Counters: where a run is, in epochs, batches and optimizer steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """The position of a fit; all that is needed to go on from it, beside the order of the data."""

    epoch: int = 0  # the running epoch, from 0
    is_epoch_started: bool = False  # its on_train_epoch_start was called
    is_epoch_done: bool = False  # everything of it is done, its end included
    batches_done: int = 0  # in the running epoch
    total_batches: int = 0  # over all epochs
    global_step: int = 0  # optimizer steps over all epochs
    logged_step: int = -1  # the last step whose metrics were written
    validated_at: int = -1  # total_batches at the last validation
    epochs_scheduled: int = 0  # epochs at whose end the schedulers have moved
    schedulers_wait: bool = False  # those with interval "step" that watch a metric wait for the validation that is due
    steps_logged: int = 0  # validation steps whose metrics were written

    def next_epoch(self) -> None:
        """Go on to the epoch that comes next."""
        self.epoch += 1
        self.batches_done = 0
        self.is_epoch_started = self.is_epoch_done = False

    def next_log(self, interval: float) -> float:
        """The step at which metrics are written next: a multiple of the interval, or the first step that passes it."""
        return (max(self.logged_step, 0) // interval + 1) * interval

    def end_log(self, interval: float) -> float:
        """The metrics of this step are being written; -> the step at which they are written next."""
        self.logged_step = self.global_step
        return self.next_log(interval)

    def leave_epoch(self, *, was_stopped: bool) -> None:
        """Where the trainer's last fit ended inside an epoch: go on with the next if it was stopped, else repeat it."""
        if self.is_epoch_started and was_stopped:
            self.next_epoch()
        self.batches_done = 0
        self.is_epoch_started = False

    def end_validation(self) -> None:
        """All that a validation decides is decided: it is not repeated."""
        self.validated_at = self.total_batches

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; an epoch that was done is followed by the next."""
        for field in fields(self):
            setattr(self, field.name, state[field.name])
        if self.is_epoch_done:
            self.next_epoch()


class Window:
    """The accumulation window: how much each micro-batch's loss counts, so that the sum is the one big batch's.

    Windows of equal micro-batches scale each loss by 1/size before backward and need no correction. Others do the
    same relative to their first micro-batch and multiply the gradients once, before the update.
    """

    def __init__(self, size: int):
        self.size = size
        self.open()

    def open(self) -> None:
        """Begin a window."""
        self.reference: Any = None
        self.weights: list[Any] = []

    def factor(self, weight: Any) -> Any:
        """What to multiply the loss of the next micro-batch with; weight: its items, a number or a tensor."""
        self.weights.append(weight)
        if self.reference is None:
            self.reference = weight
            return 1.0 / self.size
        if weight is self.reference or (isinstance(weight, (int, float)) and weight == self.reference):
            return 1.0 / self.size
        return weight / self.reference / self.size

    def correction(self) -> Any:
        """What to multiply the gradients with before the update, or None where it is 1."""
        reference = self.reference
        if reference is None:
            return None
        if isinstance(reference, (int, float)) and all(w == reference for w in self.weights):
            count = len(self.weights)
            return None if count == self.size else self.size / count
        return self.size * reference / sum(self.weights)
