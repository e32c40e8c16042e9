"""Predictions written while they are made, so that they need not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, RunDirError, did_you_mean

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["BasePredictionWriter", "PredictionWriter", "WriteInterval"]


class WriteInterval(StrEnum):
    """When predictions are written; equal to its text."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """After each batch."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """All at the end of the prediction."""
        return self is not WriteInterval.BATCH


class BasePredictionWriter(Callback):
    """Base of callbacks that write what `predict_step` returns. Override the method of your `write_interval`.

        class Text(BasePredictionWriter):
            def write_on_batch_end(
                self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx
            ):
                ...

    Names and arguments are Lightning 2.6's. With "batch" and `trainer.predict(..., return_predictions=False)` nothing
    is kept of a batch when its turn is over. An error in the method gets a note that says how many batches were written
    before it.

    Args:
        write_interval: "batch", "epoch" or "batch_and_epoch".
    """

    def __init__(self, write_interval: Literal["batch", "epoch", "batch_and_epoch"] = "batch") -> None:
        known = [interval.value for interval in WriteInterval]
        if write_interval not in known:
            raise ConfigError(
                f"{type(self).__name__}(write_interval={write_interval!r}): expected 'batch', 'epoch' or "
                f"'batch_and_epoch'{did_you_mean(str(write_interval), known)}"
            )
        self.interval = WriteInterval(write_interval)
        self._num_written = 0

    def write_on_batch_end(
        self, trainer: Trainer, pl_module: LightModule, prediction: Any, batch_indices: Sequence[int] | None,
        batch: Any, batch_idx: int, dataloader_idx: int,
    ) -> None:  # fmt: skip
        """Write what the step returned for one batch, on the device that it is on.

        batch_indices: the samples of the batch, as indices of the data set; empty where the loader cannot tell.
        """
        raise NotImplementedError(f"{type(self).__name__}.write_on_batch_end is not defined")

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """Write all that the steps returned, on the CPU: a list, or with several loaders a list for each of them.

        batch_indices: for each loader, also where there is one, the indices of each batch.
        """
        raise NotImplementedError(f"{type(self).__name__}.write_on_epoch_end is not defined")

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Begin to count."""
        self._num_written = 0

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Have a batch written."""
        if not self.interval.on_batch:
            return
        indices = trainer.predict_loop.current_batch_indices
        try:
            self.write_on_batch_end(trainer, pl_module, outputs, indices, batch, batch_idx, dataloader_idx)
        except Exception as error:
            if not isinstance(error, NotImplementedError):
                what = f"batch {batch_idx} of loader {dataloader_idx}"
                error.add_note(f"{type(self).__name__}: {what} was not written, {_before(self)}")
            raise
        self._num_written += 1

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Have everything written."""
        if self.interval.on_epoch:
            loop = trainer.predict_loop
            self.write_on_epoch_end(trainer, pl_module, loop.predictions, loop.epoch_batch_indices)


class PredictionWriter(BasePredictionWriter):
    """Writes predictions as files that `torch.load(path, weights_only=True)` reads, whole or not at all.

    By batch: `<output_dir>/loader_0/batch_000000.pt`, ..., each a dict with `predictions` (on the CPU) and
    `batch_indices`. By epoch: `<output_dir>/predictions.pt`, the same for all batches. What stands under these names
    from an earlier prediction is overwritten.

    Args:
        output_dir: the folder, or a URL; made where it is missing.
        write_interval: "batch", "epoch" or "batch_and_epoch".

    Raises:
        RunDirError: a file cannot be written, as where the disk is full; those written before are whole and stay.
        CheckpointError: predictions that are neither tensors nor plain values.
    """

    def __init__(
        self, output_dir: str | Path, write_interval: Literal["batch", "epoch", "batch_and_epoch"] = "batch"
    ) -> None:
        super().__init__(write_interval)
        from lightkit.checkpoint.places import place

        self.output_dir = place(output_dir)

    def write_on_batch_end(
        self, trainer: Trainer, pl_module: LightModule, prediction: Any, batch_indices: Sequence[int] | None,
        batch: Any, batch_idx: int, dataloader_idx: int,
    ) -> None:  # fmt: skip
        """As BasePredictionWriter.write_on_batch_end: one file."""
        path = self.output_dir / f"loader_{dataloader_idx}" / f"batch_{batch_idx:06}.pt"
        self._write(path, prediction, list(batch_indices or ()))

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        """As BasePredictionWriter.write_on_epoch_end: one file."""
        self._write(self.output_dir / "predictions.pt", list(predictions), list(batch_indices))

    def _write(self, path: Path, predictions: object, batch_indices: list[Any]) -> None:
        from lightkit.checkpoint import files
        from lightkit.devices.transfer import to_cpu

        try:  # a copy: of a view of a larger tensor the file would hold all of that
            files.save({"predictions": to_cpu(predictions), "batch_indices": batch_indices}, path)
        except RunDirError as error:
            raise RunDirError(
                f"PredictionWriter: cannot write {path}: {_reason(error)}; {_before(self)}, in {self.output_dir}; make "
                "room there or give another output_dir"
            ) from error


def _before(writer: BasePredictionWriter) -> str:
    count = writer._num_written
    return f"{count} batch{'' if count == 1 else 'es'} before it {'is' if count == 1 else 'are'} whole"


def _reason(error: BaseException) -> str:
    """What the system said."""
    found, cause = str(error), error.__cause__
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            found = cause.strerror
        cause = cause.__context__
    return found
