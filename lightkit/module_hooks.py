"""Every hook that a module may override, with what it does by default."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.devices.transfer import move_data_to_device
from lightkit.errors import HookError
from lightkit.optimizers import clip_gradients


class HookedModule(nn.Module):
    """The hooks of LightModule; places, arguments and order stand in docs/lifecycle.md."""

    # ---------------------------------------------------------------- steps and building blocks to override

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's output, as in any nn.Module."""
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx)` -> the loss, a dict with `loss`, or None to skip the batch."""
        raise HookError(f"{type(self).__name__}.training_step is not defined; fit needs it to return a loss")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx, dataloader_idx=0)` -> anything; log in it."""

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx, dataloader_idx=0)` -> anything; log in it."""

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx, dataloader_idx=0)` -> the prediction; default: `self(batch)`."""
        batch = args[0] if args else kwargs["batch"]
        return self(batch)

    def configure_optimizers(self) -> Any:
        """-> an optimizer, a list, a dict with `optimizer` and `lr_scheduler`, ...; see docs/lifecycle.md."""
        raise HookError(
            f"{type(self).__name__}.configure_optimizers is not defined; return an optimizer, for example "
            "torch.optim.AdamW(self.parameters(), lr=1e-3), or None to train without one"
        )

    def configure_callbacks(self) -> Any:
        """-> callbacks that belong to this module."""
        return []

    def configure_model(self) -> None:
        """Build what should be built late; called once before each run, so check what exists already."""

    def prepare_data(self) -> None:
        """Download and write to disk; called in one process."""

    def setup(self, stage: str) -> None:
        """Build data sets and layers; stage is 'fit', 'validate', 'test' or 'predict'."""

    def teardown(self, stage: str) -> None:
        """Clean up after fit, validate, test or predict."""

    def train_dataloader(self) -> Any:
        """-> the training loader."""
        raise HookError(f"{type(self).__name__}.train_dataloader is not defined")

    def val_dataloader(self) -> Any:
        """-> one validation loader or a list of them."""
        raise HookError(f"{type(self).__name__}.val_dataloader is not defined")

    def test_dataloader(self) -> Any:
        """-> one test loader or a list of them."""
        raise HookError(f"{type(self).__name__}.test_dataloader is not defined")

    def predict_dataloader(self) -> Any:
        """-> one loader or a list of them."""
        raise HookError(f"{type(self).__name__}.predict_dataloader is not defined")

    # ---------------------------------------------------------------- engine hooks with a default

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move every tensor in the batch to the device."""
        return move_data_to_device(batch, device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change the batch before it is moved."""
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change the batch after it was moved."""
        return batch

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients of the loss, scalar."""
        loss.backward(*args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Free the gradients."""
        optimizer.zero_grad(set_to_none=True)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Update the weights; the closure runs forward and backward and returns the loss."""
        optimizer.step(closure=optimizer_closure)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Move a scheduler on; metric is None unless it monitors one."""
        scheduler.step() if metric is None else scheduler.step(metric)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of the optimizer; call `self.clip_gradients` or do it yourself."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by "norm" (all together) or by "value"; None does nothing."""
        clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    def on_validation_model_zero_grad(self) -> None:
        """Free the gradients before a validation inside fit."""
        self.zero_grad(set_to_none=True)

    # ---------------------------------------------------------------- hooks that do nothing by default
    # `on_{validation,test,predict}_model_{eval,train}` switch every submodule's mode, see loops/evaluation.py.

    def on_fit_start(self) -> None:
        """Called when fit begins, after everything is in place."""

    def on_fit_end(self) -> None:
        """Called when fit ends."""

    def on_train_start(self) -> None:
        """Called when training begins, after the sanity check; also on a resume."""

    def on_train_end(self) -> None:
        """Called when training ends."""

    def on_train_epoch_start(self) -> None:
        """Called when a training epoch begins; not on a resume in its middle."""

    def on_train_epoch_end(self) -> None:
        """Called when a training epoch ends; its means are in `trainer.callback_metrics`."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Called before a training batch; return -1 to skip the rest of the epoch."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called after a training batch, its update included."""

    def on_validation_model_eval(self) -> None:
        """Switch to evaluation mode before a validation pass."""

    def on_validation_model_train(self) -> None:
        """Give every submodule its mode back after a validation pass."""

    def on_validation_start(self) -> None:
        """Called when a validation pass begins."""

    def on_validation_end(self) -> None:
        """Called when a validation pass ended and its metrics are written."""

    def on_validation_epoch_start(self) -> None:
        """Called when a validation pass begins, after on_validation_start."""

    def on_validation_epoch_end(self) -> None:
        """Called when all batches of a validation pass are done."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a batch of a validation pass."""

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a batch of a validation pass."""

    def on_test_model_eval(self) -> None:
        """Switch to evaluation mode before a test pass."""

    def on_test_model_train(self) -> None:
        """Give every submodule its mode back after a test pass."""

    def on_test_start(self) -> None:
        """Called when a test pass begins."""

    def on_test_end(self) -> None:
        """Called when a test pass ended and its metrics are written."""

    def on_test_epoch_start(self) -> None:
        """Called when a test pass begins, after on_test_start."""

    def on_test_epoch_end(self) -> None:
        """Called when all batches of a test pass are done."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a batch of a test pass."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a batch of a test pass."""

    def on_predict_model_eval(self) -> None:
        """Switch to evaluation mode before a prediction pass."""

    def on_predict_model_train(self) -> None:
        """Give every submodule its mode back after a prediction pass."""

    def on_predict_start(self) -> None:
        """Called when a prediction pass begins."""

    def on_predict_end(self) -> None:
        """Called when a prediction pass ended and its metrics are written."""

    def on_predict_epoch_start(self) -> None:
        """Called when a prediction pass begins, after on_predict_start."""

    def on_predict_epoch_end(self) -> None:
        """Called when all batches of a prediction pass are done."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a batch of a prediction pass."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a batch of a prediction pass."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Called before the gradients are freed."""

    def on_before_backward(self, loss: Tensor) -> None:
        """Called before backward; the loss is scaled for accumulation."""

    def on_after_backward(self) -> None:
        """Called after backward."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Called when gradients are complete and unscaled, before clipping."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add to what is saved."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read back what was added, before the weights are loaded."""
