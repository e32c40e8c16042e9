"""Manual optimization: a module with `automatic_optimization = False` calls backward and the optimizers itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from lightkit.errors import ConfigError, HookError
from lightkit.optimizers import SteppedOptimizer

_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def check_manual(trainer: Any, module: Any) -> None:
    """Raise ConfigError where the Trainer is asked to do what such a module does itself."""
    why = f"{type(module).__name__} optimizes by itself (automatic_optimization=False)"
    if trainer.gradient_clip_val is not None:
        raise ConfigError(
            f"Trainer(gradient_clip_val={trainer.gradient_clip_val!r}): {why}; leave it out and call "
            f"self.clip_gradients(optimizer, gradient_clip_val={trainer.gradient_clip_val!r}) before optimizer.step()"
        )
    if trainer.accumulate_grad_batches > 1:
        raise ConfigError(
            f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}): {why}; leave it out and call "
            f"optimizer.step() in every {trainer.accumulate_grad_batches}th training_step"
        )


class LightOptimizer(SteppedOptimizer):
    """What `self.optimizers()` gives: the optimizer, whose `step` also counts, scales and calls the hooks.

    `isinstance` says that it is what it wraps.
    """

    def __init__(self, optimizer: Optimizer, manual: ManualOptimization):
        super().__init__(optimizer, manual._update)
        self._manual = manual

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # schedulers and users' checks take it for an optimizer
        return type(self.optimizer)

    def __repr__(self) -> str:
        """Return the optimizer's own description."""
        return repr(self.optimizer)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Run the closure, if there is one, then update the weights; returns what the closure does."""
        return self._manual._update(self.optimizer, closure, **kwargs)  # looked up now: a profiler may wrap it

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Inside, only this optimizer's parameters get gradients. sync_grad: for several processes."""
        with self._manual.module.toggled_optimizer(self):
            yield


class ManualOptimization:
    """`(batch, batch_idx, is_last) -> (output, has_stepped)`, the middle of the hot loop; and what the step calls."""

    def __init__(self, trainer: Any):
        self.trainer, self.module = trainer, trainer.lightning_module
        hooks = [trainer.dispatcher.bind(name, "CSM") for name in _HOOKS]
        self.on_before_backward, self.on_after_backward, self.on_before_step = hooks
        self.optimizers = [LightOptimizer(optimizer, self) for optimizer in trainer.optimizers]
        self.scaler: Any = getattr(trainer.precision, "scaler", None)
        self._unscaled: set[int] = set()  # optimizers whose gradients have their true size already

    def __call__(self, batch: Any, index: int, is_last: bool) -> tuple[Any, bool]:
        """Run one training step; it has stepped where any optimizer has."""
        loop = self.trainer.fit_loop
        before = loop.progress.global_step
        output = loop.training_step(batch, index)
        if output is None:
            output = {}  # what on_train_batch_end gets, as in Lightning
        elif isinstance(output, Tensor):
            loop.loss = output.detach()
        elif not isinstance(output, Mapping):
            raise HookError(
                f"{type(self.module).__name__}.training_step returned a {type(output).__name__}; with manual "
                "optimization expected a tensor, a dict or None"
            )
        if loop.checks_every_step:
            loop.check_finite(index)
        return output, loop.progress.global_step > before

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """What `self.manual_backward` does: hooks, the loss scale, the module's `backward`."""
        self.trainer.fit_loop.loss = loss.detach()  # the last one is looked at for NaN when metrics are read
        for fn in self.on_before_backward:
            fn(loss)
        self.module.backward(self.trainer.precision.scale(loss), *args, **kwargs)
        for fn in self.on_after_backward:
            fn()

    def _update(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """What `optimizer.step()` does: the closure, hooks, the update; one more global step, as in Lightning."""
        if closure is not None and not callable(closure):
            raise ConfigError(f"optimizer.step(closure={closure!r}): expected a function")
        if self.scaler is not None:
            result = self._scaled_step(optimizer, closure, **kwargs)
        elif closure is None:
            self._call_before_step(optimizer)
            result = optimizer.step(**kwargs)
        else:

            def complete() -> Any:
                result = closure()
                self._call_before_step(optimizer)
                return result

            result = optimizer.step(complete, **kwargs)
        self.trainer.fit_loop.progress.global_step += 1
        return result

    def _call_before_step(self, optimizer: Optimizer) -> None:
        for fn in self.on_before_step:
            fn(optimizer)

    # ------------------------------------------------------------ the gradient scaler

    def unscale(self, optimizer: Any) -> None:
        """Bring the gradients to their true size, once before they are clipped or stepped with."""
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if self.scaler is not None and id(optimizer) not in self._unscaled:
            self.scaler.unscale_(optimizer)
            self._unscaled.add(id(optimizer))

    def _scaled_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None, **kwargs: Any) -> Any:
        if isinstance(optimizer, LBFGS):
            name = self.trainer.precision.name
            raise ConfigError(
                f"Trainer(precision={name!r}): LBFGS does not work with a gradient scaler; use '32-true'"
            )
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.unscale(optimizer)
        self._call_before_step(optimizer)
        before = self.scaler.get_scale()
        self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        self._rescale_others(optimizer, before, self.scaler.get_scale())
        return result

    def _rescale_others(self, stepped: Optimizer, before: float, after: float) -> None:
        """Bring gradients that wait for another optimizer's step to the new scale; powers of 2, so nothing is lost.

        The scaler forgets at an update which gradients it has unscaled.
        """
        unscaled, self._unscaled = self._unscaled, set()
        own = {id(p) for group in stepped.param_groups for p in group["params"]}
        for other in self.trainer.optimizers:
            factor = after if id(other) in unscaled else after / before
            if other is stepped or factor == 1.0:
                continue
            for group in other.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None and id(parameter) not in own:
                        parameter.grad.mul_(factor)
