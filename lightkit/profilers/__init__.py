"""Profilers: where the time of a run goes; one file each on top of `base.py`, imported when first used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lightkit.errors import ConfigError, did_you_mean
from lightkit.lazy import attach
from lightkit.profilers.base import PassThroughProfiler, Profiler

if TYPE_CHECKING:
    from lightkit.profilers.advanced import AdvancedProfiler
    from lightkit.profilers.pytorch import PyTorchProfiler
    from lightkit.profilers.simple import SimpleProfiler

__all__ = ["AdvancedProfiler", "PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler", "choose"]

_FILES = {"SimpleProfiler": "simple", "AdvancedProfiler": "advanced", "PyTorchProfiler": "pytorch"}

attach(__name__, _FILES)


def choose(value: str | Profiler | None) -> Profiler:
    """Return the profiler that `Trainer(profiler=value)` asks for; None: one that does nothing.

    Raises:
        ConfigError: neither None, a Profiler, nor one of the names.
    """
    if value is None:
        return PassThroughProfiler()
    if isinstance(value, Profiler):
        return value
    kinds = {file: kind for kind, file in _FILES.items()}
    if isinstance(value, str) and (kind := kinds.get(value.lower())) is not None:
        profiler: Profiler = getattr(sys.modules[__name__], kind)()
        return profiler
    expected = ", ".join(map(repr, kinds))
    hint = did_you_mean(value, kinds) if isinstance(value, str) else ""
    raise ConfigError(f"Trainer(profiler={value!r}): expected None, {expected} or a Profiler{hint}")
