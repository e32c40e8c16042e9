"""Profilers: where the time of a run goes; one file each on top of `base.py`, imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightkit.errors import ConfigError, did_you_mean
from lightkit.profilers.base import PassThroughProfiler, Profiler

if TYPE_CHECKING:
    from lightkit.profilers.advanced import AdvancedProfiler
    from lightkit.profilers.pytorch import PyTorchProfiler
    from lightkit.profilers.simple import SimpleProfiler

__all__ = ["AdvancedProfiler", "PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler", "choose"]

_FILES = {"SimpleProfiler": "simple", "AdvancedProfiler": "advanced", "PyTorchProfiler": "pytorch"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def choose(value: str | Profiler | None) -> Profiler:
    """Return the profiler that `Trainer(profiler=value)` asks for; None: one that does nothing.

    Raises:
        ConfigError: neither None, a Profiler, nor one of the names.
    """
    if value is None:
        return PassThroughProfiler()
    if isinstance(value, Profiler):
        return value
    name = value.lower() if isinstance(value, str) else ""
    for kind, file in _FILES.items():
        if name == file:
            profiler: Profiler = __getattr__(kind)()
            return profiler
    expected = ", ".join(map(repr, _FILES.values()))
    hint = did_you_mean(value, _FILES.values()) if isinstance(value, str) else ""
    raise ConfigError(f"Trainer(profiler={value!r}): expected None, {expected} or a Profiler{hint}")
