"""What every callback is: the hooks it may override, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from lightkit.errors import HookError
from lightkit.hooks import document

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["Callback", "Checkpoint"]


class Callback:
    """Code of its own that runs at the hooks of a run. Override what you need; the rest does nothing.

    The names and signatures are Lightning 2.6's. `trainer` is the running Trainer, `pl_module` the module.
    A hook that is not overridden costs nothing: the loops call only the overridden ones.
    """

    _pl_module: LightModule | None = None

    @property
    def state_key(self) -> str:
        """The key of this callback's state in a checkpoint; two callbacks of one class need two keys."""
        return type(self).__qualname__

    def _generate_state_key(self, **kwargs: Any) -> str:
        """Return a state key that names the class and the arguments that tell two instances apart."""
        return f"{type(self).__qualname__}{kwargs!r}"

    def _attach_module(self, pl_module: LightModule) -> None:
        """Remember the module that runs, for `self.log`."""
        # past nn.Module.__setattr__, where the callback is a module too: it would take the other's weights for its own
        self.__dict__["_pl_module"] = pl_module

    @property
    def _running_module(self) -> LightModule:
        if self._pl_module is None:
            raise HookError(f"{type(self).__name__}: no Trainer runs this callback yet")
        return self._pl_module

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle of the callback is the callback alone
        return {name: value for name, value in self.__dict__.items() if name != "_pl_module"}

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log one value, as `LightModule.log` does in the module's hook of the same name."""
        self._running_module.log(name, value, *args, **kwargs)

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log several values at once."""
        self._running_module.log_dict(dictionary, *args, **kwargs)

    # The hooks: what each is for stands in the table of lightkit/hooks.py, and `help` says it.

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None: ...
    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None: ...

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_fit_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int
    ) -> int | None: ...
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None: ...

    def on_validation_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_validation_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None: ...  # fmt: skip

    def on_test_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_test_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None: ...  # fmt: skip

    def on_predict_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_predict_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None: ...
    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None: ...  # fmt: skip

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightModule, optimizer: Optimizer) -> None: ...
    def on_before_backward(self, trainer: Trainer, pl_module: LightModule, loss: Tensor) -> None: ...
    def on_after_backward(self, trainer: Trainer, pl_module: LightModule) -> None: ...
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightModule, optimizer: Optimizer) -> None: ...

    def on_exception(self, trainer: Trainer, pl_module: LightModule, exception: BaseException) -> None: ...
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None: ...
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """Return what this callback wants to keep in a checkpoint: plain values and tensors."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned when the checkpoint was saved."""


document(Callback)


class Checkpoint(Callback):
    """The base of callbacks that save checkpoints.

    The loop calls their hooks last, at a clean boundary: after the module's hook, after the schedulers
    stepped and the metrics were logged. What they save can therefore be resumed exactly.
    """

    monitor: str | None = None  # the metric that says which checkpoint is the best
    dirpath: str | None = None  # where they are; None: in the run directory
    ranks = True  # it knows which of its checkpoints is the best
    save_on_exception = False  # then the fit keeps what it can go back to where an error breaks a batch off
    best_model_path = ""  # "" where nothing was saved
    best_model_score: Tensor | None = None

    def take_up(self, path: Path, said: Mapping[str, Any] | None, *, is_named: bool) -> None:
        """A fit goes on from this file. said: what `claim` returned when it was saved, None where nothing stands there.

        is_named: the user said which file, so it is not this callback's to delete. Comes before `load_state_dict`.
        """

    def folders_in(self, root: Path) -> list[Path]:
        """The folders that this callback's files may be in where it saves in `root`."""
        return [root]

    def claim(self, global_step: int) -> dict[str, Any] | None:
        """What a file that is being saved says of this callback: values that JSON knows; None: nothing."""
        return None
