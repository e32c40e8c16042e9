"""Show how far a run is: what all progress bars share."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lightkit.callbacks.base import Callback
from lightkit.errors import HookError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["PassProgress", "ProgressBar", "get_standard_metrics"]


Kind = Literal["train", "validate", "sanity_check", "test", "predict"]


@dataclass
class PassProgress:
    """How far one pass over data is. `total` is inf where the loader has no length."""

    label: str
    total: float
    done: int = 0
    initial: int = 0  # batches done before, in the run that is resumed
    started_s: float = field(default_factory=time.monotonic)
    kind: Kind = "validate"

    @property
    def is_training(self) -> bool:
        """Whether it is an epoch of a training."""
        return self.kind == "train"

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


def format_metrics(metrics: Mapping[str, Any], number_format: str = ".4g", delimiter: str = " ") -> str:
    """Return `loss=0.1234 acc=0.9`; whole numbers and words stay as they are."""
    return delimiter.join(f"{name}={_format_value(value, number_format)}" for name, value in metrics.items())


def _format_value(value: object, number_format: str) -> str:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return format(value, number_format) if isinstance(value, float) else str(value)


def get_standard_metrics(trainer: Trainer) -> dict[str, int | str]:
    """Return what is shown without being logged: `v_num`, the version of the loggers where they have one."""
    found = [getattr(logger, "version", None) for logger in trainer.loggers]
    versions = dict.fromkeys(str(version) for version in found if version not in (None, ""))
    if not versions:
        return {}
    first = found[0]
    return {"v_num": first if len(versions) == 1 and isinstance(first, int) else "_".join(versions)[-4:]}


class ProgressBar(Callback):
    """Base of progress bars: counts batches, keeps the time, and asks for a drawing every so often.

    A step costs one reading of the clock. Metrics, whose reading makes the device finish its work, are read
    when something is drawn. Subclasses draw: `open_bar`, `draw_bar`, `close_bar`, `stop`; or they override
    `get_metrics` to choose what is shown, or the `*_description` of a pass. A bar of Lightning's kind, which
    overrides hooks and reads `total_train_batches` and the like, works too.

    Args:
        every_s: seconds between two drawings.
    """

    def __init__(self, every_s: float = 0.1) -> None:
        self.every_s = every_s
        self._refresh_rate = 1
        self._every_batches = 1  # drawn only at batches whose count is a multiple of it
        self._bars: list[PassProgress] = []  # the validation stands on top of the epoch that it interrupts
        self._bar = PassProgress("", 0)
        self._draw_at_s = math.inf
        self._is_enabled = True
        self._trainer: Trainer | None = None
        self._current_eval_dataloader_idx: int | None = None
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
        """Return the metrics to show: those logged with `prog_bar=True`, and the version of the loggers, `v_num`."""
        return {**get_standard_metrics(trainer), **trainer.progress_bar_metrics}

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        print(*args, **kwargs)

    # What a pass is called.

    @property
    def sanity_check_description(self) -> str:
        """What the sanity check is called."""
        return "Sanity Checking"

    @property
    def train_description(self) -> str:
        """What a training is called before its first epoch begins."""
        return "Training"

    @property
    def validation_description(self) -> str:
        """What a validation is called."""
        return "Validation"

    @property
    def test_description(self) -> str:
        """What a test is called."""
        return "Testing"

    @property
    def predict_description(self) -> str:
        """What a prediction is called."""
        return "Predicting"

    # On and off.

    @property
    def refresh_rate(self) -> int:
        """How often it is drawn, in the unit of the bar; 0: never."""
        return self._refresh_rate

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._is_enabled and self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self.is_enabled

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

    # How many batches there are; inf where a loader has no length.

    @property
    def total_train_batches(self) -> float:
        """Batches of this training epoch; fewer than the loader's where `max_steps` alone ends the training in it."""
        trainer = self.trainer
        if trainer.max_epochs != -1 or trainer.max_steps <= 0:
            return trainer.num_training_batches
        steps = max(trainer.max_steps - trainer.global_step, 0)
        left = steps * trainer.accumulate_grad_batches - trainer.fit_loop.micro
        return min(trainer.num_training_batches, trainer.fit_loop.batches_done + left)

    @property
    def total_val_batches_current_dataloader(self) -> float:
        """Batches of the validation loader that is read now, in the sanity check those of the check."""
        return self._of_current_loader(self._val_batches())

    @property
    def total_test_batches_current_dataloader(self) -> float:
        """Batches of the test loader that is read now."""
        return self._of_current_loader(self.trainer.num_test_batches)

    @property
    def total_predict_batches_current_dataloader(self) -> float:
        """Batches of the prediction's loader that is read now."""
        return self._of_current_loader(self.trainer.num_predict_batches)

    @property
    def total_val_batches(self) -> float:
        """Batches of all validation loaders; 0 in an epoch that is not validated."""
        trainer = self.trainer
        if trainer.state.fn == "validate":
            return sum(trainer.num_val_batches)
        if not trainer.enable_validation or not trainer.fit_loop.run.data.plan.validates_in(trainer.current_epoch):
            return 0
        return sum(trainer.num_val_batches)

    def has_dataloader_changed(self, dataloader_idx: int) -> bool:
        """Note which loader of an evaluation is read; -> whether it is another one than at the last call."""
        before, self._current_eval_dataloader_idx = self._current_eval_dataloader_idx, dataloader_idx
        return before != dataloader_idx

    def reset_dataloader_idx_tracker(self) -> None:
        """No loader of an evaluation is read."""
        self._current_eval_dataloader_idx = None

    def _of_current_loader(self, batches: list[float]) -> float:
        index = self._current_eval_dataloader_idx or 0
        return batches[index] if index < len(batches) else 0

    def _val_batches(self) -> list[float]:
        trainer = self.trainer
        return trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches

    # Bookkeeping.

    def _begin(self, label: str, total: float, kind: Kind = "validate", initial: int = 0) -> None:
        if self.is_enabled:
            self._bar = PassProgress(label, total, initial, initial, kind=kind)
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

    def _is_due(self) -> bool:
        return time.monotonic() >= self._draw_at_s and self._bar.done % self._every_batches == 0

    def _end(self) -> None:
        self._bars.clear()
        self._draw_at_s = math.inf
        self.stop()

    def _stays(self, bar: PassProgress) -> bool:
        """Whether the end of a pass stays on the screen: not where the bar of an epoch goes on or follows."""
        is_inside = bool(self._bars) or len(self._runs) > 1
        return bar.is_training or (not is_inside and bar.kind != "sanity_check")

    def __getstate__(self) -> dict[str, Any]:
        # what is shown belongs to this bar and to its run
        shown = {"_trainer": None, "_draw_at_s": math.inf, "_current_eval_dataloader_idx": None}
        return {**super().__getstate__(), **shown, "_bars": [], "_runs": []}

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
        self._begin(self._label_of_epoch(trainer), self.total_train_batches, "train", initial)

    def _label_of_epoch(self, trainer: Trainer) -> str:
        last = trainer.max_epochs
        of = "" if last is None or last < 0 else f"/{last - 1}"
        return f"Epoch {trainer.current_epoch}{of}"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and draw if it is time."""
        self._bar.done = batch_idx + 1
        if self._is_due():
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show the end of the epoch."""
        if self._bars and self._bars[-1].is_training:
            self._close_top(self._metrics_of(self._bars[-1], trainer, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Stop showing."""
        self._end()

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show a validation, or the sanity check."""
        self.reset_dataloader_idx_tracker()
        if trainer.sanity_checking:
            self._begin(self.sanity_check_description, sum(trainer.num_sanity_val_batches), "sanity_check")
        else:
            self._begin(self.validation_description, sum(trainer.num_val_batches))

    def on_test_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show a test."""
        self.reset_dataloader_idx_tracker()
        self._begin(self.test_description, sum(trainer.num_test_batches), "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show a prediction."""
        self.reset_dataloader_idx_tracker()
        self._begin(self.predict_description, sum(trainer.num_predict_batches), "predict")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch, and draw if it is time."""
        self._bar.done += 1
        if self._is_due():
            self._draw(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Show the end of the pass, and go back to what it interrupted."""
        self.reset_dataloader_idx_tracker()
        if self._bars and not self._bars[-1].is_training:
            self._close_top({})

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_end = on_predict_end = on_validation_end
