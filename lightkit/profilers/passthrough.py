"""No profiler: what `Trainer(profiler=None)` means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightkit.contracts import Timing
from lightkit.profilers.base import UNTIMED, Profiler

if TYPE_CHECKING:
    from lightkit.trainer import Trainer

__all__ = ["PassThroughProfiler"]


class PassThroughProfiler(Profiler):
    """Records nothing, times nothing, writes nothing."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Run what is inside."""
        yield action_name

    def _timing(self, *, is_nested: bool) -> Timing:
        return UNTIMED

    def _begin(self, trainer: Trainer, stage: str) -> None:
        """Nothing is recorded."""

    def _open(self, trainer: Trainer) -> None:
        """Nothing is written."""

    def _end(self, trainer: Trainer, status: str) -> None:
        """Nothing is reported."""
