"""What a profiler that is on times, and the names of the sections.

    set-up        prepare_data, setup, configure_model, optimizers, loaders
    sanity check  the validation batches before the training
    open data     an epoch's order is drawn, worker processes start
    data          the next batch: fetched here, or waited for
    transfer      the transfer hooks, the copy to the device, the precision of the batch
    forward       training_step (the step of an evaluation)
    zero_grad     gradients of the last step are freed
    backward      of the loss
    clipping      gradients are corrected, unscaled, shown to on_before_optimizer_step, clipped
    optimizer     its step
    schedulers    each time they are asked to move
    logging       metrics are read from the device and written by the loggers
    hooks: X.y    a hook of a callback, of the module or the data module that runs outside of the above
    loop          what is left of the training loop
    validation    inside of a fit, as one
    checkpoint    gathered and written; asynchronous: gathered, copied, and waited for

Runs and loops hand their parts to a `Timing` when they bind them; this one gives them back as sections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING

from lightkit.contracts import HookFn, P, R

if TYPE_CHECKING:
    from lightkit.profilers.base import Profiler

LOOP, OUTSIDE_STEP = "loop", ("validation", "checkpoint")  # the step's time is the loop's without these
_SET_UP = ("prepare_data", "setup", "configure_model")
_END = object()


class SectionTiming:
    """A Timing that tells a profiler when each part starts and stops."""

    def __init__(self, profiler: Profiler):
        self.profiler = profiler

    def timed(self, section: str, fn: Callable[P, R], *, is_counted: bool = True) -> Callable[P, R]:
        """As Timing.timed; what is given back looks like `fn` to who inspects it."""
        start, stop = self.profiler.start, self.profiler.stop if is_counted else self.profiler.abandon

        @wraps(fn)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            start(section)
            try:
                return fn(*args, **kwargs)
            finally:
                stop(section)

        for name in ("func", "__self__"):  # who wants to name the owner of a hook looks here
            if hasattr(fn, name):
                setattr(timed, name, getattr(fn, name))
        return timed

    def hook(self, name: str, fn: HookFn) -> HookFn:
        """As Timing.hook."""
        bound: HookFn = fn.func if isinstance(fn, partial) else fn  # a callback's has trainer and module filled in
        owner = type(getattr(bound, "__self__", bound)).__name__
        return self.timed("set-up" if name in _SET_UP else f"hooks: {owner}.{name}", fn)

    def batches(self, batches: Iterator[object]) -> Iterator[object]:
        """As Timing.batches."""
        return TimedBatches(batches, self.profiler)


class TimedBatches:
    """An iterator of batches whose every batch is a section; the end of the data is not one."""

    def __init__(self, batches: Iterator[object], profiler: Profiler):
        self._batches, self.profiler = batches, profiler

    def __iter__(self) -> TimedBatches:
        return self

    def __next__(self) -> object:
        profiler = self.profiler
        profiler.on_batch()
        profiler.start("data")
        batch: object = _END
        try:
            batch = next(self._batches, _END)
        finally:
            (profiler.abandon if batch is _END else profiler.stop)("data")
        if batch is _END:
            raise StopIteration
        return batch
