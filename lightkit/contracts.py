"""What parts of lightkit promise one another: small protocols.

Whoever meets a promise need not know who asks for it: imports of this file point the way of all others, to the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

HookFn = Callable[..., object]  # what somebody overrides, bound to its owner


class Stateful(Protocol):
    """Has a state that a checkpoint keeps: plain values and tensors, nothing that needs code to be read."""

    def state_dict(self) -> Any:
        """What to keep."""

    def load_state_dict(self, state_dict: Any, /) -> object:
        """Go on from what `state_dict` gave."""


class Stepped(NamedTuple):
    """What one training batch came to: what the step returned, and whether the weights have moved."""

    output: object
    has_stepped: bool


class Step(Protocol):
    """Does the middle of the hot loop for one batch, where the loop's own lines do not fit."""

    def __call__(self, batch: object, index: int, is_last: bool) -> Stepped:
        """Forward, backward, and the update where the accumulation window is full. is_last: of the epoch."""

    def finish(self) -> None:
        """The data ended inside a window: update with what it holds."""

    def release(self) -> None:
        """The fit is over: let go of memory."""


class EpochOutputs(Protocol):
    """Wants what the steps of an epoch return, and has a word at its end."""

    outputs: list[list[object]]  # by loader

    def keep(self, output: object, loader_idx: int = 0) -> None:
        """Take what one step returned."""

    def finish(self) -> None:
        """All batches are done: what is logged now joins the epoch's metrics."""

    def load(self, outputs: list[list[object]]) -> None:
        """Go on with those of a checkpoint."""


class Timing:
    """Times the parts of a run as sections; this one, for a run without a profiler, gives everything back as it is."""

    def timed(self, section: str, fn: Callable[P, R], *, is_counted: bool = True) -> Callable[P, R]:
        """`fn` as a section; without is_counted as a part of one."""
        return fn

    def hook(self, name: str, fn: HookFn) -> HookFn:
        """A hook of that name as a section of its owner's."""
        return fn

    def batches(self, batches: Iterator[object]) -> Iterator[object]:
        """Batches each of which is a section."""
        return batches


UNTIMED = Timing()


REDUCTIONS = ("mean", "sum", "min", "max")  # of a logged value over an epoch


def is_metric(value: object) -> bool:
    """Whether it is a torchmetrics Metric: told by what it can do, torchmetrics is not imported for this."""
    return all(hasattr(value, name) for name in ("compute", "reset", "_forward_cache", "metric_state"))


def is_metric_collection(value: object) -> bool:
    """Whether it is a torchmetrics MetricCollection; nothing of it is imported to know."""
    return hasattr(value, "compute_groups")
