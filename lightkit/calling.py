"""Calling what users write by the names of its arguments, where it has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache


def call_by_name(fn: Callable[..., object], **arguments: object) -> object:
    """Call `fn`: by keyword where it has an argument of that name or `**kwargs`, else by position."""
    own = getattr(fn, "__func__", None)  # what is remembered of a method holds no object alive
    named = _takes(fn) if own is None else _takes_of_method(own)
    if named is None:
        return fn(**arguments)
    return fn(
        *(value for name, value in arguments.items() if name not in named),
        **{name: value for name, value in arguments.items() if name in named},
    )


def _takes(fn: Callable[..., object]) -> frozenset[str] | None:
    """The names that `fn` takes by keyword; None: all."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # of a builtin: by position
        return frozenset()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


_takes_of_method = lru_cache(maxsize=256)(_takes)  # an inspection costs 20 microseconds
