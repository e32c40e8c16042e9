"""What configure_optimizers() asked for; clipping, stepping, scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import profiler
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer
from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from lightkit.optimizer_forms import LRSchedulerConfig


@dataclass(frozen=True)
class Optimization:
    """What configure_optimizers asked for."""

    optimizers: list[Optimizer]
    schedulers: list[LRSchedulerConfig]


def parse(returned: object, where: str, *, is_manual: bool = False) -> Optimization:
    """Bring what configure_optimizers returned into one structure.

    is_manual: the module moves its schedulers itself, so none waits for a metric. Raises what `parse_forms` raises.
    """
    if returned is None or isinstance(returned, Optimizer):
        return Optimization([] if returned is None else [returned], [])
    from lightkit.optimizer_forms import parse_forms

    return Optimization(*parse_forms(returned, where, is_manual=is_manual))


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
