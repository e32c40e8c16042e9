"""Stochastic weight averaging: the mean of the weights of the last epochs, at a constant, high learning rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.swa_utils import SWALR

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError
from lightkit.monitoring import begins
from lightkit.optimizer_forms import LRSchedulerConfig

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["StochasticWeightAveraging"]

AvgFn = Callable[[Tensor, Tensor, Tensor], Tensor]  # (average, weights, how many are in the average) -> average
_RATES = ("lr", "initial_lr", "swa_lr")  # of a parameter group, that SWALR sets when it is made
_EXPECTED_START = "expected an epoch, a whole number from 1, or a share of max_epochs between 0.0 and 1.0"


class StochasticWeightAveraging(Callback):
    """Averages the weights at the beginning of each epoch from `swa_epoch_start` on (https://arxiv.org/abs/1803.05407).

    Semantics are Lightning 2.6's. While it averages, torch's SWALR stands in for the module's scheduler. When the last
    epoch ends, the module gets the average. Where it has batch norms, one more epoch runs (`max_epochs + 1` in all),
    whose training steps change no weight, so that the batch norms gather statistics of the averaged ones. A fit that
    ends before its last epoch, by early stopping or `max_steps`, keeps its own weights.

    A checkpoint holds the current weights; average, counts and the state of SWALR are this callback's, and
    `lr_schedulers` stays that of the module's own scheduler. A resumed run goes on to the bit, in the epoch of the
    batch norms, too.

    Args:
        swa_lrs: the learning rate that SWALR goes to; a list has one for each parameter group.
        swa_epoch_start: the epoch that averaging begins with, from 1; or a share of `max_epochs`.
        annealing_epochs: epochs that the learning rate takes to get there. With "cos" SWALR begins at its
            `max_epochs`-th epoch, as in Lightning: a short fit has the new rate nearly at once.
        annealing_strategy: "cos" or "linear".
        avg_fn: `(average, weights, num_averaged) -> average`, for each parameter; None: the equal mean.
        device: where the average is kept; None: where the module is.

    Raises:
        ConfigError: an argument that cannot work; in `fit`: other than one optimizer, several schedulers, a share of
            `max_epochs` where that has no limit, batch norms in a module with manual optimization.
    """

    def __init__(
        self, swa_lrs: float | list[float], swa_epoch_start: int | float = 0.8, annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos", avg_fn: AvgFn | None = None,
        device: torch.device | str | None = torch.device("cpu"),  # noqa: B008  # a value
    ) -> None:  # fmt: skip
        who = "StochasticWeightAveraging"
        if not _is_start(swa_epoch_start):
            raise ConfigError(f"{who}(swa_epoch_start={swa_epoch_start!r}): {_EXPECTED_START}")
        rates = swa_lrs if isinstance(swa_lrs, list) else [swa_lrs]
        if not rates or not all(_is_number(rate) and rate > 0 for rate in rates):
            expected = "expected a positive number, or one for each parameter group"
            raise ConfigError(f"{who}(swa_lrs={swa_lrs!r}): {expected}")
        if annealing_strategy not in ("cos", "linear"):
            raise ConfigError(f"{who}(annealing_strategy={annealing_strategy!r}): expected 'cos' or 'linear'")
        if not isinstance(annealing_epochs, int) or annealing_epochs < 0:
            raise ConfigError(f"{who}(annealing_epochs={annealing_epochs!r}): expected a count of at least 0")
        if avg_fn is not None and not callable(avg_fn):
            raise ConfigError(f"{who}(avg_fn={avg_fn!r}): expected a function (average, weights, num_averaged)")
        if device is not None and not isinstance(device, torch.device | str):
            raise ConfigError(f"{who}(device={device!r}): expected a torch.device, its name, or None")
        self._swa_lrs, self._swa_epoch_start = swa_lrs, swa_epoch_start
        self._annealing_epochs, self._annealing_strategy = annealing_epochs, annealing_strategy
        self._avg_fn: AvgFn = avg_fn or self.avg_fn
        self._device = device
        self.momenta: dict[_BatchNorm, float | None] = {}  # of batch norms that gather statistics anew
        self._begin()

    def _begin(self) -> None:
        """Nothing has been averaged yet."""
        self.n_averaged: Tensor | None = None
        self._start, self._max_epochs = 1, -1
        self._average_model: LightModule | None = None
        self._swa_scheduler: SWALR | None = None
        self._replaced: LRSchedulerConfig | None = None  # the module's own
        self._scheduler_state: dict[str, Any] | None = None  # of a copy, which has no optimizer
        self._latest_update_epoch = -1
        self._updates_statistics = False
        self._has_raised_epochs = False
        self._loaded: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy has no optimizer, whose scheduler it would be
        state = {"_scheduler_state": self.state_dict()["scheduler_state"], "_swa_scheduler": None, "_replaced": None}
        return {**super().__getstate__(), **state}

    @property
    def swa_start(self) -> int:
        """The first epoch, from 0, at whose beginning the weights join the average."""
        return max(self._start - 1, 0)

    @property
    def swa_end(self) -> float:
        """The last one, from 0; inf where `max_epochs` is -1."""
        return math.inf if self._max_epochs == -1 else self._max_epochs - 1

    # ------------------------------------------------------------ hooks

    def setup(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Forget another Trainer's fit, and the optimizer of this one's last; a checkpoint brings its own state."""
        if begins(trainer, stage):
            self._begin()
        if stage == "fit":
            self._swa_scheduler = self._replaced = self._scheduler_state = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Look at what there is to average, and ask for one more epoch where there are batch norms."""
        who, max_epochs = "StochasticWeightAveraging", trainer.max_epochs
        self._max_epochs = -1 if max_epochs is None else max_epochs
        if len(trainer.optimizers) != 1:
            raise ConfigError(f"{who}: works with one optimizer, configure_optimizers gives {len(trainer.optimizers)}")
        if len(trainer.lr_scheduler_configs) > 1:
            count = len(trainer.lr_scheduler_configs)
            raise ConfigError(f"{who}: works with one scheduler at most, configure_optimizers gives {count}")
        if isinstance(self._swa_epoch_start, float):
            if self._max_epochs == -1:
                raise ConfigError(
                    f"{who}(swa_epoch_start={self._swa_epoch_start}): a share of max_epochs, which has no limit here; "
                    "give an epoch, a whole number from 1"
                )
            self._start = int(self._max_epochs * self._swa_epoch_start)
        else:
            self._start = self._swa_epoch_start
        if self._max_epochs == -1 or not self.pl_module_contains_batch_norm(pl_module):
            return
        if not pl_module.automatic_optimization:
            raise ConfigError(
                f"{who}: {type(pl_module).__name__} has batch norms, whose statistics take an epoch without updates, "
                "and optimizes by itself (automatic_optimization = False); average with WeightAveraging"
            )
        trainer.max_epochs, self._has_raised_epochs = self._max_epochs + 1, True

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Take up what the checkpoint had; where it was saved inside an epoch, that one has begun already."""
        state, self._loaded = self._loaded, None
        if state is None:
            return
        if state["n_averaged"]:
            self._make_average(pl_module)
            assert self._average_model is not None and self.n_averaged is not None
            self.n_averaged += state["n_averaged"]
            from lightkit.checkpoint import weights

            weights.load(self._average_model, state["average_model_state"], trainer.ckpt_path)
        if state["scheduler_state"] is not None:
            optimizer = trainer.optimizers[0]
            before = [{name: group[name] for name in _RATES if name in group} for group in optimizer.param_groups]
            scheduler = self._make_scheduler(optimizer)
            scheduler.load_state_dict(state["scheduler_state"])
            for group, rates in zip(optimizer.param_groups, before, strict=True):
                group.update(rates)
            self._replace_scheduler(trainer, scheduler)
        if self._updates_statistics:
            self._rest(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Add the weights to the average; after the last epoch, let batch norms see it."""
        epoch = trainer.current_epoch
        if self.swa_start <= epoch <= self.swa_end:
            if self._swa_scheduler is None:
                self._replace_scheduler(trainer, self._make_scheduler(trainer.optimizers[0]))
            self._make_average(pl_module)
            if epoch > self._latest_update_epoch:
                assert self._average_model is not None and self.n_averaged is not None
                self.update_parameters(self._average_model, pl_module, self.n_averaged, self._avg_fn)
                self._latest_update_epoch = epoch
        if self._has_raised_epochs and epoch == self.swa_end + 1 and self._average_model is not None:
            self.transfer_weights(self._average_model, pl_module)
            self._updates_statistics = True
            self._rest(trainer, pl_module)
            self.reset_batch_norm_and_save_state(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """The batch norms are done."""
        if self._updates_statistics:
            self._updates_statistics = False
            self._go_on(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Leave the average in the module, where the last epoch has ended and batch norms have not seen it already."""
        is_over = self._max_epochs == -1 or trainer.current_epoch - 1 == self.swa_end
        if is_over and self._average_model is not None:
            self.transfer_weights(self._average_model, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightModule, stage: str) -> None:
        """Leave Trainer and batch norms as they were, also after an error."""
        if stage != "fit":
            return
        if self._updates_statistics:
            self._go_on(trainer)
        if self._has_raised_epochs:
            self._has_raised_epochs, trainer.max_epochs = False, self._max_epochs

    # ------------------------------------------------------------ what it is made of

    @staticmethod
    def pl_module_contains_batch_norm(pl_module: Module) -> bool:
        """Whether there is a batch norm whose statistics belong to the weights."""
        return any(isinstance(module, _BatchNorm) for module in pl_module.modules())

    @staticmethod
    def avg_fn(averaged_model_parameter: Tensor, model_parameter: Tensor, num_averaged: Tensor) -> Tensor:
        """Return the equal mean with one more."""
        return averaged_model_parameter + (model_parameter - averaged_model_parameter) / (num_averaged + 1)

    @staticmethod
    def update_parameters(average_model: Module, model: Module, n_averaged: Tensor, avg_fn: AvgFn) -> None:
        """Add the weights of `model` to the average, and count them in `n_averaged`; the first ones are taken as is."""
        with torch.no_grad():
            for average, current in zip(average_model.parameters(), model.parameters(), strict=True):
                weights = current.detach().to(average.device)
                is_first = n_averaged == 0
                average.copy_(weights if is_first else avg_fn(average, weights, n_averaged.to(average.device)))
        n_averaged += 1

    @staticmethod
    def transfer_weights(src_pl_module: Module, dst_pl_module: Module) -> None:
        """Copy the parameters of one module into another."""
        with torch.no_grad():
            for source, target in zip(src_pl_module.parameters(), dst_pl_module.parameters(), strict=True):
                target.copy_(source)

    def reset_batch_norm_and_save_state(self, pl_module: Module) -> None:
        """Let batch norms forget their statistics, and gather the plain mean of those that come."""
        self._take_momenta(pl_module)
        for module in self.momenta:
            module.reset_running_stats()

    def reset_momenta(self) -> None:
        """Give batch norms the momentum that they had."""
        for module, momentum in self.momenta.items():
            module.momentum = momentum
        self.momenta = {}

    def _take_momenta(self, pl_module: Module) -> None:
        norms = [module for module in pl_module.modules() if isinstance(module, _BatchNorm)]
        self.momenta = self.momenta or {m: m.momentum for m in norms if m.track_running_stats}
        for module in self.momenta:
            module.momentum = None

    def _rest(self, trainer: Trainer, pl_module: LightModule) -> None:
        """No weight changes until the epoch ends."""
        trainer.takes_steps = False
        self._take_momenta(pl_module)

    def _go_on(self, trainer: Trainer) -> None:
        trainer.takes_steps = True
        self.reset_momenta()

    def _make_average(self, pl_module: LightModule) -> None:
        if self._average_model is None:
            device = pl_module.device if self._device is None else self._device
            self._average_model = copy.deepcopy(pl_module).to(device)
            self.n_averaged = torch.tensor(0, dtype=torch.long, device=pl_module.device)

    def _make_scheduler(self, optimizer: Optimizer) -> SWALR:
        groups, given = optimizer.param_groups, self._swa_lrs
        rates = given if isinstance(given, list) else [given] * len(groups)
        if len(rates) != len(groups):
            raise ConfigError(
                f"StochasticWeightAveraging(swa_lrs={given!r}): {len(rates)} learning rates, the optimizer has "
                f"{len(groups)} parameter groups"
            )
        for rate, group in zip(rates, groups, strict=True):
            group["initial_lr"] = rate
        # with batch norms Lightning's max_epochs is one more by now; both are past the end of the annealing's count
        last_epoch = self._max_epochs + self._has_raised_epochs if self._annealing_strategy == "cos" else -1
        swa_lr = cast(float, rates)  # torch takes a list, and does not say so
        return SWALR(optimizer, swa_lr, self._annealing_epochs, self._annealing_strategy, last_epoch)

    def _replace_scheduler(self, trainer: Trainer, scheduler: SWALR) -> None:
        self._swa_scheduler, configs = scheduler, trainer.lr_scheduler_configs
        self._replaced = configs[0] if configs else None
        if self._replaced is not None:
            name, epoch = type(self._replaced.scheduler).__name__, trainer.current_epoch
            trainer.print(f"StochasticWeightAveraging: SWALR stands in for {name} from epoch {epoch} on")
        configs[:] = [LRSchedulerConfig(scheduler)]

    # ------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightModule, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the scheduler that configure_optimizers makes: SWALR's is this callback's own."""
        if self._swa_scheduler is not None:
            own = self._replaced
            checkpoint["lr_schedulers"] = [] if own is None else [own.scheduler.state_dict()]

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and where it stands."""
        average, scheduler = self._average_model, self._swa_scheduler
        return {
            "n_averaged": 0 if self.n_averaged is None else int(self.n_averaged),
            "latest_update_epoch": self._latest_update_epoch,
            "scheduler_state": self._scheduler_state if scheduler is None else scheduler.state_dict(),
            "average_model_state": None if average is None else average.state_dict(),
            "updates_statistics": self._updates_statistics,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, when the training starts; StateError for what is no state of this callback."""
        from lightkit.schema import ANYTHING, TRUTH, WHOLE, DictOf, Record, optional

        kept = dict.fromkeys(("scheduler_state", "average_model_state"), optional(DictOf(ANYTHING)))
        needed = {"n_averaged": WHOLE, "latest_update_epoch": WHOLE, **kept}
        Record(needed, {"updates_statistics": TRUTH}).check(state_dict)
        self._loaded = state_dict
        self._latest_update_epoch = state_dict["latest_update_epoch"]
        self._updates_statistics = state_dict.get("updates_statistics", False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_start(value: object) -> bool:
    if not _is_number(value):
        return False
    return 0 <= value <= 1 if isinstance(value, float) else cast(int, value) >= 1
