"""Show how far a run is: the base of progress bars, and sober lines where there is no terminal."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, did_you_mean

__all__ = ["LineProgress", "Progress", "ProgressBar", "default_progress_bar"]


def default_progress_bar() -> ProgressBar | None:
    """Return a bar in a terminal, else lines, unless LIGHTKIT_PROGRESS=bar|lines|off says (off: None)."""
    wish = os.environ.get("LIGHTKIT_PROGRESS", "").strip().lower()
    if wish not in ("", "bar", "lines", "off"):
        hint = did_you_mean(wish, ("bar", "lines", "off"))
        raise ConfigError(f"LIGHTKIT_PROGRESS={wish!r}: expected 'bar', 'lines' or 'off'{hint}")
    if wish == "off":
        return None
    if wish == "bar" or (wish == "" and sys.stdout.isatty()):
        from lightkit.callbacks.rich_progress import RichProgressBar

        return RichProgressBar()
    return LineProgress()


@dataclass
class Progress:
    """How far one pass over data is. `total` is inf where the loader has no length."""

    label: str
    total: float
    done: int = 0
    initial: int = 0  # batches done before, in the run that is resumed
    started_s: float = field(default_factory=time.monotonic)
    is_training: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start, without those of a validation in between."""
        return time.monotonic() - self.started_s

    @property
    def rate(self) -> float:
        """Batches per second."""
        return (self.done - self.initial) / max(self.elapsed_s, 1e-9)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the end at this rate; None where that cannot be known."""
        rate = self.rate
        return None if math.isinf(self.total) or rate <= 0 else max(self.total - self.done, 0) / rate

    @property
    def count(self) -> str:
        """Batches done of all: `3/10`, or `3/?`."""
        return f"{self.done}/{'?' if math.isinf(self.total) else int(self.total)}"


def format_seconds(seconds: float | None) -> str:
    """Return `1:02:03`, or `-:--:--` for None."""
    if seconds is None:
        return "-:--:--"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def format_rate(rate: float) -> str:
    """Return `12.3 it/s`, or `4.5 s/it` for less than one a second."""
    if rate <= 0:
        return "- it/s"
    number, unit = (rate, "it/s") if rate >= 1 else (1 / rate, "s/it")
    return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return `loss=0.1234 acc=0.9`."""
    shown = {name: f"{v:.4g}" if isinstance(v, float) else str(v) for name, v in metrics.items()}
    return " ".join(f"{name}={text}" for name, text in shown.items())


