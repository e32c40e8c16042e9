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

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING

from lightkit.contracts import HookFn, P, R, Timing
from lightkit.errors import ConfigError

if TYPE_CHECKING:
    from lightkit.profilers.base import Profiler

LOOP, OUTSIDE_STEP = "loop", ("validation", "checkpoint")  # the step's time is the loop's without these
_SET_UP = ("prepare_data", "setup", "configure_model")


class SectionTiming(Timing):
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
        """As Timing.batches; the end of the data is not a section."""
        profiler = self.profiler
        while True:
            profiler.on_batch()
            profiler.start("data")
            fetched: list[object] = []
            try:
                fetched += itertools.islice(batches, 1)
            finally:
                (profiler.stop if fetched else profiler.abandon)("data")
            if not fetched:
                return
            yield fetched.pop()  # held no longer than the loop holds it


def innermost(name: str, running: Sequence[str]) -> int:
    """Where the innermost section of that name stands among those that run; ConfigError where none does."""
    for index in reversed(range(len(running))):
        if running[index] == name:
            return index
    those = ", ".join(map(repr, running)) or "none"
    raise ConfigError(f"profiler.stop({name!r}): no such section was started; those that run: {those}")
