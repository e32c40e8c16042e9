"""A callback from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["LambdaCallback"]

_HOOKS = ["setup", "teardown", *(name for name in vars(Callback) if name.startswith("on_"))]


class LambdaCallback(Callback):
    """Calls the functions given for hooks: `LambdaCallback(on_train_end=lambda trainer, module: ...)`.

    Args:
        **hooks: functions by the name of the hook; None is left out.

    Raises:
        ConfigError: no hook has that name; names the nearest. Or what was given cannot be called.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        for name, function in hooks.items():
            if name not in _HOOKS:
                hint = did_you_mean(name, _HOOKS) or f"; the hooks are {', '.join(_HOOKS)}"
                raise ConfigError(f"LambdaCallback({name}=...): there is no such hook{hint}")
            if function is None:
                continue
            if not callable(function):
                raise ConfigError(f"LambdaCallback({name}={function!r}): expected a function.")
            vars(self)[name] = function
