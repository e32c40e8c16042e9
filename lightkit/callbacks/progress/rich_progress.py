"""A progress bar for the terminal, drawn by rich."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import get_console, reconfigure
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lightkit.callbacks.progress.progress_bar import (
    Kind,
    PassProgress,
    ProgressBar,
    format_metrics,
    format_rate,
    format_seconds,
)
from lightkit.errors import HookError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["RichProgressBar", "RichProgressBarTheme"]


@dataclass(frozen=True)
class RichProgressBarTheme:
    """The styles of rich (a colour, "bold", ...) of the parts of the bar; "": as the terminal's text.

    description: "Epoch 3/9", "Validation", ...; progress_bar, progress_bar_finished, progress_bar_pulse: the bar, when
    it is full, when there is no length; batch_progress: 10/50; time: elapsed and remaining; processing_speed: 12 it/s;
    metrics. metrics_text_delimiter stands between two metrics, metrics_format is how a number is written.
    """

    description: str | Style = ""
    progress_bar: str | Style = "#6206E0"
    progress_bar_finished: str | Style = "#6206E0"
    progress_bar_pulse: str | Style = "#6206E0"
    batch_progress: str | Style = ""
    time: str | Style = "dim"
    processing_speed: str | Style = "dim underline"
    metrics: str | Style = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"


BAR_WIDTH, LEAST_BAR_WIDTH = 20, 5

_THEME = RichProgressBarTheme()


class RichProgressBar(ProgressBar):
    """Shows a bar with batches, speed, elapsed and remaining time, and metrics; validation has its own.

    It is drawn between steps, never by a thread. What is printed meanwhile appears above it.

    Args:
        refresh_rate: how often a second it is drawn, at most; more than 10 times it never is. 0 shows nothing.
        leave: keep the bar of each epoch on the screen.
        theme: the styles.
        console_kwargs: arguments of rich's Console, which `rich.print` uses from then on as well.
        console: the rich console to draw on, instead.
    """

    def __init__(
        self,
        refresh_rate: int = 100,
        leave: bool = False,
        theme: RichProgressBarTheme = _THEME,
        console_kwargs: dict[str, Any] | None = None,
        *,
        console: Console | None = None,
    ) -> None:
        super().__init__(every_s=max(0.1, 1 / refresh_rate) if refresh_rate > 0 else math.inf)
        self._refresh_rate = refresh_rate
        self._leave = leave
        self.theme = theme
        self._console_kwargs = console_kwargs or {}
        self._console = console
        self._rich: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._ended: TaskID | None = None  # stays on the screen until the next epoch
        self._shown: dict[Kind, TaskID] = {}  # the newest of each kind

    # What users read, and override.

    @property
    def progress(self) -> Progress | None:
        """What rich draws; None where nothing is shown."""
        return self._rich

    @property
    def train_progress_bar(self) -> Task:
        """The bar of the epoch."""
        return self._task("train")

    @property
    def val_sanity_check_bar(self) -> Task:
        """The bar of the sanity check."""
        return self._task("sanity_check")

    @property
    def val_progress_bar(self) -> Task:
        """The bar of the validation."""
        return self._task("validate")

    @property
    def test_progress_bar(self) -> Task:
        """The bar of the test."""
        return self._task("test")

    @property
    def predict_progress_bar(self) -> Task:
        """The bar of the prediction."""
        return self._task("predict")

    def _task(self, kind: Kind) -> Task:
        task_id = self._shown.get(kind)
        found = [task for task in self._rich.tasks if task.id == task_id] if self._rich is not None else []
        if not found:
            raise HookError(f"{type(self).__name__}: there is no bar of kind {kind!r} on the screen now")
        return found[0]

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return rich's columns of the bar, but that of the metrics, which stands behind them."""
        theme = self.theme
        return [
            TextColumn("{task.description}", style=theme.description),
            BarColumn(
                bar_width=BAR_WIDTH, complete_style=theme.progress_bar, finished_style=theme.progress_bar_finished,
                pulse_style=theme.progress_bar_pulse,
            ),
            TextColumn("{task.fields[count]}", style=theme.batch_progress),
            TextColumn("{task.fields[times]}", style=theme.time),
            TextColumn("{task.fields[speed]}", style=theme.processing_speed),
        ]  # fmt: skip

    def refresh(self, hard: bool = False) -> None:
        """Draw now what is known; `hard` is Lightning's and makes no difference."""
        if self._rich is not None:
            self._rich.refresh()

    # What the base asks for.

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
        self._tasks[id(bar)] = self._shown[bar.kind] = rich.add_task(
            bar.label, total=total, completed=bar.done, count=bar.count, speed="", times="", metrics=""
        )
        rich.refresh()

    def draw_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Draw the bar as it is now."""
        assert self._rich is not None
        self._rich.update(
            self._tasks[id(bar)], completed=bar.done, count=bar.count, speed=format_rate(bar.rate),
            times=f"{format_seconds(bar.elapsed_s)} < {format_seconds(bar.remaining_s)}",
            metrics=format_metrics(metrics, self.theme.metrics_format, self.theme.metrics_text_delimiter), refresh=True,
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

    def _note_loader(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note which loader is read, for `total_val_batches_current_dataloader` and the like."""
        self.has_dataloader_changed(dataloader_idx)

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _note_loader

    def __getstate__(self) -> dict[str, Any]:
        drawn = {"_console": None, "_rich": None, "_ended": None}
        return {**super().__getstate__(), **drawn, "_tasks": {}, "_shown": {}}

    def _start(self) -> Progress:
        if self._console is None and self._console_kwargs:
            reconfigure(**self._console_kwargs)
        self._rich = _Shown(
            *self.configure_columns(self.trainer), console=self._console or get_console(),
            metrics_style=self.theme.metrics,
        )  # fmt: skip
        self._rich.start()
        return self._rich


class _Shown(Progress):
    """rich's display: metrics stand behind the bars, or below them where the terminal is too narrow for both."""

    def __init__(self, *columns: str | ProgressColumn, console: Console, metrics_style: str | Style) -> None:
        self._terminal = console
        self._metrics = TextColumn("{task.fields[metrics]}", style=metrics_style)
        self._bars = [c for c in columns if isinstance(c, BarColumn) and c.bar_width == BAR_WIDTH]
        # a thread that draws would take the interpreter from the training loop
        super().__init__(*columns, console=console, auto_refresh=False)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines to draw."""
        own = self.columns
        tasks = [task for task in self.tasks if task.visible]
        self._set_bar_width(BAR_WIDTH)
        self.columns = (*own, self._metrics)
        try:
            together = self.make_tasks_table(self.tasks)
        finally:
            self.columns = own
        if self._width_of(together) <= self._terminal.width:
            yield together
            return
        table = self.make_tasks_table(self.tasks)
        too_wide = self._width_of(table) - self._terminal.width
        if too_wide > 0 and self._bars:
            self._set_bar_width(max(BAR_WIDTH - too_wide, LEAST_BAR_WIDTH))
            table = self.make_tasks_table(self.tasks)
        yield table
        for task in tasks:
            if task.fields.get("metrics"):
                yield Text(task.fields["metrics"], style=self._metrics.style, overflow="fold")

    def _width_of(self, table: Table) -> int:
        # of what it would like to be, however wide the terminal is
        return Measurement.get(self._terminal, self._terminal.options.update(width=10_000), table).maximum

    def _set_bar_width(self, width: int) -> None:
        for column in self._bars:
            column.bar_width = width
