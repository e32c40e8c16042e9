"""Average the weights while training, and validate, test and save with the average."""

from __future__ import annotations

import itertools
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError
from lightkit.intervals import counted

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["EMAWeightAveraging", "WeightAveraging"]

_PREFIX = "module."  # of the names in an AveragedModel's state


class WeightAveraging(Callback):
    """Keeps an average of the weights (torch's AveragedModel), by default the equal mean over all steps (SWA).

    Validation inside fit runs with the average, and when the training ends the module keeps it. In a checkpoint
    `state_dict` is the average, so that what is loaded for a test or a prediction is what was validated;
    `current_model_state` and `averaging_state` are what a resumed run goes on from, bit for bit. A file of weights
    alone (`save_weights_only=True`) holds the current weights, as in Lightning.

    Override `should_update` to say when the average moves:

        class LateEMA(WeightAveraging):
            def __init__(self):
                super().__init__(avg_fn=get_ema_avg_fn())

            def should_update(self, step_idx=None, epoch_idx=None):
                return step_idx is not None and step_idx >= 100

    Args:
        device: where the average is kept; None: where the module is.
        use_buffers: average the buffers too (batch norm's statistics); else they are the current ones.
        **kwargs: for AveragedModel: `avg_fn` or `multi_avg_fn`.
    """

    def __init__(self, device: torch.device | str | int | None = None, use_buffers: bool = True, **kwargs: Any) -> None:
        self._device = torch.device(device) if isinstance(device, str) else device
        self._use_buffers = use_buffers
        self._kwargs = kwargs
        self._average_model: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None  # the average's state, from a checkpoint
        self._is_swapped = False  # the module holds the average, and the average the current weights
        self._latest_update_step = 0
        self._latest_update_epoch = -1

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to update the average: after an optimizer step, or at the end of an epoch; either counts from 0."""
        return step_idx is not None

    # ------------------------------------------------------------ the average's life

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Forget an earlier fit; only a module whose weights it was goes on from its average."""
        if stage == "fit":
            others = [c for c in trainer.callbacks if isinstance(c, WeightAveraging) and c is not self]
            if others:
                raise ConfigError(
                    f"{type(self).__name__} and {type(others[0]).__name__}: each lends the module its average for the "
                    "validation, and only one can; use one of them"
                )
            self._average_model, self._loaded, self._is_swapped = None, None, False
            self._latest_update_step, self._latest_update_epoch = trainer.global_step, trainer.current_epoch - 1

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make the average: a copy of the module, which is complete and on its device by now."""
        device = pl_module.device if self._device is None else self._device
        self._average_model = AveragedModel(pl_module, device, use_buffers=self._use_buffers, **self._kwargs)
        if self._loaded is not None:
            from lightkit.checkpoint import weights

            weights.load(self._average_model, self._loaded, trainer.ckpt_path)

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make up for the update after the last step, where the checkpoint was taken before this callback's turn."""
        if self._loaded is not None:
            self._loaded = None
            self._update_after_step(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step, if it is time to."""
        self._update_after_step(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Update the average at the end of an epoch, if it is time to."""
        epoch = trainer.current_epoch
        if epoch > self._latest_update_epoch and self.should_update(epoch_idx=epoch):
            self._update(pl_module)
            self._latest_update_epoch = epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Leave the average in the module."""
        self._swap(trainer, pl_module, to_average=True)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Validate with the average."""
        self._swap(trainer, pl_module, to_average=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Give the module its current weights back."""
        self._swap(trainer, pl_module, to_average=False)

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None:
        """Give the module its current weights back where a validation was broken off."""
        self._swap(trainer, pl_module, to_average=False)

    # ------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return when the average was updated last."""
        return {"latest_update_step": self._latest_update_step, "latest_update_epoch": self._latest_update_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state; StateError for what is no state of this callback."""
        from lightkit.schema import WHOLE, Record

        Record({"latest_update_step": WHOLE, "latest_update_epoch": WHOLE}).check(state_dict)
        self._latest_update_step = state_dict["latest_update_step"]
        self._latest_update_epoch = state_dict["latest_update_epoch"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and the current weights beside them."""
        if self._average_model is None:
            return
        state = self._average_model.state_dict()
        inside = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        of_module = checkpoint["state_dict"]
        average, current = (of_module, inside) if self._is_swapped else (inside, of_module)
        checkpoint["state_dict"], checkpoint["current_model_state"] = average, current
        checkpoint["averaging_state"] = {n: value for n, value in state.items() if not n.startswith(_PREFIX)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None:
        """Take the average, and let the training go on from the current weights."""
        if "current_model_state" not in checkpoint or "averaging_state" not in checkpoint:
            without = f"the checkpoint was saved without {type(self).__name__}"
            warnings.warn(f"{without}: the average begins with its weights", stacklevel=2)
            return
        from lightkit.schema import ANYTHING, TENSOR, DictOf

        DictOf(ANYTHING).check(checkpoint["current_model_state"], "current_model_state")
        DictOf(TENSOR).check(checkpoint["averaging_state"], "averaging_state")
        average = {_PREFIX + name: value for name, value in checkpoint["state_dict"].items()}
        self._loaded = {**average, **checkpoint["averaging_state"]}
        checkpoint["state_dict"] = checkpoint["current_model_state"]

    # ------------------------------------------------------------ inside

    def _update(self, pl_module: LightModule) -> None:
        assert self._average_model is not None, "on_fit_start comes first"
        self._average_model.update_parameters(pl_module)

    def _update_after_step(self, trainer: Trainer, pl_module: LightModule) -> None:
        step = trainer.global_step
        if step > self._latest_update_step and self.should_update(step_idx=step - 1):
            self._update(pl_module)
            self._latest_update_step = step

    def _swap(self, trainer: Trainer, pl_module: LightModule, *, to_average: bool) -> None:
        """In a fit, exchange the values of the module and the average, unless they are where they should be."""
        if trainer.state.fn != "fit" or self._average_model is None or self._is_swapped == to_average:
            return
        self._is_swapped = to_average
        average = self._average_model.module
        ours = itertools.chain(average.parameters(), average.buffers())
        theirs = itertools.chain(pl_module.parameters(), pl_module.buffers())
        with torch.no_grad():
            for mine, current in zip(ours, theirs, strict=True):
                kept = mine.detach().clone()
                mine.detach().copy_(current.detach())
                current.detach().copy_(kept)


@torch.no_grad()
def _move_towards(decay: float, average: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
    """What torch's get_ema_avg_fn returns, as a function of a file: a closure cannot be pickled."""
    return decay * average + (1 - decay) * current


class EMAWeightAveraging(WeightAveraging):
    """Keeps the exponential moving average of the weights: `decay * average + (1 - decay) * weights`.

    Args:
        device: where the average is kept; None: where the module is.
        use_buffers: average the buffers too.
        decay: share of the average that stays at an update, between 0 and 1.
        update_every_n_steps: update after every so many optimizer steps.
        update_starting_at_step: not before this step, from 0; None: from the first.
        update_starting_at_epoch: update at the end of each epoch too, from this one on; None: not at all.
        **kwargs: for AveragedModel.
    """

    def __init__(
        self, device: torch.device | str | int | None = None, use_buffers: bool = True, decay: float = 0.999,
        update_every_n_steps: int | str = 1, update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if not 0.0 <= decay <= 1.0:
            raise ConfigError(f"EMAWeightAveraging(decay={decay}): expected a share between 0 and 1, such as 0.999")
        super().__init__(device=device, use_buffers=use_buffers, **kwargs, avg_fn=partial(_move_towards, decay))
        self.decay = decay
        where = f"EMAWeightAveraging(update_every_n_steps={update_every_n_steps!r})"
        self.update_every_n_steps: int = counted(
            update_every_n_steps, "step", where, "for epochs write update_starting_at_epoch"
        )
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the step, or the epoch, is one of those that the arguments name."""
        if step_idx is not None:
            start = self.update_starting_at_step
            is_begun = start is None or step_idx >= start
            if is_begun and self.update_every_n_steps > 0 and step_idx % self.update_every_n_steps == 0:
                return True
        starting = self.update_starting_at_epoch
        return epoch_idx is not None and starting is not None and epoch_idx >= starting
