"""Every hook that a module may override, with what it does by default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightkit.errors import HookError
from lightkit.hooks import document
from lightkit.optimizers import clip_gradients

if TYPE_CHECKING:
    from lightkit.callbacks.base import Callback


class HookedModule(nn.Module):
    """The hooks of LightModule; places, arguments and order stand in docs/lifecycle.md."""

    # ---------------------------------------------------------------- steps and building blocks to override

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx)` -> the loss, a dict with `loss`, or None to skip the batch."""
        raise HookError(f"{type(self).__name__}.training_step is not defined; fit needs it to return a loss")

    def validation_step(self, *args: Any, **kwargs: Any) -> object:
        """`(batch, batch_idx, dataloader_idx=0)` -> anything; log in it."""

    def test_step(self, *args: Any, **kwargs: Any) -> object:
        """`(batch, batch_idx, dataloader_idx=0)` -> anything; log in it."""

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """`(batch, batch_idx, dataloader_idx=0)` -> the prediction; default: `self(batch)`."""
        return self(args[0] if args else kwargs["batch"])

    def configure_optimizers(self) -> Any:
        """-> an optimizer, a list, a dict with `optimizer` and `lr_scheduler`, ...; see docs/lifecycle.md."""
        raise HookError(
            f"{type(self).__name__}.configure_optimizers is not defined; return an optimizer, for example "
            "torch.optim.AdamW(self.parameters(), lr=1e-3), or None to train without one"
        )

    def configure_callbacks(self) -> Sequence[Callback] | Callback | None:
        """-> callbacks that belong to this module."""
        return []

    def configure_model(self) -> None: ...
    def prepare_data(self) -> None: ...
    def setup(self, stage: str) -> None: ...
    def teardown(self, stage: str) -> None: ...

    def train_dataloader(self) -> Iterable[Any] | None:
        """-> the training loader."""
        raise HookError(f"{type(self).__name__}.train_dataloader is not defined")

    def val_dataloader(self) -> Iterable[Any] | None:
        """-> one validation loader or a list of them."""
        raise HookError(f"{type(self).__name__}.val_dataloader is not defined")

    def test_dataloader(self) -> Iterable[Any] | None:
        """-> one test loader or a list of them."""
        raise HookError(f"{type(self).__name__}.test_dataloader is not defined")

    def predict_dataloader(self) -> Iterable[Any] | None:
        """-> one loader or a list of them."""
        raise HookError(f"{type(self).__name__}.predict_dataloader is not defined")

    # ---------------------------------------------------------------- engine hooks with a default

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move every tensor in the batch to the device."""
        from lightkit.devices.transfer import move_data_to_device

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

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Update the weights; the closure runs forward and backward and returns the loss.

        optimizer: does what an `Optimizer` does; its `step` also scales, clips and calls the hooks.
        """
        optimizer.step(closure=optimizer_closure)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Move a scheduler on; metric is None unless it monitors one."""
        scheduler.step() if metric is None else scheduler.step(metric)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of the optimizer; call `self.clip_gradients` or do it yourself."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by "norm" (all together) or by "value"; None does nothing."""
        clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    def on_validation_model_zero_grad(self) -> None:
        """Free the gradients before a validation inside fit."""
        self.zero_grad(set_to_none=True)

    # ---------------------------------------------------------------- hooks that do nothing by default
    # What each is for stands in the table of lightkit/hooks.py, and `help` says it.
    # `on_{validation,test,predict}_model_{eval,train}`: what `super()` does; without an override see evaluation.py.

    def on_fit_start(self) -> None: ...
    def on_fit_end(self) -> None: ...

    def on_train_start(self) -> None: ...
    def on_train_end(self) -> None: ...
    def on_train_epoch_start(self) -> None: ...
    def on_train_epoch_end(self) -> None: ...
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None: ...
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...

    def on_validation_model_eval(self) -> None:
        self.eval()

    def on_validation_model_train(self) -> None:
        self.train()

    def on_validation_start(self) -> None: ...
    def on_validation_end(self) -> None: ...
    def on_validation_epoch_start(self) -> None: ...
    def on_validation_epoch_end(self) -> None: ...
    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_test_model_eval(self) -> None:
        self.eval()

    def on_test_model_train(self) -> None:
        self.train()

    def on_test_start(self) -> None: ...
    def on_test_end(self) -> None: ...
    def on_test_epoch_start(self) -> None: ...
    def on_test_epoch_end(self) -> None: ...
    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_predict_model_eval(self) -> None:
        self.eval()

    def on_predict_model_train(self) -> None:
        self.train()

    def on_predict_start(self) -> None: ...
    def on_predict_end(self) -> None: ...
    def on_predict_epoch_start(self) -> None: ...
    def on_predict_epoch_end(self) -> None: ...
    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...
    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None: ...

    def on_before_zero_grad(self, optimizer: Optimizer) -> None: ...
    def on_before_backward(self, loss: Tensor) -> None: ...
    def on_after_backward(self) -> None: ...
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None: ...

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None: ...
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None: ...


document(HookedModule)
