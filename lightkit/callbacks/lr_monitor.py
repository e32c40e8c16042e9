"""Log the learning rates."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from lightkit.callbacks.base import Callback
from lightkit.errors import ConfigError
from lightkit.intervals import Interval, parse_interval

if TYPE_CHECKING:
    from lightkit.module import LightModule
    from lightkit.trainer import Trainer

__all__ = ["LearningRateMonitor"]

KEPT = 10_000  # rates of each optimizer that stay in memory, at least; all of them are with the loggers


class LearningRateMonitor(Callback):
    """Writes the learning rate of every parameter group to the loggers, at the step that it is used for.

    The names are Lightning's: `lr-Adam`, `lr-Adam/pg1` with several parameter groups (or the group's own
    `name`), `lr-Adam-1` for the second Adam, and the `name` of a scheduler where it has one; `-momentum` and
    `-weight_decay` are appended for these. `lrs` holds the newest 10,000 rates (at most twice as many) by name,
    `last_momentum_values` and `last_weight_decay_values` the newest of each; None where none was logged.

    Args:
        logging_interval: "step": every `log_every_n_steps` steps; "epoch": when an epoch begins; "10step", "2epoch":
            as often; None: as the
            interval of each scheduler, both for an optimizer without one.
        log_momentum: also the momentum, or the first of Adam's betas; 0 where there is none.
        log_weight_decay: also the weight decay.
    """

    def __init__(
        self, logging_interval: str | None = None, log_momentum: bool = False, log_weight_decay: bool = False
    ) -> None:
        self._every: Interval | None = None  # where it is not as often as the Trainer logs, or each epoch
        if logging_interval not in (None, "step", "epoch"):
            given = f"LearningRateMonitor(logging_interval={logging_interval!r})"
            if not any(map(str.isdigit, str(logging_interval))):
                raise ConfigError(f"{given}: expected 'step', 'epoch', one of them with a count, '10step', or None")
            self._every = parse_interval(logging_interval, given)
            if self._every.unit not in ("step", "epoch"):
                raise ConfigError(f"{given}: expected 'step', 'epoch', '10step', '2epoch' or None.")
            logging_interval = self._every.unit
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self.last_momentum_values: dict[str, float | None] = {}
        self.last_weight_decay_values: dict[str, float | None] = {}
        self._step_logged = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Make sure that there is a logger, and that the names are unique."""
        if not trainer.loggers:
            raise ConfigError("LearningRateMonitor: no logger to write to; pass Trainer(logger=True).")
        groups = list(_named_groups(trainer))
        self.lrs = {name: [] for name, _, _ in groups}
        self.last_momentum_values = {f"{name}-momentum": None for name in self.lrs}
        self.last_weight_decay_values = {f"{name}-weight_decay": None for name in self.lrs}
        without = [name for name, group, _ in groups if not {"momentum", "betas"} & group.keys()]
        if self.log_momentum and without:
            told = f"LearningRateMonitor(log_momentum=True): {', '.join(without)} has no momentum; 0 is logged for it"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
        self._step_logged = -1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightModule, batch: Any, batch_idx: int) -> None:
        """Write the rates of the step that now begins, if it is one that is logged."""
        step = trainer.fit_loop.progress.log_count
        every = trainer.log_every_n_steps if self._every is None else self._every.number
        is_due = (step + 1) % every == 0 or trainer.should_stop
        if is_due and step != self._step_logged and self.logging_interval != "epoch":
            self._step_logged = step
            self._log(trainer, None if self.logging_interval == "step" else "step", step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightModule) -> None:
        """Write the rates that the epoch begins with."""
        if self.logging_interval != "step" and (self._every is None or trainer.current_epoch % self._every.number == 0):
            step = trainer.fit_loop.progress.log_count
            self._log(trainer, None if self.logging_interval == "epoch" else "epoch", step)

    def _log(self, trainer: Trainer, interval: str | None, step: int) -> None:
        """Write the rates of optimizers whose scheduler has this interval; None: of all."""
        stats: dict[str, float] = {}
        for name, group, own_interval in _named_groups(trainer):
            if interval is not None and own_interval not in (None, interval):
                continue
            stats[name] = float(group["lr"])
            seen = self.lrs.setdefault(name, [])
            seen.append(stats[name])
            if len(seen) >= 2 * KEPT:  # seldom, so that a step costs the same in a run of any length
                del seen[:-KEPT]
            if self.log_momentum:
                self._note(stats, self.last_momentum_values, f"{name}-momentum", _momentum_of(group))
            if self.log_weight_decay:
                self._note(stats, self.last_weight_decay_values, f"{name}-weight_decay", group.get("weight_decay", 0))
        if stats:
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in stats.items()})
            trainer._records.write(stats, step, None)

    def _note(self, stats: dict[str, float], last: dict[str, float | None], name: str, value: Any) -> None:
        stats[name] = last[name] = float(value)


def _momentum_of(group: Mapping[str, Any]) -> Any:
    return group["betas"][0] if "betas" in group else group.get("momentum", 0)


def _named_groups(trainer: Trainer) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Yield name, parameter group and the scheduler's interval (None without one), schedulers' first."""
    count: Counter[type[Optimizer]] = Counter()
    seen: list[Optimizer] = []
    scheduled = [(c.scheduler.optimizer, c.name, c.interval) for c in trainer.lr_scheduler_configs]
    for optimizer, given, interval in [*scheduled, *((o, None, None) for o in trainer.optimizers)]:
        if interval is None and any(optimizer is other for other in seen):
            continue
        seen.append(optimizer)
        kind = type(optimizer)
        count[kind] += given is None
        name = given if given is not None else f"lr-{kind.__name__}"
        if count[kind] > 1:
            name = f"{name}-{count[kind] - 1}"
        groups = optimizer.param_groups
        labels = [g.get("name", f"pg{i}" if len(groups) > 1 else None) for i, g in enumerate(groups, 1)]
        if len(set(labels)) < len(labels):
            repeated = sorted({str(label) for label in labels if labels.count(label) > 1})
            raise ConfigError(f"LearningRateMonitor: {name} has several parameter groups named {repeated}.")
        for label, group in zip(labels, groups, strict=True):
            yield (name if label is None else f"{name}/{label}"), group, interval
