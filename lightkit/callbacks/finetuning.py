"""Freeze layers at first and let them learn later, in parameter groups that join the optimizer then."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import Module, ModuleDict, Parameter
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lightkit.callbacks.base import Callback
from lightkit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["BackboneFinetuning", "BaseFinetuning", "multiplicative"]

Modules = Module | Iterable[Any]  # a module, or modules in lists of any depth


def multiplicative(epoch: int) -> float:
    """Return 2: the backbone's learning rate doubles every epoch."""
    return 2.0


class BaseFinetuning(Callback):
    """Base of callbacks that freeze layers before training and thaw them at the beginning of an epoch.

    Override `freeze_before_training(pl_module)`, called before `configure_optimizers`, and
    `finetune_function(pl_module, epoch, optimizer)`, called at the beginning of every epoch for every optimizer:

        class ThawEncoder(BaseFinetuning):
            def freeze_before_training(self, pl_module):
                self.freeze(pl_module.encoder)

            def finetune_function(self, pl_module, epoch, optimizer):
                if epoch == 5:
                    self.unfreeze_and_add_param_group(pl_module.encoder, optimizer)

    `configure_optimizers` must leave out what is frozen: `filter(lambda p: p.requires_grad, self.parameters())`.
    Which parameters learn, which batch norms keep their statistics, and the optimizer's parameter groups are in every
    checkpoint, so that a resumed run goes on as it was, bit for bit.

    Schedulers with a rate for each group, such as LambdaLR, CosineAnnealingLR and OneCycleLR, take no group that is
    added later (torch raises ValueError); StepLR, ExponentialLR and ReduceLROnPlateau do.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None  # what learns, from a checkpoint

    # ------------------------------------------------------------ what to override

    def freeze_before_training(self, pl_module: LightModule) -> None:
        """Freeze what shall not learn from the start."""
        raise NotImplementedError(f"{type(self).__name__}.freeze_before_training is not defined")

    def finetune_function(self, pl_module: LightModule, epoch: int, optimizer: Optimizer) -> None:
        """Thaw what shall learn from this epoch on."""
        raise NotImplementedError(f"{type(self).__name__}.finetune_function is not defined")

    # ------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Freeze, before the optimizers are made; in fit alone."""
        if stage == "fit":
            self._resumed = None
            self.freeze_before_training(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """After a resume, let learn what learned when the checkpoint was saved."""
        state, self._resumed = self._resumed, None
        if state is None:
            return
        from lightkit.checkpoint.weights import named_parameters, plain_name

        trainable, still = ({plain_name(name) for name in state[key]} for key in ("trainable", "without_statistics"))
        parameters = named_parameters(pl_module)
        unknown = trainable - parameters.keys()
        if unknown and pl_module.strict_loading:
            named = ", ".join(map(repr, sorted(unknown)[:5]))
            raise CheckpointError(
                f"{trainer.ckpt_path}: checkpoint['callbacks'][{self.state_key!r}]['trainable'] has {named}, which "
                f"{type(pl_module).__name__} has not; resume with the module that was trained"
            )
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in trainable)
        for name, module in pl_module.named_modules():
            if isinstance(module, _BatchNorm):
                module.track_running_stats = plain_name(name) not in still

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Give every optimizer to `finetune_function`."""
        for optimizer in trainer.optimizers:
            self.finetune_function(pl_module, trainer.current_epoch, optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the names of the parameters that learn, and of the batch norms that keep no statistics."""
        from lightkit.checkpoint.weights import named_parameters

        module = self._running_module
        return {
            "trainable": [name for name, p in named_parameters(module).items() if p.requires_grad],
            "without_statistics": [
                name for name, m in module.named_modules() if isinstance(m, _BatchNorm) and not m.track_running_stats
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until the optimizers are made: those must not hold what is thawed later in a group of its own.

        Raises StateError for what is no state of this callback.
        """
        from lightkit.schema import NUMBER, TEXT, ListOf, Record, optional

        names, rate = ListOf(TEXT), optional(NUMBER)
        Record({"trainable": names, "without_statistics": names}, {"previous_backbone_lr": rate}).check(state_dict)
        self._resumed = state_dict

    # ------------------------------------------------------------ tools

    @staticmethod
    def flatten_modules(modules: Modules) -> list[Module]:
        """Return the modules inside that have parameters of their own, or nothing inside them."""
        if isinstance(modules, ModuleDict):
            modules = modules.values()
        if isinstance(modules, Iterable):  # nn.Sequential and nn.ModuleList too
            found = [inner for module in modules for inner in BaseFinetuning.flatten_modules(module)]
            if isinstance(modules, Module) and modules._parameters:
                found.append(modules)
        else:
            found = list(modules.modules())
        return [m for m in found if m._parameters or next(m.children(), None) is None]

    @staticmethod
    def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Iterator[Parameter]:
        """Yield the parameters that learn, or with `requires_grad=False` those that do not.

        train_bn: also those of batch norms.
        """
        for module in BaseFinetuning.flatten_modules(modules):
            if isinstance(module, _BatchNorm) and not train_bn:
                continue
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad == requires_grad:
                    yield parameter

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Let all parameters learn, and batch norms keep running statistics."""
        for module in BaseFinetuning.flatten_modules(modules):
            _let_learn(module, True)

    @staticmethod
    def freeze_module(module: Module) -> None:
        """Freeze the module's own parameters, not those of modules inside; a batch norm's statistics stay too."""
        _let_learn(module, False)

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Freeze all parameters; with `train_bn` those of batch norms go on learning."""
        for module in BaseFinetuning.flatten_modules(modules):
            _let_learn(module, train_bn and isinstance(module, _BatchNorm))

    @staticmethod
    def filter_on_optimizer(optimizer: Optimizer, params: Iterable[Parameter]) -> list[Parameter]:
        """Return those parameters that the optimizer has not yet; a warning says how many it has."""
        params = list(params)
        present = {id(p) for group in optimizer.param_groups for p in group["params"]}
        fresh = [p for p in params if id(p) not in present]
        if len(fresh) < len(params):
            warnings.warn(
                f"{len(params) - len(fresh)} of {len(params)} parameters to thaw are in {type(optimizer).__name__} "
                "already and stay in their group; leave frozen ones out in configure_optimizers: "
                "filter(lambda p: p.requires_grad, self.parameters())",
                stacklevel=2,
            )
        return fresh

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules, optimizer: Optimizer, lr: float | None = None, initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:  # fmt: skip
        """Let modules learn, and add their parameters to the optimizer as a group.

        Args:
            modules: what to thaw.
            optimizer: gets one more group, unless it has all parameters already.
            lr: the group's learning rate; None: that of the first group divided by `initial_denom_lr`.
            initial_denom_lr: see `lr`.
            train_bn: add the parameters of batch norms too.
        """
        modules = modules if isinstance(modules, Module) else list(modules)
        learned = {id(p) for p in BaseFinetuning.filter_params(modules)}
        learned &= {id(p) for group in optimizer.param_groups for p in group["params"]}
        BaseFinetuning.make_trainable(modules)
        rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else float(lr)
        # batch norms that were never frozen are where they belong, which is nothing to warn of
        thawed = [p for p in BaseFinetuning.filter_params(modules, train_bn=train_bn) if id(p) not in learned]
        fresh = BaseFinetuning.filter_on_optimizer(optimizer, thawed)
        if fresh:
            optimizer.add_param_group({"params": fresh, "lr": rate})


def _let_learn(module: nn.Module, learns: bool) -> None:
    if isinstance(module, _BatchNorm):
        module.track_running_stats = learns
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(learns)


class BackboneFinetuning(BaseFinetuning):
    """Trains the head of `pl_module.backbone` alone at first, then the backbone with a learning rate that rises.

    Before thawing, batch norms of the backbone learn, as in Lightning; their parameters join the optimizer only where
    `configure_optimizers` puts them there.

    Args:
        unfreeze_backbone_at_epoch: the epoch, from 0, at whose beginning the backbone is thawed.
        lambda_func: `epoch -> factor`: what the backbone's learning rate is multiplied with each epoch.
        backbone_initial_ratio_lr: the backbone's first learning rate, as a share of the first group's.
        backbone_initial_lr: or that learning rate itself.
        should_align: keep the backbone's learning rate from rising above the first group's.
        initial_denom_lr: as `unfreeze_and_add_param_group` takes it; without effect here, as in Lightning.
        train_bn: whether batch norms of the backbone join the optimizer.
        verbose: print both learning rates at the beginning of each epoch from then on.
        rounding: decimals that are printed.

    Raises:
        ConfigError: the module has no `backbone`.
    """

    def __init__(
        self, unfreeze_backbone_at_epoch: int = 10, lambda_func: Callable[[int], float] = multiplicative,
        backbone_initial_ratio_lr: float = 10e-2, backbone_initial_lr: float | None = None, should_align: bool = True,
        initial_denom_lr: float = 10.0, train_bn: bool = True, verbose: bool = False, rounding: int = 12,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what learns, and the backbone's learning rate."""
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        super().load_state_dict(state_dict)
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Freeze the backbone."""
        if stage == "fit":
            self.previous_backbone_lr = None
        super().setup(trainer, pl_module, stage)

    def freeze_before_training(self, pl_module: LightModule) -> None:
        """Freeze the backbone, all but its batch norms."""
        self.freeze(_backbone(pl_module))

    def finetune_function(self, pl_module: LightModule, epoch: int, optimizer: Optimizer) -> None:
        """Thaw the backbone when its epoch comes; later raise its learning rate."""
        if epoch < self.unfreeze_backbone_at_epoch:
            return
        current_lr = optimizer.param_groups[0]["lr"]
        if epoch == self.unfreeze_backbone_at_epoch or self.previous_backbone_lr is None:
            given = self.backbone_initial_lr
            backbone_lr = current_lr * self.backbone_initial_ratio_lr if given is None else given
            self.unfreeze_and_add_param_group(
                _backbone(pl_module), optimizer, backbone_lr, self.initial_denom_lr, self.train_bn
            )
        else:
            risen = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            backbone_lr = min(risen, current_lr) if self.should_align else risen
            optimizer.param_groups[-1]["lr"] = backbone_lr
        self.previous_backbone_lr = backbone_lr
        if self.verbose:
            digits = self.rounding
            pl_module.print(f"Current lr: {round(current_lr, digits)}, Backbone lr: {round(backbone_lr, digits)}")


def _backbone(pl_module: LightModule) -> Module:
    found = getattr(pl_module, "backbone", None)
    if not isinstance(found, Module):
        raise ConfigError(
            f"BackboneFinetuning: {type(pl_module).__name__} has no `backbone`; put the layers that are "
            "frozen at first into an nn.Module called self.backbone"
        )
    return found
