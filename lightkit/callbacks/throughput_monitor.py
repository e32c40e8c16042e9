"""Log how much a run gets through in a second, and how much of the time it waits for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from lightkit.callbacks.base import Callback
from lightkit.devices.batch_size import batch_size_of
from lightkit.errors import ConfigError
from lightkit.throughput import Throughput, get_available_flops

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["ThroughputMonitor"]


@dataclass
class _Pass:
    """The totals of one stage; times are those of `time.perf_counter`."""

    throughput: Throughput
    began_s: float = 0.0
    free_s: float = 0.0  # since when nothing but the next batch is waited for
    waited_s: float = 0.0
    waits: deque[tuple[float, float]] = field(default_factory=deque)  # (time, time waited) of the window's updates
    batches: int = 0
    samples: int = 0
    lengths: int = 0

    def begin(self, *, anew: bool) -> None:
        if anew:
            self.throughput.reset()
            self.waits = deque(maxlen=self.throughput.window_size)
            self.waited_s, self.batches, self.samples, self.lengths = 0.0, 0, 0, 0
            self.began_s = time.perf_counter()
        else:  # as if no time had gone by
            self.leave_out(time.perf_counter() - self.free_s)
        self.free_s = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        self.began_s += seconds
        self.free_s += seconds

    @property
    def data_share(self) -> float | None:
        """The share of the window's time in which the next batch was waited for."""
        if len(self.waits) < self.throughput.window_size:
            return None
        (began_s, before_s), (now_s, waited_s) = self.waits[0], self.waits[-1]
        return (waited_s - before_s) / (now_s - began_s)


class ThroughputMonitor(Callback):
    """Writes rates to the loggers every `log_every_n_steps` steps: "train/device/batches_per_sec" and so on.

    The names are those of `Throughput`, behind the stage: "train", "validate", "test", "predict". Beside them stands
    "train/data_wait_share": the share of the time in which the next batch was waited for, 0 to 1, what lies between the
    end of a batch and the beginning of the next. Rates come once `window_size` batches are done. Where the module has
    `flops_per_batch` (see `measure_flops`), "flops_per_sec" and, on a known GPU, "mfu" are there too. The time of a
    validation is not the training's. The device is waited for only when something is written.

    Args:
        batch_size_fn: the samples of a batch; None: the length of its first tensor.
        length_fn: the items in a batch, such as tokens; then there is "items_per_sec".
        **kwargs: arguments of `Throughput`: `window_size`, `separator`, `available_flops`, `world_size`.

    Raises:
        ConfigError: the Trainer has no logger.
    """

    def __init__(
        self, batch_size_fn: Callable[[Any], int] | None = None, length_fn: Callable[[Any], int] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self.batch_size_fn = batch_size_of if batch_size_fn is None else batch_size_fn
        self.length_fn = length_fn
        self.kwargs = kwargs
        Throughput(**kwargs)  # what is wrong with them is said now
        self.available_flops: float | None = kwargs.get("available_flops")
        self._passes: dict[str, _Pass] = {}

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Find out what the device can do, and begin anew."""
        if not trainer.loggers:
            raise ConfigError("ThroughputMonitor: no logger to write to; pass Trainer(logger=True).")
        if "available_flops" not in self.kwargs and hasattr(pl_module, "flops_per_batch"):
            dtype: torch.dtype = getattr(trainer.precision, "dtype", torch.float32)
            self.available_flops = get_available_flops(trainer.devices[0], dtype)
        if stage == "fit":
            self._passes.clear()

    def _pass(self, stage: str, trainer: Trainer) -> _Pass:
        if stage not in self._passes:
            own = {"available_flops": self.available_flops, "world_size": trainer.world_size}
            self._passes[stage] = _Pass(Throughput(**{**own, **self.kwargs}))
        return self._passes[stage]

    def _begin_batch(self, stage: str) -> None:
        now = time.perf_counter()
        one = self._passes[stage]
        one.waited_s += now - one.free_s

    def _end_batch(self, trainer: Trainer, pl_module: LightModule, batch: Any, stage: str, step: int | None) -> None:
        """Count the batch. step: write at it; None: do not."""
        if step is not None and trainer.devices[0].type == "cuda":
            torch.cuda.synchronize(trainer.devices[0])  # else it is the time of starting the work, not of doing it
        one = self._passes[stage]
        with torch.no_grad():
            one.samples += self.batch_size_fn(batch)
            one.lengths += 0 if self.length_fn is None else self.length_fn(batch)
        one.batches += 1
        elapsed_s = time.perf_counter() - one.began_s
        one.throughput.update(
            time=elapsed_s, batches=one.batches, samples=one.samples,
            lengths=None if self.length_fn is None else one.lengths, flops=getattr(pl_module, "flops_per_batch", None),
        )  # fmt: skip
        one.waits.append((elapsed_s, one.waited_s))
        if step is not None and trainer.is_global_zero:
            metrics = one.throughput.compute()
            if (share := one.data_share) is not None:
                metrics["data_wait_share"] = share
            separator = one.throughput.separator
            trainer._records.write({f"{stage}{separator}{name}": v for name, v in metrics.items()}, step, None)
        one.free_s = time.perf_counter()

    # ------------------------------------------------------------ training

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Begin to measure."""
        self._pass("train", trainer).begin(anew=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int) -> None:
        """The next batch is there."""
        self._begin_batch("train")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; write where the step's metrics are written."""
        loop = trainer.fit_loop
        count = loop.progress.log_count
        is_due = loop.micro == 0 and (count >= loop.next_log or trainer.should_stop)
        self._end_batch(trainer, pl_module, batch, "train", count - 1 if is_due else None)

    # ------------------------------------------------------------ evaluation

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Begin to measure the pass."""
        if not trainer.sanity_checking:
            one = self._pass("validate", trainer)
            one.begin(anew=one.batches == 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Take the time of the pass out of the training's."""
        if not trainer.sanity_checking and "train" in self._passes:
            one = self._passes["train"]
            one.leave_out(time.perf_counter() - one.free_s)

    def on_test_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Begin to measure the pass."""
        self._pass("test", trainer).begin(anew=True)

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Begin to measure the pass."""
        self._pass("predict", trainer).begin(anew=True)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The next batch is there."""
        if not trainer.sanity_checking:
            self._begin_batch("validate")

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The next batch is there."""
        self._begin_batch("test")

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The next batch is there."""
        self._begin_batch("predict")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch; write every `log_every_n_steps` batches."""
        if not trainer.sanity_checking:
            self._end_evaluation_batch(trainer, pl_module, batch, "validate")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch; write every `log_every_n_steps` batches."""
        self._end_evaluation_batch(trainer, pl_module, batch, "test")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the batch; write every `log_every_n_steps` batches."""
        self._end_evaluation_batch(trainer, pl_module, batch, "predict")

    def _end_evaluation_batch(self, trainer: Trainer, pl_module: LightModule, batch: Any, stage: str) -> None:
        count, every = self._passes[stage].batches + 1, trainer.log_every_n_steps
        self._end_batch(trainer, pl_module, batch, stage, count if every and count % every == 0 else None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_passes": {}}
