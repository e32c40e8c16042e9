"""Hooks of the years 0.7 to 1.5 that go by other names: on_epoch_start, on_epoch_end, on_batch_start, on_batch_end.

An adapter of each owner stands before it among the callbacks, the module's after all of them, and calls its hook where
the one of today has its turn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback

if TYPE_CHECKING:
    from lightkit.module import LightModule

_STAGES = ("train", "validation", "test", "predict")
# the hook of today -> the earlier one
_BEFORE = {"on_train_batch_start": "on_batch_start", **{f"on_{s}_epoch_start": "on_epoch_start" for s in _STAGES}}
_AFTER = {"on_train_batch_end": "on_batch_end", **{f"on_{s}_epoch_end": "on_epoch_end" for s in _STAGES}}


class Turns(Callback):
    """Calls the earlier hooks of a callback, or of the module."""

    def __init__(self, owner: object, hooks: dict[str, str]):
        self.owner, self.hooks = owner, hooks
        for name, earlier in hooks.items():
            if callable(hook := getattr(owner, earlier, None)) and self._is_hook(hook, name):
                vars(self)[name] = self._turn(hook)

    def _is_hook(self, hook: Callable[..., Any], name: str) -> bool:
        """Whether it can be called as the hook was; programs of today have methods of their own by these names."""
        needed = [p for p in inspect.signature(hook).parameters.values() if p.default is p.empty]
        needed = [p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        of_batch = {"on_train_batch_start": 2, "on_train_batch_end": 3}.get(name, 0)
        return len(needed) <= of_batch + (2 if isinstance(self.owner, Callback) else 0)

    def _turn(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        first = 2 if isinstance(self.owner, Callback) else 0  # (trainer, pl_module), which a module's has not
        kinds = [p.kind for p in inspect.signature(hook).parameters.values()]
        takes = len(kinds) if inspect.Parameter.VAR_POSITIONAL not in kinds else None

        def turn(trainer: object, pl_module: object, *args: object) -> object:
            given = (trainer, pl_module, *args)[2 - first :]
            return hook(*given[:takes])

        return turn


def with_turns(module: LightModule, callbacks: Sequence[Callback]) -> list[Callback]:
    """The callbacks with adapters for the earlier hooks of each of them and of the module."""
    found: list[Callback] = []
    for callback in callbacks:
        found += _of(callback, callback)
    saving = next((i for i, each in enumerate(found) if hasattr(each, "best_model_path")), len(found))
    return [*found[:saving], *_of(module, None), *found[saving:]]


def _of(owner: object, callback: Callback | None) -> list[Callback]:
    turns: list[Callback] = [] if callback is None else [callback]
    if any(hasattr(owner, earlier) for earlier in _BEFORE.values()):
        turns.insert(0, Turns(owner, _BEFORE))
    if any(hasattr(owner, earlier) for earlier in _AFTER.values()):
        turns.append(Turns(owner, _AFTER))
    return turns