class ProgressBar(Callback):
    """Base of progress bars: counts batches, keeps the time, and asks for a drawing every so often.

    A step costs one reading of the clock. Metrics, whose reading makes the device finish its work, are read
    when something is drawn. Subclasses draw: `open_bar`, `draw_bar`, `close_bar`, `stop`; or they override
    `get_metrics` to choose what is shown.

    Args:
        every_s: seconds between two drawings.
    """

    def __init__(self, every_s: float = 0.1) -> None:
        self.every_s = every_s
        self._bars: list[Progress] = []  # the validation stands on top of the epoch that it interrupts
        self._bar = Progress("", 0)
        self._draw_at_s = math.inf
        self._is_enabled = True
        self._trainer: Any = None

    # What a subclass overrides.

    def open_bar(self, bar: Progress) -> None:
        """Begin to show a pass over data."""

    def draw_bar(self, bar: Progress, metrics: Mapping[str, Any]) -> None:
        """Show how far the pass is; `metrics` is empty outside of training."""

    def close_bar(self, bar: Progress, metrics: Mapping[str, Any]) -> None:
        """The pass is over."""

    def stop(self) -> None:
        """Nothing more is to be shown, also after an error."""

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Return the metrics to show: those logged with `prog_bar=True`."""
        return dict(trainer.progress_bar_metrics)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        print(*args, **kwargs)

    # On and off.

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._is_enabled

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self._is_enabled

    def enable(self) -> None:
        """Show the next pass over data, and those after it."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._end()
        self._is_enabled = False

    @property
    def trainer(self) -> Any:
        """The trainer that runs."""
        return self._trainer

    # Bookkeeping.

    def _begin(self, label: str, total: float, initial: int = 0, is_training: bool = False) -> None:
        if self._is_enabled:
            self._bar = Progress(label, total, initial, initial, is_training=is_training)
            self._bars.append(self._bar)
            self.open_bar(self._bar)
            self._draw_at_s = self._bar.started_s + self.every_s

    def _draw(self, trainer: Any, pl_module: Any) -> None:
        bar = self._bar
        self.draw_bar(bar, self.get_metrics(trainer, pl_module) if bar.is_training else {})
        self._draw_at_s = time.monotonic() + self.every_s

    def _finish(self, trainer: Any, pl_module: Any) -> None:
        if not self._bars:
            return
        bar = self._bars.pop()
        self.close_bar(bar, self.get_metrics(trainer, pl_module) if bar.is_training else {})
        for below in self._bars:
            below.started_s += bar.elapsed_s
        if self._bars:
            self._bar = self._bars[-1]
        else:
            self._draw_at_s = math.inf

    def _end(self) -> None:
        self._bars.clear()
        self._draw_at_s = math.inf
        self.stop()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Show nothing in processes other than the first."""
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Stop showing."""
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it should be."""
        self._end()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show the rest of the epoch that a resumed run goes on with."""
        if trainer.fit_loop.batches_done > 0:
            self._begin_epoch(trainer, trainer.fit_loop.batches_done)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Show a new epoch."""
        self._begin_epoch(trainer, 0)

    def _begin_epoch(self, trainer: Any, initial: int) -> None:
        while self._bars:
            self.close_bar(self._bars.pop(), {})
        last = trainer.max_epochs
        of = "" if last is None or last < 0 else f"/{last - 1}"
        self._begin(f"Epoch {trainer.current_epoch}{of}", trainer.num_training_batches, initial, True)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._bar.done = batch_idx + 1
        if time.monotonic() >= self._draw_at_s:
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the end of the epoch."""
        self._finish(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop showing."""
        self._end()

    def _count(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._bar.done += 1
        if time.monotonic() >= self._draw_at_s:
            self._draw(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Show a validation or the sanity check."""
        if trainer.sanity_checking:
            self._begin("Sanity check", sum(trainer.num_sanity_val_batches))
        else:
            self._begin("Validation", sum(trainer.num_val_batches))

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Show a test."""
        self._begin("Test", sum(trainer.num_test_batches))

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Show a prediction."""
        self._begin("Prediction", sum(trainer.num_predict_batches))

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._count(trainer, pl_module)

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._count(trainer, pl_module)

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._count(trainer, pl_module)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Go back to what the validation interrupted."""
        self._finish(trainer, pl_module)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the end of the test."""
        self._finish(trainer, pl_module)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the end of the prediction."""
        self._finish(trainer, pl_module)


class LineProgress(ProgressBar):
    """Prints one line every `every_s` seconds and at the end of each epoch, for logs and pipes."""

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__(every_s)

    def draw_bar(self, bar: Progress, metrics: Mapping[str, Any]) -> None:
        """Print a line: label, batches, speed, time and metrics."""
        remaining = bar.remaining_s
        left = "" if remaining is None or bar.done >= bar.total else f", {format_seconds(remaining)} left"
        parts = [bar.label, bar.count, format_rate(bar.rate), f"{format_seconds(bar.elapsed_s)}{left}"]
        if metrics:
            parts.append(format_metrics(metrics))
        self.print("  ".join(parts), flush=True)

    def close_bar(self, bar: Progress, metrics: Mapping[str, Any]) -> None:
        """Print the last line, except for a validation inside a fit: the epoch's line follows it."""
        if bar.is_training or not self._bars and bar.label != "Sanity check":
            self.draw_bar(bar, metrics)
