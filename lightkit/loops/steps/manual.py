"""Manual optimization: a module with `automatic_optimization = False` calls backward and the optimizers itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from lightkit.contracts import Stepped
from lightkit.errors import ConfigError, HookError
from lightkit.hooks import method_of
from lightkit.module import LightModule
from lightkit.stepped_optimizer import SteppedOptimizer

if TYPE_CHECKING:
    from lightkit.loops.training import TrainingLoop
    from lightkit.run.fit import FitRun
    from lightkit.settings import Controls


def check_manual(controls: Controls, module: LightModule) -> None:
    """Raise ConfigError where the Trainer is asked to do what such a module does itself."""
    why = f"{type(module).__name__} optimizes by itself (automatic_optimization=False)"
    clip, accumulate = controls.gradient_clip_val, controls.accumulate_grad_batches
    if clip is not None:
        raise ConfigError(
            f"Trainer(gradient_clip_val={clip!r}): {why}; leave it out and call "
            f"self.clip_gradients(optimizer, gradient_clip_val={clip!r}) before optimizer.step()"
        )
    if accumulate > 1:
        raise ConfigError(
            f"Trainer(accumulate_grad_batches={accumulate}): {why}; leave it out and call "
            f"optimizer.step() in every {accumulate}th training_step"
        )


class LightOptimizer(SteppedOptimizer):
    """What `self.optimizers()` gives: the optimizer, whose `step` also counts, scales and calls the hooks.

    `isinstance` says that it is what it wraps.
    """

    def __init__(self, optimizer: Optimizer, manual: ManualOptimization):
        super().__init__(optimizer, partial(manual.update, optimizer))
        self._manual = manual

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # schedulers and users' checks take it for an optimizer
        return type(self.optimizer)

    def __repr__(self) -> str:
        return repr(self.optimizer)

    def step(self, closure: Callable[[], object] | None = None, **kwargs: object) -> Any:
        """Run the closure, if there is one, then update the weights; returns what the closure does."""
        return self._update(closure, **kwargs)

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Inside, only this optimizer's parameters get gradients. sync_grad: for several processes."""
        with self._manual.module.toggled_optimizer(self):
            yield


class ManualOptimization:
    """A Step, the module's own; and what it calls: `backward`, and `update` where it steps an optimizer."""

    update: Callable[..., object]

    def __init__(self, run: FitRun, loop: TrainingLoop, optimizers: list[Optimizer]):
        self.module, self.precision, self.loop = run.module, run.precision, loop
        self.on_before_backward = run.dispatcher.bind("on_before_backward", "CSM")
        self.on_after_backward = run.dispatcher.bind("on_after_backward", "CSM")
        self.on_before_step = run.dispatcher.bind("on_before_optimizer_step", "CSM")
        self.backward = run.timing.timed("backward", self._backward)
        self.update = run.timing.timed("optimizer", self._update)
        self.bare = optimizers
        self.optimizers: list[Optimizer] = [LightOptimizer(optimizer, self) for optimizer in optimizers]
        self.scaler = self.precision.scaler
        self._unscaled: set[int] = set()  # optimizers whose gradients have their true size already
        self.waiting: set[int] = set()  # optimizers whose gradients may wait for a later batch's step

    def __call__(self, batch: object, index: int, is_last: bool) -> Stepped:
        """Run one training step. What asks whether it has stepped are the loggers, which count batches here."""
        loop = self.loop
        self.waiting.update(map(id, self.bare))  # until they step: `loss.backward()` passes `backward` by
        output = loop.parts.training_step(batch, index)
        if output is None:
            output = {}  # what on_train_batch_end gets, as in Lightning
        elif isinstance(output, Tensor):
            loop.keep_loss(output.detach())
        elif not isinstance(output, Mapping):
            raise HookError(
                f"{type(self.module).__name__}.training_step returned a {type(output).__name__}; with manual "
                "optimization expected a tensor, a dict or None"
            )
        if loop.parts.checks_every_step:
            loop.check_finite(index)
        is_logged = loop.progress.total_batches + 1 >= loop.next_log
        if is_logged:
            loop.log_now()
        return Stepped(output, is_logged)

    def finish(self) -> None:
        """As Step.finish; the loop opens no window here."""

    def release(self) -> None:
        """As Step.release; the optimizers are the run's."""

    def _backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """What `self.manual_backward` does: hooks, the loss scale, the module's `backward`."""
        self.loop.keep_loss(loss.detach())  # the last one is looked at for NaN when metrics are read
        self.waiting.update(id(optimizer) for optimizer in self.bare if _takes_gradients(optimizer))
        for fn in self.on_before_backward:
            fn(loss)
        method_of(self.module, LightModule, "backward")(self.precision.scale(loss), *args, **kwargs)
        for fn in self.on_after_backward:
            fn()

    def _update(self, optimizer: Optimizer, closure: Callable[[], object] | None = None, **kwargs: object) -> object:
        """What `optimizer.step()` does: the closure, hooks, the update; one more global step, as in Lightning."""
        if closure is not None and not callable(closure):
            raise ConfigError(f"optimizer.step(closure={closure!r}): expected a function")
        step: Callable[..., object] = optimizer.step
        if self.scaler is not None:
            result = self._scaled_step(self.scaler, optimizer, closure, **kwargs)
        elif closure is None:
            self._call_before_step(optimizer)
            result = step(**kwargs)
        else:

            def complete() -> object:
                result = closure()
                self._call_before_step(optimizer)
                return result

            result = step(complete, **kwargs)
        self.waiting.discard(id(optimizer))
        self.loop.count_update()
        return result

    def _call_before_step(self, optimizer: Optimizer) -> None:
        for fn in self.on_before_step:
            fn(optimizer)

    # ------------------------------------------------------------ the gradient scaler

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring the gradients to their true size, once before they are clipped or stepped with."""
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if self.scaler is not None and id(optimizer) not in self._unscaled:
            self.scaler.unscale_(optimizer)
            self._unscaled.add(id(optimizer))

    def _scaled_step(
        self, scaler: torch.amp.GradScaler, optimizer: Optimizer, closure: Callable[[], object] | None, **kwargs: object
    ) -> object:
        if isinstance(optimizer, LBFGS):
            name = self.precision.name
            raise ConfigError(f"Trainer(precision={name!r}): LBFGS does not work with a gradient scaler; use '32-true'")
        result: object = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.unscale(optimizer)
        self._call_before_step(optimizer)
        before = scaler.get_scale()
        scaler.step(optimizer, **kwargs)
        scaler.update()
        self._rescale_others(optimizer, before, scaler.get_scale())
        return result

    def _rescale_others(self, stepped: Optimizer, before: float, after: float) -> None:
        """Bring gradients that wait for another optimizer's step to the new scale; powers of 2, so nothing is lost.

        The scaler forgets at an update which gradients it has unscaled.
        """
        unscaled, self._unscaled = self._unscaled, set()
        own = {id(p) for group in stepped.param_groups for p in group["params"]}
        for other in self.bare:
            factor = after if id(other) in unscaled else after / before
            if other is stepped or factor == 1.0:
                continue
            for group in other.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None and id(parameter) not in own:
                        parameter.grad.mul_(factor)


def _takes_gradients(optimizer: Optimizer) -> bool:
    """Whether a backward reaches its parameters; not those of one that is toggled off."""
    return any(p.requires_grad for group in optimizer.param_groups for p in group["params"])
