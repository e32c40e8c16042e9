"""No profiler: what `Trainer(profiler=None)` means."""

from __future__ import annotations

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

    def _timing(self, *, is_nested: bool) -> Timing:
        return UNTIMED

    def _open(self, trainer: Trainer) -> None:
        """Nothing is written."""
