"""configure_optimizers() in all its forms -> one plain structure; clipping, stepping, scheduling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer
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


@dataclass(frozen=True)
class Optimization:
    """What configure_optimizers asked for."""

    optimizers: list[Optimizer]
    schedulers: list[LRSchedulerConfig]


def parse(returned: object, where: str, *, is_manual: bool = False) -> Optimization:
    """Bring what configure_optimizers returned into one structure.

    is_manual: the module moves its schedulers itself, so none waits for a metric.

    Accepts Lightning 2.6's forms: an optimizer, a list or tuple of optimizers, two lists (optimizers, schedulers),
    a dict, a list or tuple of dicts, None. Raises HookError for anything else, or a scheduler of an optimizer that was
    not returned, and says what arrived; ConfigError for a scheduler dict with unknown or wrong entries.
    """
    found: list[object] = []
    schedulers: list[LRSchedulerConfig] = []
    if returned is None:
        return Optimization([], [])
    entries: Sequence[object]
    if isinstance(returned, (Optimizer, Mapping)):
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
    return Optimization(_checked(found, schedulers, where, is_manual), schedulers)


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


def clip_gradients(optimizer: Optimizer, clip_val: float | None, algorithm: str = "norm") -> None:
    """Clip the gradients of the optimizer's parameters in place, by their common norm or each value; None: nothing."""
    if clip_val is None or clip_val <= 0:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if algorithm == "value":
        torch.nn.utils.clip_grad_value_(parameters, clip_value=clip_val)
    else:
        torch.nn.utils.clip_grad_norm_(parameters, clip_val)


def gradient_freer(optimizer: Optimizer) -> Callable[[], None]:
    """`optimizer.zero_grad`, or where that is torch's own, its work without its overhead (7 microseconds less)."""
    if type(optimizer).zero_grad is not Optimizer.zero_grad or "zero_grad" in vars(optimizer):
        return optimizer.zero_grad

    def free() -> None:
        for group in optimizer.param_groups:  # anew each time: groups may be added during training
            for parameter in group["params"]:
                parameter.grad = None

    return free


_WRAPPER_CODE = Optimizer.profile_hook_step(lambda optimizer: None).__code__


def stepper(optimizer: Optimizer) -> Callable[[], Any]:
    """`optimizer.step`, without what torch wraps around it for step hooks and profilers while there are none.

    The wrapper costs 9 microseconds. A step that the class or a scheduler has replaced is called as it is.
    """
    wrapped = type(optimizer).step
    plain: Callable[..., Any] | None = getattr(wrapped, "__wrapped__", None)
    places = (
        (torch_optimizer, "_global_optimizer_pre_hooks"), (torch_optimizer, "_global_optimizer_post_hooks"),
        (optimizer, "_optimizer_step_pre_hooks"), (optimizer, "_optimizer_step_post_hooks"),
    )  # fmt: skip
    hooks = [getattr(owner, name, None) for owner, name in places]
    # told by its code: functools.wraps(Adam.step) gives a step of the user's all the marks of torch's wrapper
    is_torchs = getattr(wrapped, "__code__", None) is _WRAPPER_CODE and hasattr(profiler, "_is_profiler_enabled")
    if plain is None or not is_torchs or None in hooks or "step" in vars(optimizer):
        return optimizer.step

    def step() -> Any:
        if any(hooks) or profiler._is_profiler_enabled:
            return optimizer.step()
        return plain(optimizer)

    return step


def scale_gradients(optimizers: Sequence[Optimizer], factor: float | Tensor) -> None:
    """Multiply all gradients in place; used where an accumulation window was short or of unequal batches."""
    grads = [p.grad for o in optimizers for g in o.param_groups for p in g["params"] if p.grad is not None]
    for grad in grads:
        if grad.is_sparse:
            grad.mul_(factor)
    if dense := [grad for grad in grads if not grad.is_sparse]:
        torch._foreach_mul_(dense, factor)


def step_schedulers(
    configs: Sequence[LRSchedulerConfig], interval: str, count: int, step: Callable[[LRScheduler, Any], object],
    metric_of: Callable[[LRSchedulerConfig], object], wait_for_metric: bool | None = None,
) -> None:  # fmt: skip
    """Move on the schedulers of an interval whose turn it is.

    count: how many intervals are complete. step: the module's lr_scheduler_step. metric_of: the monitored value, or
    None to leave the scheduler where it is. wait_for_metric: only the plateau schedulers, only the others, or all.
    """
    for config in configs:
        if config.interval != interval or count % config.frequency != 0:
            continue
        if wait_for_metric is not None and config.reduce_on_plateau != wait_for_metric:
            continue
        if config.monitor is None or not config.reduce_on_plateau:
            step(config.scheduler, None)
        elif (metric := metric_of(config)) is not None:
            step(config.scheduler, metric)


if TYPE_CHECKING:
    _Delegating = Optimizer  # for type checkers: whatever is not defined below is the optimizer's own
else:
    _Delegating = object


class SteppedOptimizer(_Delegating):
    """The optimizer that an overridden `optimizer_step` gets: its `step` also scales, clips and calls the hooks.

    Everything else is the optimizer's own.
    """

    def __init__(self, optimizer: Optimizer, update: Callable[..., Any]):
        self.optimizer = optimizer
        self._update = update

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Run the closure (forward, backward), then update the weights; returns the closure's loss."""
        return self._update(closure)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of a copy in the making, which has no optimizer yet
            raise AttributeError(name)
        return getattr(self.optimizer, name)
