"""Which arguments a hook takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def is_param_in_hook_signature(
    hook_fx: Callable[..., object], param: str, explicit: bool = False, min_args: int | None = None
) -> bool:
    """Whether the hook takes an argument of this name.

    explicit: `*args` does not count. min_args: it also does where it has at least so many arguments.
    """
    hook = inspect.unwrap(hook_fx)
    found = inspect.signature(hook).parameters.values()
    named = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in found)
    is_long = min_args is not None and len(named) >= min_args
    return param in named or (not explicit and takes_any) or is_long
