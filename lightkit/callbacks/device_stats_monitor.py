"""Log what the device, and the machine, have to say of themselves: memory, load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, require

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["DeviceStatsMonitor"]


class DeviceStatsMonitor(Callback):
    """Writes the device's statistics to the loggers: "DeviceStatsMonitor.on_train_batch_start/cpu_percent" and so on.

    In training before and after each step whose metrics are written, at the same step; in validation and test before
    and after the first batch and every `log_every_n_steps` batches, at the training's step. A GPU tells
    `torch.cuda.memory_stats` (bytes), which does not wait for it; an Apple GPU its memory; the CPU `cpu_percent`,
    `cpu_vm_percent` and `cpu_swap_percent` (load, memory, swap; by psutil).

    Args:
        cpu_stats: True: the CPU's too, on any device; None: where the training runs on it; False: never.

    Raises:
        ConfigError: the Trainer has no logger.
        MissingExtraError: psutil is not installed and the CPU's statistics are asked for.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        self._cpu_stats = cpu_stats
        self._step: int | None = None  # what runs now is written at it

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Check that there is somebody to write to, and that the CPU can be asked."""
        if not trainer.loggers:
            raise ConfigError("DeviceStatsMonitor: no logger to write to; pass Trainer(logger=True).")
        if self._asks_cpu(trainer.devices[0]):
            require("psutil", "stats", needed_by="DeviceStatsMonitor")

    def _asks_cpu(self, device: torch.device) -> bool:
        return device.type == "cpu" if self._cpu_stats is None else self._cpu_stats

    def _write(self, trainer: Trainer, hook: str) -> None:
        if self._step is None or not trainer.is_global_zero:
            return
        device = trainer.devices[0]
        stats = device_stats(device)
        if self._asks_cpu(device):
            stats.update(cpu_stats())
        prefix = f"{type(self).__qualname__}.{hook}/"
        if stats:
            trainer._records.write({f"{prefix}{name}": value for name, value in stats.items()}, self._step, None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int) -> None:
        """Write, if the step that now begins is one whose metrics are written."""
        loop = trainer.fit_loop
        count = loop.progress.log_count
        ends_step = trainer.is_last_batch or loop.micro + 1 >= trainer.accumulate_grad_batches
        is_due = ends_step and (count + 1 >= loop.next_log or trainer.should_stop)
        self._step = count if is_due else None
        self._write(trainer, "on_train_batch_start")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, where the beginning was written."""
        self._write(trainer, "on_train_batch_end")

    def _begin_evaluation_batch(self, trainer: Trainer, batch_idx: int) -> None:
        every = trainer.log_every_n_steps
        is_due = bool(every) and batch_idx % every == 0 and not trainer.sanity_checking
        self._step = trainer.global_step if is_due else None

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write, if it is one of those."""
        self._begin_evaluation_batch(trainer, batch_idx)
        self._write(trainer, "on_validation_batch_start")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write, where the beginning was written."""
        self._write(trainer, "on_validation_batch_end")

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write, if it is one of those."""
        self._begin_evaluation_batch(trainer, batch_idx)
        self._write(trainer, "on_test_batch_start")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Write, where the beginning was written."""
        self._write(trainer, "on_test_batch_end")


def device_stats(device: torch.device) -> dict[str, float]:
    """What the device says of itself; nothing of a CPU."""
    if device.type == "cuda":
        return dict(torch.cuda.memory_stats(device))
    if device.type == "mps":
        return {
            "mps_allocated_bytes": float(torch.mps.current_allocated_memory()),
            "mps_driver_bytes": float(torch.mps.driver_allocated_memory()),
        }
    return {}


def cpu_stats() -> dict[str, float]:
    """The load of the machine's processors, its memory and swap in use, per cent."""
    psutil = require("psutil", "stats", needed_by="DeviceStatsMonitor")
    return {
        "cpu_percent": psutil.cpu_percent(),
        "cpu_vm_percent": psutil.virtual_memory().percent,
        "cpu_swap_percent": psutil.swap_memory().percent,
    }
