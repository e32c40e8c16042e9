"""The step with a closure: LBFGS, and modules that override `optimizer_step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import LBFGS

from lightkit.errors import ConfigError
from lightkit.hooks import overrides
from lightkit.module import LightModule
from lightkit.optimizers import SteppedOptimizer


def needs_closure(loop: Any) -> bool:
    """Whether forward and backward must run inside `optimizer.step`.

    Raises:
        ConfigError: LBFGS with what it cannot work with.
    """
    trainer = loop.trainer
    if isinstance(loop.optimizer, LBFGS):
        if trainer.accumulate_grad_batches > 1:
            raise ConfigError(
                f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}): LBFGS evaluates its batch "
                "several times a step; use 1"
            )
        if not loop.precision.supports_closure:
            raise ConfigError(
                f"Trainer(precision={loop.precision.name!r}): LBFGS does not work with a gradient scaler; use '32-true'"
            )
        return True
    return loop.optimizer is not None and overrides(loop.module, LightModule, "optimizer_step")


class _NothingLearnedError(Exception):
    """Leaves `optimizer.step` from inside its closure, before anything is updated."""


class ClosureStep:
    """`(batch, batch_idx, is_last) -> (output, has_stepped)`, as the middle of the hot loop."""

    def __init__(self, loop: Any):
        self.loop = loop
        self.is_due = False  # the window holds gradients to update with; not those that the last update left behind

    def __call__(self, batch: Any, index: int, is_last: bool) -> tuple[Any, bool]:
        """Run one micro-batch; at the window's end through the module's optimizer_step."""
        loop = self.loop
        output: Any = None
        is_skipped = False
        self.is_due = loop.micro > 0

        def closure() -> Tensor | None:
            nonlocal output, is_skipped
            output = loop.training_step(batch, index)
            is_skipped = not loop.learn(output, index)
            self.is_due = not is_skipped or (is_last and loop.micro > 0)
            # detached, as torch warns where a loss that carries its graph is read
            return None if is_skipped else loop.loss.detach()

        if loop.micro + 1 < loop.accumulate and not is_last:
            closure()
            loop.micro += not is_skipped
            return output, False
        before = loop.progress.global_step
        optimizer = SteppedOptimizer(loop.optimizer, self._update)
        loop.module.optimizer_step(loop.progress.epoch, index, optimizer, closure)
        if is_skipped and not is_last:
            return output, False  # the window waits for a batch that counts
        loop.micro = 0
        loop.window.open()  # also where the module's optimizer_step left the update out
        return output, loop.progress.global_step > before

    def finish(self) -> None:
        """The data ended inside a window: step with what it holds, which has been through backward already."""
        loop = self.loop
        self.is_due = True
        optimizer = SteppedOptimizer(loop.optimizer, self._update)
        loop.module.optimizer_step(loop.progress.epoch, loop.progress.batches_done - 1, optimizer, loop.loss.detach)
        loop.micro = 0
        loop.window.open()

    def _update(self, closure: Callable[[], Any] | None) -> Any:
        """What `optimizer.step(closure)` does for the user; nothing where training_step returned None."""
        loop = self.loop
        loss: Any = None
        if closure is not None and loop.precision.supports_closure:

            def complete() -> Any:
                loss = closure()
                if not self.is_due:
                    raise _NothingLearnedError
                loop.complete_gradients()
                return loss

            try:
                loss = loop.optimizer.step(complete)
            except _NothingLearnedError:
                return None
        else:
            loss = closure() if closure is not None else None
            if not self.is_due:
                return None
            loop.complete_gradients()
            loop.precision.step(loop.optimizer)
        loop.progress.global_step += 1
        return loss
