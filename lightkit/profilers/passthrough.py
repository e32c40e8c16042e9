"""No profiler: what `Trainer(profiler=None)` means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightkit.profilers.base import Profiler

__all__ = ["PassThroughProfiler"]


class PassThroughProfiler(Profiler):
    """Records nothing, wraps nothing, writes nothing."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Run what is inside."""
        yield action_name

    def begin(self, trainer: Any, stage: str) -> None:
        """Nothing is wrapped."""

    def open(self, trainer: Any) -> None:
        """Nothing is written."""

    def end(self, trainer: Any, status: str) -> None:
        """Nothing is reported."""

    def instrument(self, loop: Any) -> None:
        """Nothing is wrapped."""

    def instrument_evaluation(self, loop: Any) -> None:
        """Nothing is wrapped."""

    def instrument_source(self, source: Any) -> None:
        """Nothing is wrapped."""
