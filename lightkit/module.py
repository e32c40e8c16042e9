"""LightModule: what a user overrides and what a user calls."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightkit import hparams as hyper
from lightkit.contracts import is_metric_collection
from lightkit.errors import ConfigError, HookError
from lightkit.hooks import method_of
from lightkit.module_hooks import HookedModule

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

    from lightkit.loggers.base import Logger
    from lightkit.loops.steps.manual import ManualOptimization
    from lightkit.results import Options, Results
    from lightkit.trainer import Trainer

T = TypeVar("T", bound="LightModule")


class LightModule(HookedModule):
    """An `nn.Module` that says how it is trained; override the hooks you need, a `Trainer` calls them.

    The least is `training_step` and `configure_optimizers`. Every hook, its place and its arguments stand in
    docs/lifecycle.md. Names, arguments and semantics are those of Lightning 2.6's LightningModule.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = "hyper_parameters"  # of a checkpoint, as Lightning has them
    CHECKPOINT_HYPER_PARAMS_NAME = "hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE = "hparams_type"
    automatic_optimization: bool = True
    example_input_array: Any = None
    _trainer: Trainer | None
    _results: Results | None
    # TorchScript neither compiles nor reads these: they are the run's
    __jit_ignored_attributes__ = __jit_unused_properties__ = [
        "_hyperparameters", "_results", "_trainer", "automatic_optimization", "current_epoch", "device", "dtype",
        "example_input_array", "global_rank", "global_step", "hparams", "hparams_initial", "local_rank", "logger",
        "loggers", "on_gpu", "strict_loading", "trainer",
    ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        vars(self).setdefault("_hyperparameters", hyper.Hyperparameters())  # some save theirs before they call this
        # plain attributes, set past nn.Module.__setattr__: that costs microseconds and would register modules
        self.__dict__.update(_trainer=None, _results=None)

    def _attach_trainer(self, trainer: Trainer) -> None:
        self.__dict__["_trainer"] = trainer

    def _collect_into(self, results: Results | None) -> Results | None:
        """Let `self.log` collect into these results; -> those before."""
        before = self._results
        self.__dict__["_results"] = results
        return before

    def _take_hook(self, name: str, hook: Any) -> None:
        """Let something be the hook of that name, on this module alone."""
        self.__dict__[name] = hook

    def __getstate__(self) -> dict[str, Any]:
        # a copy or a pickle of the module is the module alone, not the run that it is in
        return {**super().__getstate__(), "_trainer": None, "_results": None}

    # ---------------------------------------------------------------- the run that the module is in

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs this module; RuntimeError where none does."""
        if self._trainer is None:
            if sys._getframe(1).f_globals.get("__name__", "").startswith(("torch.jit.", "torch._jit")):
                raise AttributeError("trainer")  # TorchScript reads all attributes, and lets this error alone pass
            raise HookError(
                f"{type(self).__name__}.trainer: not attached to a Trainer yet; call trainer.fit(model) first"
            )
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer) -> None:
        self._attach_trainer(trainer)

    @property
    def logger(self) -> Logger | None:
        """The first logger of the trainer, or None."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> list[Logger]:
        """All loggers of the trainer."""
        return self._trainer.loggers if self._trainer is not None else []

    @property
    def device(self) -> torch.device:
        """Where the module's parameters are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return self._trainer.strategy.root_device if self._trainer is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of the module's parameters."""
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.get_default_dtype()

    @property
    def current_epoch(self) -> int:
        """The epoch that is running, from 0."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps taken so far, over all epochs."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        """The rank of this process among all."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        """The rank of this process on its machine."""
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a CUDA device."""
        return self.device.type == "cuda"

    def optimizers(self, use_pl_optimizer: bool = True) -> Optimizer | list[Optimizer]:
        """The optimizer, or the list of them where there are several.

        With manual optimization their `step` counts `global_step`, minds the precision and calls
        `on_before_optimizer_step`; use_pl_optimizer=False gives the bare ones.
        """
        found, manual = self.trainer.optimizers, _manual_of(self)
        if manual is not None and use_pl_optimizer:
            found = manual.optimizers
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> LRScheduler | list[LRScheduler] | None:
        """The scheduler, the list of them where there are several, or None."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return (found[0] if len(found) == 1 else found) if found else None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print once (not in every process), above the progress bar."""
        if self._trainer is None:
            print(*args, **kwargs)
        else:
            self._trainer.print(*args, **kwargs)

    def all_gather(self, data: Any, sync_grads: bool = False) -> Any:
        """Gather tensors of all processes, (...) -> (world_size, ...); with one process, as they are."""
        return self.trainer.strategy.all_gather(data, sync_grads=sync_grads)

    # ---------------------------------------------------------------- manual optimization

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of a loss, with the precision's scaling; for `automatic_optimization = False`.

        Further arguments are `Tensor.backward`'s.
        """
        manual = _manual_of(self)
        if manual is None:
            raise ConfigError(
                f"{type(self).__name__}.manual_backward: automatic optimization calls backward itself; set "
                "self.automatic_optimization = False in __init__, or return the loss from training_step"
            )
        manual.backward(loss, *args, **kwargs)

    def toggle_optimizer(self, optimizer: Optimizer) -> None:
        """Let only this optimizer's parameters get gradients, until `untoggle_optimizer`."""
        from lightkit.stepped_optimizer import toggle

        self.__dict__["_param_requires_grad_state"] = toggle(optimizer, self.trainer.optimizers)

    def untoggle_optimizer(self, optimizer: Optimizer) -> None:
        """Let the other optimizers' parameters get gradients again, those that did before."""
        from lightkit.stepped_optimizer import untoggle

        untoggle(optimizer, self.__dict__.pop("_param_requires_grad_state", {}))

    @contextmanager
    def toggled_optimizer(self, optimizer: Optimizer) -> Iterator[None]:
        """Inside, only this optimizer's parameters get gradients."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    def clip_gradients(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients by "norm" (all together) or by "value"; None does nothing."""
        manual = _manual_of(self)
        if manual is not None:
            manual.unscale(optimizer)
        super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ---------------------------------------------------------------- logging

    def log(
        self, name: str, value: Any, prog_bar: bool = False, logger: bool | None = None, on_step: bool | None = None,
        on_epoch: bool | None = None, reduce_fx: Any = "mean", enable_graph: bool = False, sync_dist: bool = False,
        sync_dist_group: Any = None, add_dataloader_idx: bool = True, batch_size: int | None = None,
        metric_attribute: str | None = None, rank_zero_only: bool = False,
    ) -> None:  # fmt: skip
        """Log one value: a number, a tensor with one element, or a torchmetrics Metric.

        Nothing is read from the device here: values are added there and read when a logger, the bar or a callback
        wants them. Epoch means weigh every batch by its size, which is `batch_size`, or what the batch says itself
        (graphs, packed sequences), or the size of dimension 0 of the first tensor in it that has one.

        Args:
            name: unique in the hook that logs it.
            prog_bar: show it in the progress bar.
            logger: hand it to the loggers (default True).
            on_step, on_epoch: log each step's value, the epoch's; None: on_step in `training_step` and the training
                batch hooks, else on_epoch. Both: `name_step` and `name_epoch`.
            reduce_fx: "mean", "sum", "min" or "max" over the epoch, or a function that means one: `max`, `torch.amax`.
            add_dataloader_idx: with several evaluation loaders, append `/dataloader_idx_N` to the name.

        Raises:
            ConfigError: not a single value, an unknown reduction, other arguments than at the last call, a hook in
                which logging makes no sense, or one Metric in two places that would mix their values.
        """
        results = self._results
        if results is None:
            if self._trainer is None:
                warnings.warn(f"self.log({name!r}, ...): no Trainer runs this module, nothing is logged", stacklevel=2)
                return
            raise ConfigError(
                f"self.log({name!r}, ...): not possible here; log in a hook between on_train_start and on_train_end "
                "or in an evaluation hook"
            )
        options: Options = (prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx)
        results.log(name, value, options, batch_size)

    def log_dict(self, dictionary: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log several values at once, with `log`'s arguments; a torchmetrics MetricCollection too."""
        pairs: Iterable[tuple[str, Any]] = dictionary.items()
        if is_metric_collection(dictionary):  # without copies: its metrics may share what they hold
            pairs = dictionary.items(keep_base=False, copy_state=False)  # type: ignore[call-arg]
        for name, value in pairs:
            self.log(name, value, *args, **kwargs)

    # ---------------------------------------------------------------- hyperparameters and checkpoints

    def save_hyperparameters(
        self, *args: object, ignore: Sequence[str] | str | None = None, frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:  # fmt: skip
        """Keep the constructor's arguments in `hparams` and in every checkpoint; call it in `__init__`."""
        self._hyperparameters = hyper.collect(self, args, ignore, frame or sys._getframe(1), logger)

    @property
    def hparams(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept; attributes and items."""
        return self._hyperparameters.values

    @hparams.setter
    def hparams(self, value: object) -> None:
        """A dict, a Namespace or a dataclass, as `save_hyperparameters(value)` keeps it."""
        self._hyperparameters = hyper.collect(self, (value,), frame=sys._getframe(1))

    @property
    def hparams_initial(self) -> hyper.AttributeDict:
        """What `save_hyperparameters` kept, as it was then."""
        return self._hyperparameters.initial

    @classmethod
    def load_from_checkpoint(
        cls: type[T], checkpoint_path: str | Path | IO[bytes], map_location: Any = None,
        hparams_file: str | Path | None = None, strict: bool | None = None, weights_only: bool | None = None,
        **kwargs: Any,
    ) -> T:  # fmt: skip
        """Build the module from its saved hyperparameters and load its weights; keyword arguments override.

        hparams_file: a .yaml or .csv file of hyperparameters to use instead of the saved ones.

        Raises:
            CheckpointError: not there, not whole, holding code, of another class, or arguments are missing or of a
                class that the constructor does not name.
            ConfigError: an argument that the constructor does not take, or a hparams_file that cannot be read.
        """
        from lightkit.checkpoint import files
        from lightkit.checkpoint.places import place
        from lightkit.hparams.loading import load_kwargs, refuse_code

        refuse_code(weights_only)
        path = str(checkpoint_path)
        checkpoint = files.load(checkpoint_path, map_location=map_location or "cpu")  # type: ignore[arg-type]
        beside = None if hparams_file is None else place(hparams_file)
        module = cls(**load_kwargs(cls, checkpoint, kwargs, hparams_file=beside))
        method_of(module, LightModule, "on_load_checkpoint")(checkpoint)
        module._load_weights(checkpoint.get("state_dict", checkpoint), path, strict)
        return module

    @property
    def strict_loading(self) -> bool:
        """Whether a checkpoint's weights must be the module's, all of them; True unless set to False."""
        return self.__dict__.get("_strict_loading") is not False

    @strict_loading.setter
    def strict_loading(self, value: bool | None) -> None:
        self.__dict__["_strict_loading"] = value

    def _load_weights(self, state_dict: Mapping[str, Tensor], where: str, strict: bool | None = None) -> None:
        """Load weights, or say which keys are missing, unexpected or of another size."""
        from lightkit.checkpoint import weights

        weights.load(self, state_dict, where, strict=(self.strict_loading is not False) if strict is None else strict)

    # ---------------------------------------------------------------- export

    def to_torchscript(
        self, file_path: str | Path | None = None, method: str = "script", example_inputs: Any = None, **kwargs: Any
    ) -> torch.jit.ScriptModule:
        """The module as TorchScript, written where a file is named; see `lightkit.export.to_torchscript`."""
        from lightkit import export

        return export.to_torchscript(self, file_path, method, example_inputs, **kwargs)

    def to_onnx(
        self, file_path: str | Path | IO[bytes] | None = None, input_sample: Any = None, **kwargs: Any
    ) -> ONNXProgram | None:
        """Write the module as ONNX; see `lightkit.export.to_onnx`."""
        from lightkit import export

        return export.to_onnx(self, file_path, input_sample, **kwargs)

    def to_exported_program(
        self, file_path: str | Path | None = None, example_inputs: Any = None, **kwargs: Any
    ) -> ExportedProgram:
        """The module as a program of `torch.export`; see `lightkit.export.to_exported_program`."""
        from lightkit import export

        return export.to_exported_program(self, file_path, example_inputs, **kwargs)

    def freeze(self: T) -> T:
        """Stop all parameters from learning and switch to evaluation mode; -> the module itself."""
        return self.requires_grad_(False).eval()

    def unfreeze(self: T) -> T:
        """Let all parameters learn and switch to training mode; -> the module itself."""
        return self.requires_grad_(True).train()


def _manual_of(module: LightModule) -> ManualOptimization | None:
    """What the module optimizes with by itself; None with automatic optimization, and before a fit."""
    return None if module._trainer is None else module._trainer._manual
