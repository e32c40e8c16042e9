"""Progress as sober lines, where there is no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightkit.callbacks.progress.progress_bar import (
    PassProgress,
    ProgressBar,
    format_metrics,
    format_rate,
    format_seconds,
)

__all__ = ["LineProgress"]


class LineProgress(ProgressBar):
    """Prints one line every `every_s` seconds and at the end of each epoch, for logs and pipes."""

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__(every_s)

    def draw_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Print a line: label, batches, speed, time and metrics."""
        remaining = bar.remaining_s
        left = "" if remaining is None or bar.done >= bar.total else f", {format_seconds(remaining)} left"
        parts = [bar.label, bar.count, format_rate(bar.rate), f"{format_seconds(bar.elapsed_s)}{left}"]
        if metrics:
            parts.append(format_metrics(metrics))
        self.print("  ".join(parts), flush=True)

    def close_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Print the last line, except for a validation inside a fit: the epoch's line follows it."""
        if self._stays(bar):
            self.draw_bar(bar, metrics)
