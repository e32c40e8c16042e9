"""configure_optimizers() in all its forms -> one plain structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightkit.errors import ConfigError, HookError, did_you_mean

FORMS = (
    "an optimizer; a list of optimizers; two lists, optimizers and schedulers; a dict with 'optimizer' and "
    "'lr_scheduler'; a tuple of such dicts; or None"
)


@dataclass
class LRSchedulerConfig:
    """A scheduler and when it moves; the keys of Lightning's `lr_scheduler` dict.

    interval: "epoch" or "step" (optimizer steps). frequency: every how many of them. monitor: the metric that
    ReduceLROnPlateau waits for. strict: a missing metric is an error (else a warning). name: for LearningRateMonitor.
    """

    scheduler: LRScheduler
    name: str | None = None
    interval: str = "epoch"
    frequency: int = 1
    reduce_on_plateau: bool = False
    monitor: str | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        if self.interval not in ("epoch", "step"):
            raise ConfigError(
                f"lr_scheduler['interval']={self.interval!r}: expected 'epoch' or 'step'"
                f"{did_you_mean(str(self.interval), ('epoch', 'step'))}"
            )
        if isinstance(self.frequency, bool) or not isinstance(self.frequency, int) or self.frequency < 1:
            raise ConfigError(f"lr_scheduler['frequency']={self.frequency!r}: expected a count of at least 1")
        self.reduce_on_plateau = self.reduce_on_plateau or isinstance(self.scheduler, ReduceLROnPlateau)
        if not callable(getattr(self.scheduler, "step", None)):
            raise HookError(
                f"configure_optimizers: {type(self.scheduler).__name__} is not a scheduler: it has no step()"
            )


Parsed = tuple[list[Optimizer], list[LRSchedulerConfig]]


def parse_forms(returned: object, where: str, *, is_manual: bool) -> Parsed:
    """As `lightkit.optimizers.parse`, for what is not one optimizer.

    Accepts Lightning 2.6's forms: an optimizer, a list or tuple of optimizers, two lists (optimizers, schedulers),
    a dict, a list or tuple of dicts, None. Raises HookError for anything else, or a scheduler of an optimizer that was
    not returned, and says what arrived; ConfigError for a scheduler dict with unknown or wrong entries.
    """
    found: list[object] = []
    schedulers: list[LRSchedulerConfig] = []
    entries: Sequence[object]
    if isinstance(returned, Mapping):
        entries = [returned]
    elif _is_two_lists(returned):
        entries = returned[0]
        moving = returned[1] if isinstance(returned[1], Sequence) else [returned[1]]
        schedulers = [_scheduler(entry) for entry in moving]
    elif isinstance(returned, Sequence):
        entries = returned
    else:
        raise HookError(f"{where} returned {_named(returned)}; expected {FORMS}")
    for entry in entries:
        found.append(_optimizer_of(entry, where) if isinstance(entry, Mapping) else entry)
        if isinstance(entry, Mapping) and entry.get("lr_scheduler") is not None:
            schedulers.append(_scheduler(entry["lr_scheduler"], entry.get("monitor")))
    return _checked(found, schedulers, where, is_manual), schedulers


def _checked(found: list[object], schedulers: list[LRSchedulerConfig], where: str, is_manual: bool) -> list[Optimizer]:
    optimizers: list[Optimizer] = []
    for item in found:
        if not isinstance(item, Optimizer):
            raise HookError(f"{where} returned {_named(item)} where an optimizer belongs; expected {FORMS}")
        optimizers.append(item)
    if not optimizers:
        raise HookError(f"{where} returned no optimizer; expected {FORMS}")
    for config in schedulers:
        if config.reduce_on_plateau and config.monitor is None and not is_manual:
            raise ConfigError(
                "configure_optimizers: ReduceLROnPlateau needs the metric it waits for; return "
                "{'optimizer': ..., 'lr_scheduler': {'scheduler': ..., 'monitor': 'val_loss'}}"
            )
        if not any(getattr(config.scheduler, "optimizer", optimizer) is optimizer for optimizer in optimizers):
            name = type(config.scheduler).__name__
            raise HookError(f"{where}: {name} moves an optimizer that was not returned; return both, or neither")
    return optimizers


def _is_two_lists(returned: object) -> TypeGuard[Sequence[Any]]:
    return (
        isinstance(returned, Sequence)
        and len(returned) == 2
        and isinstance(returned[0], Sequence)
        and all(isinstance(item, Optimizer) for item in returned[0])
    )


def _named(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _optimizer_of(entry: Mapping[str, object], where: str) -> object:
    known = ("optimizer", "lr_scheduler", "frequency", "monitor")
    for key in entry:
        if key not in known:
            raise HookError(
                f"{where} returned a dict with key {key!r}; expected {', '.join(known)}{did_you_mean(str(key), known)}"
            )
    if "optimizer" not in entry:
        raise HookError(f"{where} returned a dict without 'optimizer'; expected {FORMS}")
    return entry["optimizer"]


def _scheduler(entry: Any, monitor: Any = None) -> LRSchedulerConfig:
    """monitor: the metric that stands beside the scheduler, for one that names none itself."""
    if isinstance(entry, LRSchedulerConfig):
        return entry
    if not isinstance(entry, Mapping):
        return LRSchedulerConfig(entry, monitor=monitor)
    known = [f.name for f in fields(LRSchedulerConfig)]
    for key in entry:
        if key not in known:
            raise ConfigError(
                f"lr_scheduler[{key!r}]: expected one of {', '.join(known)}{did_you_mean(str(key), known)}"
            )
    if "scheduler" not in entry:
        raise ConfigError("lr_scheduler: the dict has no 'scheduler'")
    return LRSchedulerConfig(**{"monitor": monitor, **entry})
