"""Stop where the loss jumps, and note which batches are to be left out next time."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lightkit.callbacks.base import Callback
from lightkit.checkpoint import atomic
from lightkit.checkpoint.places import place
from lightkit.errors import ConfigError, LightkitError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["SpikeDetection", "TrainingSpikeException"]


class TrainingSpikeException(LightkitError, RuntimeError):
    """The loss jumped; `batch_idx`: in which batch of the epoch."""

    def __init__(self, message: str, batch_idx: int):
        super().__init__(message)
        self.batch_idx = batch_idx


class SpikeDetection(Callback):
    """Raises TrainingSpikeException where the loss of a batch lies far from the mean of those before it.

    That batch and the one before, which may have spoilt the weights, are added to a file of batches to leave out. Reads
    the loss of every batch from the device.

    Args:
        mode: "min" where a smaller loss is better: an improvement is no spike; "max" for the other way.
        window: losses in the mean.
        warmup: batches of an epoch that are not looked at.
        atol: a spike lies at least so far from the mean. None: any distance.
        rtol: a spike lies at least so many times the mean away. None: any distance.
        exclude_batches_path: the file, or the folder of `skip_batches.json`. Default: the run directory.
        finite_only: NaN or infinity is a spike.
    """

    def __init__(
        self, mode: Literal["min", "max"] = "min", window: int = 10, warmup: int = 1, atol: float | None = None,
        rtol: float | None = 2.0, exclude_batches_path: str | Path | None = None, finite_only: bool = True,
    ) -> None:  # fmt: skip
        if mode not in ("min", "max"):
            raise ConfigError(f"SpikeDetection(mode={mode!r}): expected 'min' or 'max'")
        if window < 1:
            raise ConfigError(f"SpikeDetection(window={window!r}): expected a count of at least 1")
        self.mode, self.warmup, self.atol, self.rtol = mode, warmup, atol, rtol
        self.exclude_batches_path, self.finite_only = exclude_batches_path, finite_only
        self.bad_batches: list[int] = []
        self._losses: deque[float] = deque(maxlen=window)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the loss with the mean of those before it."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is None:
            return  # the batch was left out
        value = float(loss.detach()) if isinstance(loss, Tensor) else float(loss)
        if batch_idx >= self.warmup and self._losses and self._is_spike(value):
            self.bad_batches += [index for index in (batch_idx - 1, batch_idx) if index >= 0]
            path = self._write(trainer)
            before = f"the mean of the {len(self._losses)} before {fmean(self._losses):.6g}"
            where = f"batch {batch_idx} in epoch {trainer.current_epoch}"
            raise TrainingSpikeException(
                f"SpikeDetection: the loss of {where} is {value:.6g}, {before}"
                f"; the batches to leave out stand in {path}",
                batch_idx,
            )
        if math.isfinite(value):
            self._losses.append(value)

    def _is_spike(self, value: float) -> bool:
        if not math.isfinite(value):
            return self.finite_only
        change = value - self._losses[-1]
        if change <= 0 if self.mode == "min" else change >= 0:
            return False
        mean = fmean(self._losses)
        distance = abs(value - mean)
        is_far = self.atol is None or distance >= abs(self.atol)
        return is_far and (self.rtol is None or distance >= abs(self.rtol * mean))

    def _write(self, trainer: Trainer) -> Path:
        folder = trainer.run_dir if self.exclude_batches_path is None else place(self.exclude_batches_path)
        path = folder if folder.suffix == ".json" else folder / "skip_batches.json"
        if trainer.is_global_zero:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            self.bad_batches = [*known, *(index for index in self.bad_batches if index not in known)]
            text = json.dumps(self.bad_batches, indent=4) + "\n"
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(path, lambda file: file.write(text.encode("utf-8")))
        return path

    def state_dict(self) -> dict[str, Any]:
        """The losses in the mean, and the batches that were found."""
        return {"losses": list(self._losses), "bad_batches": list(self.bad_batches)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._losses.clear()
        self._losses.extend(state_dict["losses"])
        self.bad_batches = list(state_dict["bad_batches"])
