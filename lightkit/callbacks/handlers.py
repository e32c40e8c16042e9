"""Handlers: functions that are called at the events of a run, without a class; see `Trainer.on`."""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback, Checkpoint
from lightkit.errors import ConfigError
from lightkit.hooks import ANYWHERE, FIT, LEGACY, PREDICT, TEST, VALIDATE, Hook, walk
from lightkit.intervals import Interval, parse_interval

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["Handle", "Handlers", "event_names", "registering"]

_ALL = 10**9  # arguments
_HOOKS = {hook.name: hook for block in (FIT, VALIDATE, TEST, PREDICT, ANYWHERE) for hook in walk(block)}


def event_names() -> list[str]:
    """Every event: the hooks that callbacks have, without `on_`."""
    return [name.removeprefix("on_") for name, hook in _HOOKS.items() if "C" in hook.owners]


@dataclass(frozen=True)
class When:
    """Which times of an event a handler is called at; counted from 1."""

    every: Interval | None = None
    once: int = 0  # 0: not only once
    after: int = 0
    filter: Callable[..., object] | None = None
    filter_counts: bool = False  # it wants the count, too


@dataclass
class Handle:
    """A registered handler; `remove()` ends it. Called, it calls the function, so a decorated one stays what it was."""

    event: str
    function: Callable[..., Any]
    when: When
    takes: int  # arguments of the function, or all
    number: int = 0  # among those of its event
    count: int = 0  # times that the event came
    _marks: int = 0  # of the interval, that are passed
    _since: float = field(default_factory=time.monotonic)
    is_removed: bool = False

    def remove(self) -> None:
        """Call it no more, from now on; a second time nothing happens."""
        self.is_removed = True

    def state(self) -> list[int]:
        """What it has counted."""
        return [self.count, self._marks]

    def go_on_from(self, count: int, marks: int) -> None:
        """Count on; one that had its only turn has no other."""
        self.count, self._marks = count, marks
        self.is_removed = self.is_removed or 0 < self.when.once <= count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def handle(self, trainer: Trainer, *args: Any) -> object:
        """The event has come: call the function where it is its turn."""
        if self.is_removed:
            return None
        self.count += 1
        if not self._is_due(trainer):
            return None
        self.is_removed = self.when.once > 0
        missing = self.takes - 1 - len(args)  # dataloader_idx, where there is one loader
        return self.function(trainer, *args[: self.takes - 1], *[0] * missing)

    def _is_due(self, trainer: Trainer) -> bool:
        when = self.when
        if self.count <= when.after or (when.once and self.count != when.once):
            return False
        if when.every is not None and not self._passes(trainer, when.every):
            return False
        if when.filter is None:
            return True
        return bool(when.filter(trainer, self.count) if when.filter_counts else when.filter(trainer))

    def _passes(self, trainer: Trainer, every: Interval) -> bool:
        if every.unit == "count":
            return self.count % every.number == 0
        if every.unit == "seconds":
            now = time.monotonic()
            is_due = now - self._since >= every.number
            self._since = now if is_due else self._since
            return is_due
        done = trainer.global_step if every.unit == "step" else trainer.current_epoch
        if every.unit == "epoch" and self.event == "train_epoch_end":
            done += 1
        marks = int(done // every.number)
        is_due, self._marks = marks > self._marks, marks
        return is_due


class Handlers(Callback):
    """The handlers of a Trainer, in the order in which they were registered. A hook that has none is not overridden."""

    def __init__(self) -> None:
        self._handles: dict[str, list[Handle]] = {}

    def add(self, hook: Hook, function: Callable[..., Any], when: When) -> Handle:
        """One more, after those of its hook."""
        if isinstance(function, Handle):  # decorated before
            function = function.function
        handles = self._handles.setdefault(hook.name, [])
        handle = Handle(hook.name.removeprefix("on_"), function, when, _takes(hook, function), len(handles))
        handles.append(handle)
        vars(self)[hook.name] = partial(self._call, hook.name)
        return handle

    def _call(self, name: str, trainer: Trainer, pl_module: LightModule, *args: Any, **kwargs: Any) -> int | None:
        results = [handle.handle(trainer, pl_module, *args, *kwargs.values()) for handle in [*self._handles[name]]]
        if all(handle.is_removed for handle in self._handles[name]):
            vars(self).pop(name, None)  # from the next epoch on nobody is called
        return -1 if any(isinstance(result, int) and result == -1 for result in results) else None

    def state_dict(self) -> dict[str, Any]:
        """How often the event of each handler has come."""
        return {"counts": {key: handle.state() for key, handle in self._by_key().items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Count on from there; a handler that is registered no more is passed over."""
        handles = self._by_key()
        for key, (count, marks) in state_dict["counts"].items():
            if key in handles:
                handles[key].go_on_from(count, marks)

    def _by_key(self) -> dict[str, Handle]:
        """By event, place in it, and name of the function: a second start registers them again."""
        return {
            f"{name} {handle.number} {getattr(handle.function, '__qualname__', '')}": handle
            for name, handles in self._handles.items()
            for handle in handles
        }


def registering(
    trainer: Trainer, event: str, every: object, once: object, after: object, filter: object
) -> Callable[[Callable[..., Any]], Handle]:
    """See `Trainer.on`."""
    hook, when = hook_of(event), _when(event, every, once, after, filter)

    def register(function: Callable[..., Any]) -> Handle:
        found = next((callback for callback in trainer.callbacks if isinstance(callback, Handlers)), None)
        if found is not None:
            return found.add(hook, function, when)
        handlers = Handlers()
        handle = handlers.add(hook, function, when)
        trainer.callbacks = sorted([*trainer.callbacks, handlers], key=lambda c: isinstance(c, Checkpoint))
        return handle

    return register


# ---------------------------------------------------------------- what is asked for


def hook_of(event: str) -> Hook:
    """The hook of an event.

    Raises:
        ConfigError: there is no such event; names the near ones. Or only a module has it.
    """
    known = event_names()
    hook = _HOOKS.get(event if event in _HOOKS else f"on_{event}")
    if hook is not None and "C" in hook.owners:
        return hook
    if hook is not None or any(event == other.name for other in walk(LEGACY)):
        raise ConfigError(f"trainer.on({event!r}): this hook is the module's alone; define {event} in the LightModule")
    near = difflib.get_close_matches(str(event).casefold(), known, n=3, cutoff=0.55)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the events are {', '.join(known)}"
    raise ConfigError(f"trainer.on({event!r}): no such event; {hint}")


def _takes(hook: Hook, function: Callable[..., Any]) -> int:
    """How many arguments the function gets."""
    event = hook.name.removeprefix("on_")
    own = [part.partition("=")[0].strip() for part in hook.args.split(",") if part.strip()]
    names = ["trainer", "module", *own]
    if not callable(function):
        raise ConfigError(f"trainer.on({event!r})({function!r}): expected a function")
    wanted = _count_of(function, own)
    if not 1 <= wanted <= len(names) and wanted != _ALL:
        forms = " or ".join(f"({', '.join(names[:count])})" for count in sorted({1, 2, len(names)}))
        raise ConfigError(
            f"trainer.on({event!r}): {getattr(function, '__name__', function)} takes {wanted} arguments; a handler of "
            f"this event takes {forms}"
        )
    return len(names) if wanted == _ALL else wanted


def _count_of(function: Callable[..., object], optional: Sequence[str]) -> int:
    """Positional arguments that it wants: those without a default, and of the others those with such names."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # builtins without a signature
        return _ALL
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return _ALL
    count = 0
    for p in parameters:
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) or (
            p.default is not p.empty and p.name not in optional
        ):
            break
        count += 1
    return count


def _when(event: str, every: object, once: object, after: object, filter: object) -> When:
    where = f"trainer.on({event!r}, "
    if every is not None and once is not False:
        raise ConfigError(f"{where}every={every!r}, once={once!r}): both at once mean nothing; leave one of them out")
    if filter is not None and not callable(filter):
        raise ConfigError(f"{where}filter={filter!r}): expected a function of the trainer, or of it and the count")
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ConfigError(f"{where}after={after!r}): expected a whole number of at least 0")
    if not isinstance(once, int) or once < 0:
        raise ConfigError(f"{where}once={once!r}): expected True, or the number of the time, from 1")
    first = after + 1 if once is True else int(once)
    interval = None if every is None else parse_interval(every, f"{where}every={every!r})")
    if not callable(filter):
        return When(interval, first, after)
    return When(interval, first, after, filter, filter_counts=_count_of(filter, ()) > 1)
