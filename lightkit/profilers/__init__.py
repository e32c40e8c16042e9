"""Profilers: where the time of a run goes; one file each on top of `base.py` and `instrument.py`."""

from __future__ import annotations

from typing import Any

from lightkit.errors import ConfigError, did_you_mean
from lightkit.profilers.advanced import AdvancedProfiler
from lightkit.profilers.base import Profiler
from lightkit.profilers.passthrough import PassThroughProfiler
from lightkit.profilers.pytorch import PyTorchProfiler
from lightkit.profilers.simple import SimpleProfiler

__all__ = ["AdvancedProfiler", "PassThroughProfiler", "Profiler", "PyTorchProfiler", "SimpleProfiler", "choose"]

_NAMED: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler,
}  # fmt: skip


def choose(value: Any) -> Profiler:
    """Return the profiler that `Trainer(profiler=value)` asks for; None: one that does nothing.

    Raises:
        ConfigError: neither None, a Profiler, nor one of the names.
    """
    if value is None:
        return PassThroughProfiler()
    if isinstance(value, Profiler):
        return value
    kind = _NAMED.get(value.lower()) if isinstance(value, str) else None
    if kind is None:
        expected = ", ".join(map(repr, _NAMED))
        hint = did_you_mean(value, _NAMED) if isinstance(value, str) else ""
        raise ConfigError(f"Trainer(profiler={value!r}): expected None, {expected} or a Profiler{hint}")
    return kind()
