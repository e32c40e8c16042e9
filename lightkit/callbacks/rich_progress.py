"""A progress bar for the terminal, drawn by rich."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lightkit.callbacks.progress import PassProgress, ProgressBar, format_metrics, format_rate, format_seconds

__all__ = ["RichProgressBar"]


class RichProgressBar(ProgressBar):
    """Shows a bar with batches, speed, elapsed and remaining time, and metrics; validation has its own.

    It is drawn between steps, never by a thread. What is printed meanwhile appears above it.

    Args:
        refresh_rate: 0 shows nothing, as in Lightning; otherwise it is drawn at most 10 times a second.
        leave: keep the bar of each epoch on the screen.
        console: the rich console to draw on.
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False, console: Console | None = None) -> None:
        super().__init__(every_s=0.1)
        self._is_enabled = refresh_rate > 0
        self._leave = leave
        self._console = console
        self._rich: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._ended: TaskID | None = None  # stays on the screen until the next epoch

    def open_bar(self, bar: PassProgress) -> None:
        """Add a bar, and take away that of the last epoch."""
        rich = self._rich or self._start()
        if self._ended is not None and bar.is_training:
            if not self._leave:
                rich.remove_task(self._ended)
            self._ended = None
        for below in self._bars[:-1]:  # the epoch that a validation interrupts
            rich.update(self._tasks[id(below)], completed=below.done, count=below.count)
        total = None if math.isinf(bar.total) else bar.total
        self._tasks[id(bar)] = rich.add_task(
            bar.label, total=total, completed=bar.done, count=bar.count, speed="", times="", metrics=""
        )
        rich.refresh()

    def draw_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Draw the bar as it is now."""
        assert self._rich is not None
        self._rich.update(
            self._tasks[id(bar)], completed=bar.done, count=bar.count, speed=format_rate(bar.rate),
            times=f"{format_seconds(bar.elapsed_s)} < {format_seconds(bar.remaining_s)}",
            metrics=format_metrics(metrics), refresh=True,
        )  # fmt: skip

    def close_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Leave a training epoch's bar until the next one; take away that of a validation inside a fit."""
        assert self._rich is not None
        if self._stays(bar):
            self.draw_bar(bar, metrics)
            self._ended = self._tasks.pop(id(bar))
        else:
            self._rich.remove_task(self._tasks.pop(id(bar)))
            self._rich.refresh()

    def stop(self) -> None:
        """Give the terminal back, with its cursor."""
        if self._rich is not None:
            self._rich.stop()
        self._rich = self._ended = None
        self._tasks.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_console": None, "_rich": None, "_tasks": {}, "_ended": None}

    def _start(self) -> Progress:
        fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "times", "speed", "metrics")]
        self._rich = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), *fields, console=self._console,
            auto_refresh=False,  # a thread would take the interpreter from the training loop
        )  # fmt: skip
        self._rich.start()
        return self._rich
