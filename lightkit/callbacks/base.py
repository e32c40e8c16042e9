"""What every callback is: the hooks it may override, its state, and how it reads a monitored metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightkit.errors import ConfigError, did_you_mean

__all__ = ["Callback", "Checkpoint", "missing_metric_message", "monitored_value", "validates_once_an_epoch"]


def missing_metric_message(name: str, available: Iterable[str], who: str) -> str:
    """Return the sentence that says a monitored metric was never logged, what was, and the nearest name.

    Args:
        name: the monitored metric.
        available: the names logged so far.
        who: what monitors it, as the user wrote it: `"EarlyStopping(monitor='val_loss')"`.
    """
    names = sorted(set(available))
    logged = "logged so far: " + ", ".join(repr(n) for n in names) if names else "nothing was logged so far"
    hint = did_you_mean(name, names) or "."
    return (
        f"{who}: no metric {name!r} was logged; {logged}{hint} "
        f"Write self.log({name!r}, value) in the module, or monitor a name that is logged."
    )


def monitored_value(trainer: Any, name: str, who: str) -> Tensor:
    """Return the newest value of the monitored metric, a 0-dim tensor.

    Raises:
        ConfigError: `name` is not in `trainer.callback_metrics`; lists what is, and the nearest name.
    """
    metrics: Mapping[str, Tensor] = trainer.callback_metrics
    value = metrics.get(name)
    if value is None:
        raise ConfigError(missing_metric_message(name, metrics, who))
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def validates_once_an_epoch(trainer: Any) -> bool:
    """Whether validation runs once, at the end of every epoch: what it logs is there when the epoch ends."""
    interval = trainer.val_check_interval
    is_whole_epoch = interval is None or (isinstance(interval, float) and interval == 1.0)  # 1: every batch
    return is_whole_epoch and trainer.check_val_every_n_epoch == 1


class Callback:
    """Code of its own that runs at the hooks of a run. Override what you need; the rest does nothing.

    The names and signatures are Lightning 2.6's. `trainer` is the running Trainer, `pl_module` the module.
    A hook that is not overridden costs nothing: the loops call only the overridden ones.
    """

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; two callbacks of one class need two keys."""
        return type(self).__qualname__

    def _generate_state_key(self, **kwargs: Any) -> str:
        """Return a state key that names the class and the arguments that tell two instances apart."""
        return f"{type(self).__qualname__}{kwargs!r}"

    def attach(self, pl_module: Any) -> None:
        """Remember the module that runs, for `self.log`."""
        self.__dict__["_pl_module"] = pl_module

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle of the callback is the callback alone
        return {name: value for name, value in self.__dict__.items() if name != "_pl_module"}

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log one value, as `LightModule.log` does in the module's hook of the same name."""
        self.__dict__["_pl_module"].log(name, value, *args, **kwargs)

    def log_dict(self, dictionary: Any, *args: Any, **kwargs: Any) -> None:
        """Log several values at once."""
        self.__dict__["_pl_module"].log_dict(dictionary, *args, **kwargs)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called when fit, validate, test or predict begins; `stage` is that word."""

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Called when fit, validate, test or predict ends; `stage` is that word."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when fit begins, after setup."""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when fit ends."""

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Called before the sanity check of the validation."""

    def on_sanity_check_end(self, trainer: Any, pl_module: Any) -> None:
        """Called after the sanity check of the validation."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when training begins, after the sanity check; also on a resume."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when training ends."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a training epoch begins; not on a resume in its middle."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a training epoch ends."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Called before a training batch."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Called after a training batch; `outputs` is what `training_step` returned."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation begins."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a validation ends."""

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the validation data begins."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the validation data ends."""

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called before a validation batch."""

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called after a validation batch; `outputs` is what `validation_step` returned."""

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test begins."""

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a test ends."""

    def on_test_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the test data begins."""

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the test data ends."""

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called before a test batch."""

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called after a test batch; `outputs` is what `test_step` returned."""

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction begins."""

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a prediction ends."""

    def on_predict_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the prediction data begins."""

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Called when a pass over the prediction data ends."""

    def on_predict_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called before a prediction batch."""

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called after a prediction batch; `outputs` is what `predict_step` returned."""

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Called before the gradients are cleared."""

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Called before `loss.backward()`."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Called after `loss.backward()`, before gradients are unscaled or clipped."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Called before the optimizer steps, after gradients are unscaled and before they are clipped."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Called when the run is ended by an exception, KeyboardInterrupt included."""

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Called while a checkpoint is put together; what is added to `checkpoint` is saved with it."""

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Called with a checkpoint that was read, before the module's weights are restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return what this callback wants to keep in a checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned when the checkpoint was saved."""


class Checkpoint(Callback):
    """The base of callbacks that save checkpoints.

    The loop calls their hooks last, at a clean boundary: after the module's hook, after the schedulers
    stepped and the metrics were logged. What they save can therefore be resumed exactly.
    """
