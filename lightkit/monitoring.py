"""How callbacks read a monitored metric, and ask when it is renewed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lightkit.trainer import Trainer


def missing_metric_message(name: str, available: Iterable[str], who: str) -> str:
    """Return the sentence that says a monitored metric was never logged, which `available` ones were, and the nearest.

    who: what monitors it, as the user wrote it: `"EarlyStopping(monitor='val_loss')"`.
    """
    names = sorted(set(available))
    logged = "logged so far: " + ", ".join(repr(n) for n in names) if names else "nothing was logged so far"
    hint = did_you_mean(name, names) or "."
    return (
        f"{who}: no metric {name!r} was logged; {logged}{hint} "
        f"Write self.log({name!r}, value) in the module, or monitor a name that is logged."
    )


def monitored_value(metrics: Mapping[str, Tensor], name: str, who: str) -> Tensor:
    """Return a copy of the monitored metric's value, 0-dim on the CPU.

    Raises:
        ConfigError: `name` is not in `metrics`; lists what is, and the nearest name.
    """
    value = metrics.get(name)
    if value is None:
        raise ConfigError(missing_metric_message(name, metrics, who))
    return torch.as_tensor(value).detach().cpu().clone().squeeze()  # a user may have put a number there


def validates_once_an_epoch(trainer: Trainer) -> bool:
    """Whether validation runs once, at the end of every epoch: what it logs is there when the epoch ends."""
    interval = trainer.val_check_interval
    is_whole_epoch = interval is None or (isinstance(interval, float) and interval == 1.0)  # 1: every batch
    return is_whole_epoch and trainer.check_val_every_n_epoch == 1


def begins(trainer: Trainer, stage: str) -> bool:
    """Whether, in `setup`, a fit begins that goes on from none before: what was seen so far is another Trainer's."""
    return stage == "fit" and trainer.global_step == 0 and trainer.current_epoch == 0
