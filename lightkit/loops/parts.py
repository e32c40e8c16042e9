"""What takes part in a training step: found once an epoch, then frozen. Nobody is an empty list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lightkit.devices.precision import Precision
from lightkit.hooks import accepts_positional, method_of, overrides
from lightkit.loops.schedules import Schedules
from lightkit.loops.steps import choose_step
from lightkit.module import LightModule
from lightkit.optimizers import gradient_freer, stepper

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from lightkit.contracts import HookFn, Step
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun


@dataclass(frozen=True, slots=True)
class StepParts:
    """The parts of a step. A profiler that is on has made each of them a section."""

    module: LightModule
    prepare: Callable[[object, int], object] | None  # transfer hooks; None on the CPU where nobody has any
    training_step: Callable[..., object]  # (batch, batch_idx), in the precision of the run
    on_batch_start: list[HookFn]
    on_batch_end: list[HookFn]
    save_on_batch_end: list[HookFn]  # of callbacks that save, which come last
    on_before_zero_grad: list[HookFn]
    on_before_backward: list[HookFn]
    on_after_backward: list[HookFn]
    on_before_step: list[HookFn]
    optimizer: Optimizer | None
    free_gradients: Callable[[], object] | None  # where no hook wants to see it; else `zero_grad`
    zero_grad: Callable[[int], object]
    scale: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor], object]  # of the scaled loss
    own_backward: Callable[..., object] | None  # the module's
    complete_gradients: Callable[[], object] | None  # None where nothing stands between backward and update
    update: Callable[[], object] | None  # one optimizer step; None without an optimizer
    schedules: Schedules
    write_step: Callable[[], object]
    accumulate: int
    clip: Callable[..., object] | None  # the module's; None where nothing is clipped
    checks_every_step: bool
    step: Step | None  # does all of it, where the loop's own lines do not fit


def bind(run: FitRun, loop: TrainingLoop, before: StepParts | None) -> StepParts:
    """Find out who takes part in the steps of an epoch; before: those of the last one."""
    module, precision, controls, timed = run.module, run.precision, run.controls, run.timing.timed
    hooks = run.dispatcher.bind
    own = run.step_of("training_step")
    takes_index = accepts_positional(module.training_step, 2)
    step: Callable[..., object] = own if takes_index else lambda batch, index: own(batch)
    optimizer = run.optimizer
    zero_grad_hooks, before_step = hooks("on_before_zero_grad", "CSM"), hooks("on_before_optimizer_step", "CSM")
    is_plain = not zero_grad_hooks and not overrides(module, LightModule, "optimizer_zero_grad")
    clips = controls.gradient_clip_val is not None or overrides(module, LightModule, "configure_gradient_clipping")
    completes = controls.accumulate_grad_batches > 1 or clips or bool(before_step)
    prepare = run.preparer()
    own_backward = module.backward if overrides(module, LightModule, "backward") else None
    return StepParts(
        module=module, optimizer=optimizer,
        prepare=None if prepare is None else timed("transfer", prepare),
        training_step=timed("forward", precision.wrap(step)),
        on_batch_start=hooks("on_train_batch_start"),
        on_batch_end=hooks("on_train_batch_end"), save_on_batch_end=hooks("on_train_batch_end", "S"),
        on_before_zero_grad=zero_grad_hooks, on_before_step=before_step,
        on_before_backward=hooks("on_before_backward", "CSM"), on_after_backward=hooks("on_after_backward", "CSM"),
        free_gradients=timed("zero_grad", gradient_freer(optimizer)) if is_plain and optimizer is not None else None,
        zero_grad=timed("zero_grad", loop.zero_grad),
        scale=precision.scale, backward=timed("backward", precision.backward),
        own_backward=None if own_backward is None else timed("backward", own_backward),
        complete_gradients=timed("clipping", loop.complete_gradients) if completes else None,
        update=None if optimizer is None else timed("optimizer", _update_of(optimizer, precision)),
        schedules=Schedules(run, loop), write_step=timed("logging", loop.write_step),
        accumulate=controls.accumulate_grad_batches, checks_every_step=controls.nan_check == "step",
        clip=method_of(module, LightModule, "configure_gradient_clipping") if clips else None,
        step=choose_step(run, loop, None if before is None else before.step),
    )  # fmt: skip


def _update_of(optimizer: Optimizer, precision: Precision) -> Callable[[], object]:
    is_plain = type(precision).step is Precision.step
    return stepper(optimizer) if is_plain else partial(precision.step, optimizer)
