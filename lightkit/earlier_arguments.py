"""Arguments that callbacks had in the years 0.7 to 1.3, read as those of today; imported where somebody gives one."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


def required_now(*names: str) -> Callable[[F], F]:
    """Show arguments of a function as required: their defaults are for programs of years ago."""

    def decorate(fn: F) -> F:
        shown = inspect.signature(fn)
        parameters = [p.replace(default=p.empty) if p.name in names else p for p in shown.parameters.values()]
        setattr(fn, "__signature__", shown.replace(parameters=parameters))  # noqa: B010  # what inspect looks for
        return fn

    return decorate


class CheckpointArguments(NamedTuple):
    """What ModelCheckpoint's earlier arguments decide."""

    dirpath: str | Path | None
    filename: str | None
    monitor: str | None
    mode: str
    every_n_epochs: int | str | None


def _mode_of(monitor: str | None, mode: str) -> str:
    """What mode="auto" means: what is called after an accuracy is to grow."""
    if mode != "auto":
        return mode
    name = monitor or ""
    return "max" if "acc" in name or name.startswith("fmeasure") else "min"


def of_checkpoint(earlier: Mapping[str, Any], now: CheckpointArguments, save_top_k: int) -> CheckpointArguments:
    """The arguments of today with what `filepath`, `prefix`, `period` and mode="auto" mean; said in one warning.

    Raises:
        ConfigError: another name, or one that says the same as an argument of today.
    """
    for name in earlier:
        if name not in ("filepath", "prefix", "period"):
            known = [*CheckpointArguments._fields, "verbose", "save_last", "save_top_k", "save_weights_only"]
            raise ConfigError(f"ModelCheckpoint({name}={earlier[name]!r}): no such argument{did_you_mean(name, known)}")
    dirpath, filename, monitor, mode, every_n_epochs = now
    filepath, prefix, period = (earlier.get(name) for name in ("filepath", "prefix", "period"))
    if filepath is not None:
        if dirpath is not None or filename is not None:
            raise ConfigError(f"ModelCheckpoint(filepath={filepath!r}): dirpath and filename say it too; leave it out")
        folder, name = os.path.split(str(filepath))
        is_folder = name == "" or place(str(filepath)).is_dir()
        dirpath, filename = (str(filepath), None) if is_folder else (folder or None, name)
        monitor = "val_loss" if monitor is None and save_top_k not in (-1, 0, 1) else monitor
    if prefix:
        filename = f"{prefix}-{filename or '{epoch}'}"
    if period is not None:
        every_n_epochs = period
    found = CheckpointArguments(dirpath, filename, monitor, _mode_of(monitor, mode), every_n_epochs)
    old = ", ".join(f"{name}={value!r}" for name, value in earlier.items())
    new = ", ".join(f"{name}={value!r}" for name, value in found._asdict().items() if value != getattr(now, name))
    warnings.warn(f"ModelCheckpoint({old}): of an earlier Lightning; read as {new or 'nothing'}", stacklevel=3)
    return found
