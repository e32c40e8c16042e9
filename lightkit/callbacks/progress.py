"""Show how far a run is: the base of progress bars, and sober lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightkit.callbacks.base import Callback
from lightkit.errors import HookError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["LineProgress", "PassProgress", "ProgressBar"]


@dataclass
class PassProgress:
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
        self._bars: list[PassProgress] = []  # the validation stands on top of the epoch that it interrupts
        self._bar = PassProgress("", 0)
        self._draw_at_s = math.inf
        self._is_enabled = True
        self._trainer: Trainer | None = None
        self._runs: list[tuple[str, int]] = []  # stage and bars below of each run under way: one may be inside another

    # What a subclass overrides.

    def open_bar(self, bar: PassProgress) -> None:
        """Begin to show a pass over data."""

    def draw_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """Show how far the pass is; `metrics` is empty outside of training."""

    def close_bar(self, bar: PassProgress, metrics: Mapping[str, Any]) -> None:
        """The pass is over."""

    def stop(self) -> None:
        """Nothing more is to be shown, also after an error."""

    def get_metrics(self, trainer: Trainer, pl_module: LightModule) -> dict[str, Any]:
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
    def trainer(self) -> Trainer:
        """The trainer that runs."""
        if self._trainer is None:
            raise HookError(f"{type(self).__name__}.trainer: no Trainer runs this callback yet")
        return self._trainer

    # Bookkeeping.

    def _begin(self, label: str, total: float, initial: int = 0, is_training: bool = False) -> None:
        if self._is_enabled:
            self._bar = PassProgress(label, total, initial, initial, is_training=is_training)
            self._bars.append(self._bar)
            self.open_bar(self._bar)
            self._draw_at_s = self._bar.started_s + self.every_s

    def _metrics_of(self, bar: PassProgress, trainer: Trainer, pl_module: LightModule) -> dict[str, Any]:
        return self.get_metrics(trainer, pl_module) if bar.is_training else {}

    def _draw(self, trainer: Trainer, pl_module: LightModule) -> None:
        self.draw_bar(self._bar, self._metrics_of(self._bar, trainer, pl_module))
        self._draw_at_s = time.monotonic() + self.every_s

    def _close_top(self, metrics: Mapping[str, Any]) -> None:
        """Close the bar on top, and go back to the one that it interrupted."""
        bar = self._bars.pop()
        self.close_bar(bar, metrics)
        for below in self._bars:
            below.started_s += bar.elapsed_s
        if self._bars:
            self._bar = self._bars[-1]
        else:
            self._draw_at_s = math.inf

    def _finish(self, trainer: Trainer, pl_module: LightModule) -> None:
        if self._bars:
            self._close_top(self._metrics_of(self._bars[-1], trainer, pl_module))

    def _end(self) -> None:
        self._bars.clear()
        self._draw_at_s = math.inf
        self.stop()

    def _stays(self, bar: PassProgress) -> bool:
        """Whether the end of a pass stays on the screen: not where the bar of an epoch goes on or follows."""
        is_inside = bool(self._bars) or len(self._runs) > 1
        return bar.is_training or (not is_inside and bar.label != "Sanity check")

    def __getstate__(self) -> dict[str, Any]:
        # what is shown belongs to this bar and to its run
        return {**super().__getstate__(), "_trainer": None, "_bars": [], "_runs": [], "_draw_at_s": math.inf}

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Show nothing in processes other than the first."""
        if stage == "fit":
            self._runs.clear()  # no fit is inside another run
        self._runs.append((stage, len(self._bars)))
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Stop showing, or go back to the run that this one was inside of."""
        if self._runs:
            open_stage, num_below = self._runs[-1]
            if open_stage != stage:
                return  # what failed before its setup was inside a run that goes on
            self._runs.pop()
            while len(self._bars) > num_below:
                self._close_top({})
        if not self._runs:
            self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None:
        """Leave the terminal as it should be, unless the exception is that of a run inside another."""
        if not self._runs or trainer.state.fn == self._runs[0][0]:
            self._runs.clear()
            self._end()

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show the rest of the epoch that a resumed run goes on with."""
        if trainer.fit_loop.batches_done > 0:
            self._begin_epoch(trainer, trainer.fit_loop.batches_done)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show a new epoch."""
        self._begin_epoch(trainer, 0)

    def _begin_epoch(self, trainer: Trainer, initial: int) -> None:
        while self._bars:
            self.close_bar(self._bars.pop(), {})
        last = trainer.max_epochs
        of = "" if last is None or last < 0 else f"/{last - 1}"
        self._begin(f"Epoch {trainer.current_epoch}{of}", trainer.num_training_batches, initial, True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._bar.done = batch_idx + 1
        if time.monotonic() >= self._draw_at_s:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Stop showing."""
        self._end()

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show a validation, the sanity check, a test or a prediction."""
        if trainer.sanity_checking:
            self._begin("Sanity check", sum(trainer.num_sanity_val_batches))
        elif trainer.state.fn == "test":
            self._begin("Test", sum(trainer.num_test_batches))
        elif trainer.state.fn == "predict":
            self._begin("Prediction", sum(trainer.num_predict_batches))
        else:
            self._begin("Validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch, and draw if it is time."""
        self._bar.done += 1
        if time.monotonic() >= self._draw_at_s:
            self._draw(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show the end of the pass, and go back to what it interrupted."""
        self._finish(trainer, pl_module)

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_train_epoch_end = on_test_end = on_predict_end = on_validation_end


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
