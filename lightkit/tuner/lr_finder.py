"""A range test of learning rates (Smith 2017, "Cyclical learning rates for training neural networks").

The rate grows from step to step; where the loss falls fastest, a training may well begin.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError, require
from lightkit.optimizer_forms import LRSchedulerConfig
from lightkit.optimizers import Optimization
from lightkit.tuner import attributes
from lightkit.tuner.as_before import as_before, leaves
from lightkit.tuner.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from torch import Tensor

    from lightkit.module import LightModule
    from lightkit.run.fit import FitRun
    from lightkit.trainer import Trainer

MODES = ("exponential", "linear")
SMOOTHING = 0.98  # what is kept of the running mean of the loss, a step
_log = logging.getLogger(__name__)


class LRFinder:
    """What a range test found: `results` has the rates, `lr`, and the smoothed loss after a step with each, `loss`."""

    def __init__(self, mode: str, lr_min: float, lr_max: float, num_training: int):
        self.mode, self.lr_min, self.lr_max, self.num_training = mode, lr_min, lr_max, num_training
        self.results: dict[str, list[float]] = {}

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The rate at which the loss falls fastest; None, with a warning, where fewer than two finite losses are left.

        skip_begin, skip_end: steps to leave out at either end.
        """
        found = self._steepest(skip_begin, skip_end)
        if found is None:
            warnings.warn(
                f"lr_find: no suggestion, {len(self.results['loss'])} steps were taken, and of those between the first "
                f"{skip_begin} and the last {skip_end} fewer than two have a finite loss; give more: num_training=..., "
                "Trainer(max_epochs=...), or a larger early_stop_threshold",
                stacklevel=2,
            )
            return None
        return self.results["lr"][found]

    def _steepest(self, skip_begin: int, skip_end: int) -> int | None:
        all_losses = self.results["loss"]
        places = [i for i in range(skip_begin, len(all_losses) - skip_end) if math.isfinite(all_losses[i])]
        if len(places) < 2:
            return None
        losses = torch.tensor([all_losses[i] for i in places])
        rates = torch.tensor([self.results["lr"][i] for i in places])
        return places[int(torch.argmin(torch.gradient(losses, spacing=[rates])[0]))]

    def plot(self, suggest: bool = False, show: bool = False, ax: Axes | None = None) -> Figure | SubFigure | None:
        """Draw loss over rate; -> the figure. suggest: with a point at the suggestion. ax: draw there.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        pyplot = require("matplotlib.pyplot", "vision", needed_by="plot() of lr_find")
        if ax is None:
            _, ax = pyplot.subplots()
        rates, losses = self.results["lr"], self.results["loss"]
        ax.plot(rates, losses)
        if self.mode == "exponential":
            ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        if suggest and (rate := self.suggestion()) is not None:
            found = rates.index(rate)
            ax.plot(rate, losses[found], markersize=10, marker="o", color="red")
        if show:
            pyplot.show()
        return ax.figure


class RangeLR(LRScheduler):
    """Brings the rate of every group from where it is to `end` in `count` steps."""

    def __init__(self, optimizer: Optimizer, end: float, count: int, mode: str):
        self.end, self.count, self.mode = end, count, mode
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the next step."""
        if self.last_epoch == 0:
            return list(self.base_lrs)
        share = (self.last_epoch + 1) / self.count
        if self.mode == "linear":
            return [base + share * (self.end - base) for base in self.base_lrs]
        return [base * (self.end / base) ** share for base in self.base_lrs]


