"""What a profiler that is on wraps, and the names of the sections.

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

Attributes of our own objects are replaced by wrapped ones, and put back at the end of the run. The loops know
nothing of it but one call each. This file knows them by the names of their attributes: imports point the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

LOOP, OUTSIDE_STEP = "loop", ("validation", "checkpoint")  # the step's time is the loop's without these
_SET_UP = ("prepare_data", "setup", "configure_model")
_END = object()


class Parts:
    """Wraps attributes for a profiler, and remembers what to put back."""

    def __init__(self, profiler: Any):
        self.profiler = profiler
        self.wrapped: dict[tuple[int, str], tuple[Any, str]] = {}

    def timed(self, section: str, fn: Callable[..., Any], *, is_counted: bool = True) -> Callable[..., Any]:
        """Return `fn` as a section, as part of one without is_counted; it looks like `fn` to who inspects it."""
        start, stop = self.profiler.start, self.profiler.stop if is_counted else self.profiler.abandon

        @wraps(fn)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start(section)
            try:
                return fn(*args, **kwargs)
            finally:
                stop(section)

        for name in ("func", "__self__"):  # who wants to name the owner of a hook looks here
            if hasattr(fn, name):
                setattr(timed, name, getattr(fn, name))
        return timed

    def replace(self, obj: Any, name: str, new: Any) -> None:
        """Put something in the place of a method of `obj`, until the run ends."""
        self.wrapped[id(obj), name] = (obj, name)
        vars(obj)[name] = new

    def wrap(self, obj: Any, name: str, section: str) -> None:
        """Make a method of `obj` a section, once, until the run ends."""
        if (id(obj), name) not in self.wrapped:
            self.replace(obj, name, self.timed(section, getattr(obj, name)))

    def restore(self) -> None:
        """Take all wrappers of methods off; what a loop bound for an epoch it binds anew for the next."""
        for obj, name in self.wrapped.values():
            vars(obj).pop(name, None)
        self.wrapped.clear()


class TimedPrecision:
    """The precision of a run whose `backward` and `step` are sections."""

    def __init__(self, precision: Any, parts: Parts):
        self._precision = precision
        self.backward = parts.timed("backward", precision.backward)
        self.step = parts.timed("optimizer", precision.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._precision, name)


class TimedBatches:
    """An iterator of batches whose every batch is a section; the end of the data is not one."""

    def __init__(self, batches: Iterator[Any], profiler: Any):
        self.batches, self.profiler = batches, profiler

    def __iter__(self) -> TimedBatches:
        return self

    def __next__(self) -> Any:
        profiler = self.profiler
        profiler.on_batch()
        profiler.start("data")
        batch = _END
        try:
            batch = next(self.batches, _END)
        finally:
            (profiler.abandon if batch is _END else profiler.stop)("data")
        if batch is _END:
            raise StopIteration
        return batch


def run(trainer: Any, parts: Parts) -> None:
    """Wrap what is the same in all of a run: hooks, logging, checkpoints, validation."""
    bind = trainer.dispatcher.bind

    def bind_timed(name: str, *args: Any, **kwargs: Any) -> list[Callable[..., Any]]:
        hooks = bind(name, *args, **kwargs)
        return [parts.timed("set-up" if name in _SET_UP else f"hooks: {_owner(fn)}.{name}", fn) for fn in hooks]

    parts.replace(trainer.dispatcher, "bind", bind_timed)
    parts.wrap(trainer, "log_to_loggers", "logging")
    parts.wrap(trainer.run, "save_checkpoint", "checkpoint")
    if trainer.fitting:
        validate = trainer.validate_loop.run
        checks, validates = parts.timed("sanity check", validate), parts.timed("validation", validate)

        def run_validation(*args: Any) -> Any:
            return (checks if trainer.sanity_checking else validates)(*args)

        parts.replace(trainer.validate_loop, "run", run_validation)


def _owner(hook: Any) -> str:
    bound = hook.func if isinstance(hook, partial) else hook  # a callback's has trainer and module filled in
    return type(getattr(bound, "__self__", bound)).__name__


def training(loop: Any, parts: Parts) -> None:
    """Wrap what a training loop has bound for an epoch."""
    timed = parts.timed
    loop.training_step = timed("forward", loop.training_step)
    loop.precision = TimedPrecision(loop.precision, parts)
    if loop.prepare is not None:
        loop.prepare = timed("transfer", loop.prepare)
    if loop.step_optimizer is not None:
        loop.step_optimizer = timed("optimizer", loop.step_optimizer)
    if loop.backward is not None:
        loop.backward = timed("backward", loop.backward)
    if loop.plain_zero_grad is not None:
        loop.plain_zero_grad = timed("zero_grad", loop.plain_zero_grad)
    if loop.manual is not None:  # inside of forward
        parts.wrap(loop.manual, "backward", "backward")
        parts.wrap(loop.manual, "_update", "optimizer")
    elif hasattr(loop.closure_step, "_update"):  # forward and backward inside of it are sections of their own
        loop.closure_step._update = timed("optimizer", loop.closure_step._update)
    loop.schedules._move = timed("schedulers", loop.schedules._move)
    parts.wrap(loop, "_zero_grad", "zero_grad")
    parts.wrap(loop, "complete_gradients", "clipping")
    parts.wrap(loop, "_write_step", "logging")
    parts.wrap(loop, "_batches", LOOP)


def evaluation(loop: Any, parts: Parts) -> None:
    """Wrap what an evaluation makes for its pass: how a batch is prepared, and the step."""
    prepare, step = loop._prepare, loop._step

    def prepare_timed() -> Any:
        found = prepare()
        return None if found is None else parts.timed("transfer", found)

    parts.replace(loop, "_prepare", prepare_timed)
    parts.replace(loop, "_step", lambda: parts.timed("forward", step()))
    for each in loop.sources:
        source(each, parts)


def source(reader: Any, parts: Parts) -> None:
    """Wrap the batches that a source opens."""
    for name in ("open", "reopen"):
        opened = parts.timed("open data", getattr(reader, name))
        parts.replace(reader, name, _batches_of(opened, parts.profiler))
    parts.replace(reader, "open_ahead", parts.timed("open data", reader.open_ahead, is_counted=False))


def _batches_of(opened: Callable[..., Any], profiler: Any) -> Callable[..., TimedBatches]:
    return lambda *args, **kwargs: TimedBatches(opened(*args, **kwargs), profiler)
