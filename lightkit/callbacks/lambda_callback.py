"""A callback from functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["LambdaCallback"]

Hook = Callable[..., Any] | None
_HOOKS = ["setup", "teardown", *(name for name in vars(Callback) if name.startswith("on_"))]


class LambdaCallback(Callback):
    """Calls the functions given for hooks: `LambdaCallback(on_train_end=lambda trainer, module: ...)`.

    Args:
        setup, ...: functions by the name of their hook, in Lightning's order; None is left out.

    Raises:
        ConfigError: no hook has that name; names the nearest. Or what was given cannot be called.
    """

    def __init__(
        self, setup: Hook = None, teardown: Hook = None, on_fit_start: Hook = None, on_fit_end: Hook = None,
        on_sanity_check_start: Hook = None, on_sanity_check_end: Hook = None, on_train_batch_start: Hook = None,
        on_train_batch_end: Hook = None, on_train_epoch_start: Hook = None, on_train_epoch_end: Hook = None,
        on_validation_epoch_start: Hook = None, on_validation_epoch_end: Hook = None,
        on_test_epoch_start: Hook = None, on_test_epoch_end: Hook = None, on_validation_batch_start: Hook = None,
        on_validation_batch_end: Hook = None, on_test_batch_start: Hook = None, on_test_batch_end: Hook = None,
        on_train_start: Hook = None, on_train_end: Hook = None, on_validation_start: Hook = None,
        on_validation_end: Hook = None, on_test_start: Hook = None, on_test_end: Hook = None,
        on_exception: Hook = None, on_save_checkpoint: Hook = None, on_load_checkpoint: Hook = None,
        on_before_backward: Hook = None, on_after_backward: Hook = None, on_before_optimizer_step: Hook = None,
        on_before_zero_grad: Hook = None, on_predict_start: Hook = None, on_predict_end: Hook = None,
        on_predict_batch_start: Hook = None, on_predict_batch_end: Hook = None, on_predict_epoch_start: Hook = None,
        on_predict_epoch_end: Hook = None, **more: Hook,
    ) -> None:  # fmt: skip
        given = {name: value for name, value in locals().items() if name in _HOOKS}
        for name, function in {**given, **more}.items():
            if name not in _HOOKS:
                hint = did_you_mean(name, _HOOKS) or f"; the hooks are {', '.join(_HOOKS)}"
                raise ConfigError(f"LambdaCallback({name}=...): there is no such hook{hint}")
            if function is None:
                continue
            if not callable(function):
                raise ConfigError(f"LambdaCallback({name}={function!r}): expected a function.")
            vars(self)[name] = function