class Recorder(Callback):
    """Keeps rate and smoothed loss of each step, and ends the trial where the loss has grown too much."""

    def __init__(self, early_stop_threshold: float | None):
        self.threshold = early_stop_threshold
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._rate = self._mean = self._best = 0.0
        self._taken = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Steps are counted from here."""
        self._taken = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightModule, batch: object, batch_idx: int) -> None:
        """The rate that the step is taken with."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """The loss of the step, where one was taken."""
        if trainer.global_step == self._taken:
            return  # inside an accumulation window, or the step was left out
        self._taken = trainer.global_step
        loss = outputs["loss"] if isinstance(outputs, Mapping) and "loss" in outputs else outputs
        value = float(loss) if isinstance(loss, torch.Tensor) else math.nan
        step = len(self.losses) + 1
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * value
        smoothed = self._mean / (1 - SMOOTHING ** (step + 1))
        if self.threshold is not None and step > 1 and smoothed > self.threshold * self._best:
            trainer.should_stop = True
        if smoothed < self._best or step == 1:
            self._best = smoothed
        self.rates.append(self._rate)
        self.losses.append(smoothed)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked for; see `Tuner.lr_find`. who: begins the messages.

    Raises:
        ConfigError: a wrong value.
    """

    who: str = "lr_find"
    min_lr: float = 1e-8
    max_lr: float = 1
    num_training: int = 100
    mode: str = "exponential"
    early_stop_threshold: float | None = 4.0
    update_attr: bool = True
    attr_name: str = ""
    count_name: str = "num_training"  # what the count of steps is called there

    def __post_init__(self) -> None:
        if not 0 < self.min_lr < self.max_lr:
            raise ConfigError(
                f"{self.who}(min_lr={self.min_lr!r}, max_lr={self.max_lr!r}): expected 0 < min_lr < max_lr"
            )
        attributes.counted(self.who, self.count_name, self.num_training)
        attributes.chosen(self.who, "mode", self.mode, MODES)

    def attribute(self, run: FitRun) -> attributes.Attribute | None:
        """What is to be set to the suggestion; None: nothing. Raises ConfigError where there is none."""
        if not self.update_attr:
            return None
        names = ("lr", "learning_rate")
        return attributes.find(self.who, names, self.attr_name, run.module, run.datamodule, "attr_name")

    def trial(self, run: FitRun) -> LRFinder:
        """Train inside of a fit that is set up; module and optimizer are left as the trial has made them.

        Raises:
            ConfigError: several optimizers, none, or manual optimization.
        """
        name, found = type(run.module).__name__, run.optimization.optimizers
        if not run.module.automatic_optimization:
            raise ConfigError(
                f"{self.who}: {name} optimizes by itself (automatic_optimization=False), so no rate can be set for it"
            )
        if len(found) != 1:
            raise ConfigError(
                f"{self.who}: {name}.configure_optimizers returned {len(found) or 'no'} optimizers; a rate is "
                "looked for with one"
            )
        finder = LRFinder(self.mode.lower(), self.min_lr, self.max_lr, self.num_training)
        recorder = Recorder(self.early_stop_threshold)
        for group in found[0].param_groups:
            group["lr"] = group["initial_lr"] = self.min_lr
        rising = RangeLR(found[0], self.max_lr, self.num_training, finder.mode)
        last = run.position.counters.global_step + self.num_training
        trial = Trial(run.trainer, callbacks=[recorder], max_steps=last, limit_val_batches=0)
        trial.fit_steps(run, Optimization(found, [LRSchedulerConfig(rising, interval="step")]))
        finder.results.update(lr=recorder.rates, loss=recorder.losses)
        return finder

    def run(self, run: FitRun) -> tuple[LRFinder, float | None]:
        """Search inside of a fit, which goes on with the rate; -> what was found, and the rate that was set."""
        attribute, loaders = self.attribute(run), leaves(run.given)
        with as_before(run.module, run.datamodule, run.optimization.optimizers, run.precision, loaders):
            finder = self.trial(run)
        if (rate := self.take(attribute, finder)) is not None:
            _go_on_with(run, rate)
        return finder, rate

    def take(self, attribute: attributes.Attribute | None, finder: LRFinder) -> float | None:
        """Set the attribute to what is suggested; -> that."""
        if attribute is None or (rate := finder.suggestion()) is None:
            return None
        attribute.set(rate)
        _log.info("%s: %s is set to %g", self.who, attribute.name, rate)
        return rate


def _go_on_with(run: FitRun, rate: float) -> None:
    """The fit takes this rate: one that has taken no step asks for its optimizers anew, so that schedulers know it."""
    if run.position.counters.global_step == 0:
        before = _base_rates(run)
        run.configure_optimizers()
        if _base_rates(run) != before:
            return  # configure_optimizers reads the attribute
    for optimizer in run.optimization.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _base_rates(run: FitRun) -> list[float]:
    """Of every group, before a scheduler had its say."""
    groups = [group for optimizer in run.optimization.optimizers for group in optimizer.param_groups]
    return [float(group.get("initial_lr", group["lr"])) for group in groups]
